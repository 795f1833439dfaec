"""Playout: what goes to the carrier at once, what waits, and what a clear takes away. μ-law at 8 kHz: 8 bytes a ms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.format import AudioFormat
from gateway.media.playout import Playout, PlayoutLimits
from serializers.base import Wire

MULAW = AudioFormat("mulaw", 8000)
L16 = AudioFormat("l16", 8000)
EXOTEL = Wire(chunk=320, chunk_min=3200)
FRAME = 160
LIMITS = PlayoutLimits(lead=0.2, capacity=2.0, pad_after=0.06)


class Carrier:
    """Keeps what it is sent, in order: audio as bytes, marks as names."""

    def __init__(self, audio=MULAW, wire=None, limits=LIMITS) -> None:
        self.sent: list[bytes | str] = []
        self.playout = Playout(
            audio,
            wire or Wire(),
            limits,
            send_audio=lambda payload, _now: self.sent.append(payload),
            send_mark=lambda name: self.sent.append(name),
        )

    @property
    def audio(self) -> bytes:
        return b"".join(item for item in self.sent if isinstance(item, bytes))


def speech(ms: int) -> bytes:
    return bytes((i % 200) + 1 for i in range(8 * ms))


def test_a_real_time_bots_frame_goes_at_once():
    carrier = Carrier()
    for n in range(100):
        carrier.playout.play(speech(20), n * 0.02)
        assert len(carrier.sent) == n + 1


def test_a_burst_is_sent_up_to_the_lead_and_then_released_by_the_tick():
    carrier = Carrier()
    carrier.playout.play(speech(1000), 0.0)
    assert len(carrier.audio) == 10 * FRAME  # 200 ms
    carrier.playout.tick(0.02)
    assert len(carrier.audio) == 11 * FRAME
    for tick in range(2, 60):
        carrier.playout.tick(tick * 0.02)
    assert carrier.audio == speech(1000)


def test_the_carrier_never_runs_dry_during_a_burst():
    carrier = Carrier()
    carrier.playout.play(speech(2000), 0.0)
    for tick in range(1, 90):
        carrier.playout.tick(tick * 0.02)
        assert carrier.playout.horizon > tick * 0.02


def test_blocks_of_any_length_leave_as_whole_frames():
    carrier = Carrier()
    for n, size in enumerate((7, 300, 1, 0, 172)):
        carrier.playout.play(b"\x55" * size, n * 0.001)
    assert [len(item) for item in carrier.sent] == [FRAME] * 3


def test_a_remainder_is_padded_when_a_real_time_bot_falls_silent():
    carrier = Carrier()
    carrier.playout.play(speech(30), 0.0)
    carrier.playout.tick(0.04)
    assert len(carrier.audio) == FRAME
    carrier.playout.tick(0.1)
    assert carrier.audio == speech(30) + MULAW.silence(80)
    assert carrier.playout.idle


def test_a_bot_that_speaks_in_blocks_of_100_ms_is_not_padded_between_them():
    carrier = Carrier(L16, EXOTEL)
    for block in range(10):
        carrier.playout.play(b"\x01\x02" * 800, block * 0.1)
        for tick in range(5):
            carrier.playout.tick(block * 0.1 + tick * 0.02)
    assert [len(item) for item in carrier.sent] == [3200] * 5
    assert carrier.audio == b"\x01\x02" * 8000


def test_the_end_of_a_burst_is_padded_before_the_carrier_runs_dry():
    carrier = Carrier(L16, EXOTEL)
    carrier.playout.play(b"\x01\x02" * (8 * 500), 0.0)  # 500 ms: two chunks and a half
    for tick in range(1, 25):
        carrier.playout.tick(tick * 0.02)
    assert [len(item) for item in carrier.sent] == [3200, 3200, 3200]
    assert carrier.audio.endswith(L16.silence(1600))


def test_exotels_chunks_are_never_smaller_than_it_allows():
    carrier = Carrier(L16, EXOTEL)
    carrier.playout.play(b"\x00\x01" * 160, 0.0)
    assert carrier.sent == []
    carrier.playout.tick(1.0)
    assert [len(item) for item in carrier.sent] == [3200]


def test_a_mark_follows_the_audio_before_it():
    carrier = Carrier()
    carrier.playout.play(speech(40), 0.0)
    carrier.playout.mark("m", 0.0)
    assert carrier.sent == [speech(40)[:FRAME], speech(40)[FRAME:], "m"]


def test_a_mark_inside_a_chunk_follows_the_padded_chunk():
    carrier = Carrier(L16, EXOTEL)
    carrier.playout.play(b"\x01\x02" * 160, 0.0)
    carrier.playout.mark("m", 0.0)
    assert [len(item) for item in carrier.sent] == [3200, 1]


def test_a_mark_with_nothing_before_it_goes_at_once():
    carrier = Carrier()
    carrier.playout.mark("m", 0.0)
    assert carrier.sent == ["m"]


def test_what_is_to_happen_behind_the_audio_waits_until_it_is_played():
    carrier, done = Carrier(), []
    carrier.playout.play(speech(100), 0.0)
    carrier.playout.behind(lambda: done.append(True), 0.0)
    carrier.playout.tick(0.08)
    assert not done
    carrier.playout.tick(0.12)
    assert done


def test_audio_behind_an_action_waits_for_it():
    carrier = Carrier()
    carrier.playout.play(speech(100), 0.0)
    carrier.playout.behind(lambda: carrier.sent.append("keys"), 0.0)
    carrier.playout.play(speech(20), 0.0)
    for tick in range(1, 10):
        carrier.playout.tick(tick * 0.02)
    assert carrier.sent.index("keys") == 5
    assert len(carrier.sent) == 7


def test_a_clear_drops_all_that_was_not_heard_and_says_how_much():
    carrier = Carrier()
    carrier.playout.play(speech(1000), 0.0)
    carrier.playout.mark("late", 0.0)
    dropped = carrier.playout.clear(0.1)
    assert dropped.ms == pytest.approx(900, abs=1)
    assert dropped.marks == ("late",)
    assert carrier.playout.unplayed(0.1) == 0.0
    assert carrier.playout.played_ms(0.1) == 100
    carrier.playout.tick(0.5)
    assert len(carrier.audio) == 10 * FRAME


def test_after_a_clear_speech_goes_at_once_again():
    carrier = Carrier()
    carrier.playout.play(speech(1000), 0.0)
    carrier.playout.clear(0.1)
    carrier.sent.clear()
    carrier.playout.play(speech(20), 0.12)
    assert carrier.sent == [speech(20)]


def test_a_clear_does_at_once_what_was_to_happen_behind_the_audio():
    carrier, done = Carrier(), []
    carrier.playout.play(speech(1000), 0.0)
    carrier.playout.behind(lambda: done.append(True), 0.0)
    carrier.playout.clear(0.1)
    assert done


def test_beyond_the_capacity_the_newest_is_lost_and_counted():
    carrier = Carrier()
    assert carrier.playout.play(speech(2000), 0.0) == 0
    lost = carrier.playout.play(speech(1000), 0.0)
    assert lost == 8 * 800  # 200 ms were sent, so there was room for as much
    assert carrier.playout.unplayed(0.0) == pytest.approx(2.2)


def test_what_has_been_heard_is_what_was_sent_less_what_is_still_to_play():
    carrier = Carrier()
    carrier.playout.play(speech(100), 0.0)
    assert [carrier.playout.played_ms(t) for t in (0.0, 0.05, 0.1, 5.0)] == [0, 50, 100, 100]


def test_delay_that_a_stall_has_left_is_worked_off_in_silence():
    """The bot's first 150 ms came late and at once; ever since the caller hears everything 150 ms late."""
    carrier = Carrier()
    quiet = MULAW.silence(FRAME)
    carrier.playout.play(speech(160), 0.0)
    carrier.playout._expected = 0.0  # as a bot that was held up: its audio is not ahead of time
    now = 0.0
    for n in range(1, 600):
        now = n * 0.02
        carrier.playout.play(quiet if n % 2 else speech(20), now)
        carrier.playout.tick(now)
    assert carrier.playout.unplayed(now) <= 0.06
    assert 0 < carrier.playout.skipped <= 8 * 160
    assert carrier.audio.count(speech(20)) >= 599 // 2


def test_a_burst_of_silence_is_not_shortened():
    carrier = Carrier(limits=PlayoutLimits(capacity=60.0))
    for _ in range(1000):
        carrier.playout.play(MULAW.silence(FRAME), 0.0)
    now = 0.0
    while not carrier.playout.idle:
        now += 0.02
        carrier.playout.tick(now)
    carrier.playout.play(MULAW.silence(FRAME), now)
    carrier.playout.tick(now + 1.0)
    assert carrier.playout.skipped == 0
    assert len(carrier.audio) == 1001 * FRAME


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 0.3)), max_size=30))
def test_nothing_is_lost_reordered_or_sent_too_early(blocks):
    carrier = Carrier(limits=PlayoutLimits(lead=0.2, capacity=600.0, pad_after=0.06))
    now, spoken = 0.0, b""
    for size, pause in blocks:
        payload = bytes((len(spoken) + i) % 251 for i in range(size))
        before = len(carrier.audio)
        carrier.playout.play(payload, now)
        assert len(carrier.audio) - before <= (0.2 * 8000) + FRAME + FRAME
        spoken += payload
        now += pause
        carrier.playout.tick(now)
    while not carrier.playout.idle:
        now += 0.02
        carrier.playout.tick(now)
    heard = carrier.audio
    at = 0
    for byte in heard:  # the padding of pauses aside, byte for byte
        if at < len(spoken) and byte == spoken[at]:
            at += 1
    assert at == len(spoken)
    assert len(heard) % FRAME == 0
