"""Playout: what goes to the carrier at once, what waits, and what a clear takes away. μ-law at 8 kHz: 8 bytes a ms."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audio.format import AudioFormat
from gateway.media.playout import Playout, PlayoutLimits
from serializers.base import Wire

MULAW = AudioFormat("mulaw", 8000)
L16 = AudioFormat("l16", 8000)
EXOTEL = Wire(chunk=320, chunk_min=3200)
FRAME = 160
LIMITS = PlayoutLimits(target_buffer=0.2, capacity=2.0, pad_after=0.06)


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
        assert len(carrier.audio) / 8000 > tick * 0.02


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
    carrier.playout.at_playback_end(lambda: done.append(True), 0.0)
    carrier.playout.tick(0.08)
    assert not done
    carrier.playout.tick(0.12)
    assert done


def test_audio_behind_an_action_waits_for_it():
    carrier = Carrier()
    carrier.playout.play(speech(100), 0.0)
    carrier.playout.at_playback_end(lambda: carrier.sent.append("keys"), 0.0)
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
    carrier.playout.at_playback_end(lambda: done.append(True), 0.0)
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


def test_as_many_marks_wait_as_frames_may_and_no_more():
    carrier = Carrier()  # capacity: 2 s, 100 frames
    carrier.playout.play(speech(1000), 0.0)
    taken = [carrier.playout.mark(f"m{n}", 0.0) for n in range(150)]
    assert taken == [True] * 100 + [False] * 50
    assert carrier.playout.clear(0.0).marks == tuple(f"m{n}" for n in range(100))
    carrier.playout.play(speech(1000), 0.0)
    assert carrier.playout.mark("again", 0.0)


def test_actions_are_bounded_with_the_marks_and_leave_room_when_done():
    carrier, done = Carrier(), []
    carrier.playout.play(speech(100), 0.0)
    taken = [carrier.playout.at_playback_end(lambda: done.append(True), 0.0) for _ in range(101)]
    assert taken == [True] * 100 + [False]
    carrier.playout.tick(0.2)
    assert len(done) == 100
    assert carrier.playout.at_playback_end(lambda: done.append(True), 0.2)
    assert len(done) == 101


def test_a_mark_that_is_refused_pads_nothing():
    carrier = Carrier()
    carrier.playout.play(speech(1000), 0.0)
    for n in range(100):
        carrier.playout.mark(f"m{n}", 0.0)
    carrier.playout.play(speech(5), 0.0)
    assert not carrier.playout.mark("one too many", 0.0)
    assert carrier.playout.unplayed(0.0) == pytest.approx(1.005)


# Standing delay. A bot's frames: quiet ones and loud ones, at the times when they come.

QUIET = MULAW.silence(FRAME)
LOUD = speech(20)


def chat(seconds: float, start: float = 0.0, *, pace: float = 0.02) -> list[tuple[float, bytes]]:
    """A real-time bot that is silent in every second frame. pace: seconds from one to the next."""
    return [(start + n * pace, QUIET if n % 2 else LOUD) for n in range(round(seconds / pace))]


def at_once(frames: list[bytes], now: float) -> list[tuple[float, bytes]]:
    return [(now, frame) for frame in frames]


def held_up(seconds: float, until: float) -> list[tuple[float, bytes]]:
    """What a real-time bot has said during a stall, all of it now."""
    return at_once([LOUD] * round(seconds / 0.02), until)


def play(frames: list[tuple[float, bytes]], carrier: Carrier | None = None) -> Carrier:
    """The frames at their times, and a tick every 20 ms."""
    carrier = carrier or Carrier(limits=PlayoutLimits())
    before = frames[0][0]
    for now, frame in frames:
        while before + 0.02 < now:
            before += 0.02
            carrier.playout.tick(before)
        before = now
        carrier.playout.tick(now)
        carrier.playout.play(frame, now)
    return carrier


def finish(carrier: Carrier, now: float) -> bytes:
    """All that was heard, to the end."""
    while not carrier.playout.idle:
        now += 0.02
        carrier.playout.tick(now)
    return carrier.audio


def loud_part(audio: bytes) -> bytes:
    return audio.replace(MULAW.silence(1), b"")


def test_delay_that_a_stall_has_left_is_worked_off_in_silence():
    frames = chat(5.0) + held_up(1.5, 6.5) + chat(60.0, 6.5)
    carrier = play(frames)
    now = frames[-1][0]
    assert carrier.playout.unplayed(now) <= 0.1
    assert 8 * 1300 <= carrier.playout.skipped <= 8 * 1500
    assert loud_part(finish(carrier, now)) == loud_part(b"".join(frame for _, frame in frames))


def test_it_is_not_worked_off_before_it_has_stood_for_two_seconds():
    frames = chat(5.0) + held_up(1.5, 6.5) + chat(1.9, 6.5)
    assert play(frames).playout.skipped == 0


@pytest.mark.parametrize("stall", [0.02, 0.04, 0.1, 0.3])
def test_three_seconds_after_a_stall_nothing_of_it_is_left(stall):
    frames = chat(5.0) + held_up(stall, 5.0 + stall) + chat(3.0, 5.0 + stall)
    carrier = play(frames)
    assert carrier.playout.unplayed(frames[-1][0] + 0.02) <= 0.011
    assert loud_part(finish(carrier, frames[-1][0])) == loud_part(b"".join(frame for _, frame in frames))


def test_what_jitter_needs_again_and_again_stays():
    """Every second a frame that is 60 ms late: without those 60 ms unplayed there would be a gap each time."""
    frames = [(max(now, round(now) + 0.06) if n % 50 < 4 else now, frame) for n, (now, frame) in enumerate(chat(30.0))]
    carrier = play(frames)
    assert carrier.playout.skipped == 0


@pytest.mark.parametrize("stall", [0.02, 0.1])
def test_of_longer_chunks_too_nothing_of_a_stall_is_left(stall):
    quiet, loud = L16.silence(320), b"\x01\x02" * 160
    said = [loud if n % 100 < 50 else quiet for n in range(500)]
    frames = [(n * 0.02 if n < 50 else max(n * 0.02, 1.0 + stall), frame) for n, frame in enumerate(said)]
    carrier = play(frames, Carrier(L16, EXOTEL, PlayoutLimits()))
    assert carrier.playout.unplayed(frames[-1][0] + 0.02) <= 0.201
    assert finish(carrier, frames[-1][0]).count(loud[:2]) == said.count(loud) * 160


def test_delay_of_a_clock_that_runs_fast_is_worked_off():
    """500 ppm, 20 minutes: 600 ms."""
    frames = chat(1200.0, pace=0.02 / 1.0005)
    carrier, most = Carrier(limits=PlayoutLimits()), 0.0
    for now, frame in frames:
        play([(now, frame)], carrier)
        most = max(most, carrier.playout.unplayed(now))
    assert most <= 0.15
    assert carrier.playout.skipped > 0


def test_speech_without_a_pause_stays_late_but_whole():
    frames = chat(5.0) + held_up(1.5, 6.5) + [(6.5 + n * 0.02, LOUD) for n in range(1000)]
    carrier = play(frames)
    assert carrier.playout.skipped == 0
    assert finish(carrier, frames[-1][0]) == b"".join(frame for _, frame in frames)


def test_what_was_left_out_counts_as_heard():
    """The bot adds up what it has sent and what was heard; nothing may stay between for ever."""
    frames = chat(5.0) + held_up(1.5, 6.5) + chat(60.0, 6.5)
    carrier = play(frames)
    now = frames[-1][0]
    finish(carrier, now)
    assert carrier.playout.played_ms(now + 5.0) == len(frames) * 20


def test_a_stall_before_every_word_does_not_keep_the_delay():
    """Jitter of 300 ms, again and again, on top of a delay of 1.5 s."""
    frames = chat(5.0) + held_up(1.5, 6.5)
    for n in range(60):
        frames += held_up(0.3, 6.8 + n) + chat(0.7, 6.8 + n)
    carrier = play(frames)
    assert carrier.playout.unplayed(frames[-1][0]) <= 0.5
    assert carrier.playout.skipped <= 8 * 1700


def test_a_burst_and_what_comes_behind_it_in_real_time_keep_their_pauses():
    """Whoever sends 30 s at once, and goes on in real time, is 30 s ahead on purpose."""
    burst = ([LOUD] * 35 + [QUIET] * 15) * 30  # 30 s, and a pause of 300 ms in every one of them
    frames = at_once(burst, 0.0) + chat(70.0, 0.02)
    carrier = play(frames)
    assert finish(carrier, frames[-1][0]) == b"".join(frame for _, frame in frames)
    assert carrier.playout.skipped == 0


AHEAD = ([QUIET] * 20 + [LOUD] * 50) * 8
"""Eight times 0.4 s of silence and 1 s of speech."""


def ahead(lead: float, start: float = 0.0, frames: list[bytes] = AHEAD) -> list[tuple[float, bytes]]:
    """A bot that keeps so many seconds ahead of real time."""
    return [(max(start, start + n * 0.02 - lead), frame) for n, frame in enumerate(frames)]


@pytest.mark.parametrize("lead", [0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0])
def test_a_bot_ahead_of_real_time_keeps_its_pauses(lead):
    frames = ahead(lead, frames=AHEAD * 4)
    carrier = play(frames)
    assert finish(carrier, frames[-1][0]) == b"".join(frame for _, frame in frames)


@pytest.mark.parametrize("lead", [0.1, 0.2, 1.0])
@pytest.mark.parametrize("pause", [0.3, 0.7, 1.0, 1.5, 4.0])
def test_a_bot_ahead_of_real_time_may_pause_between_its_turns(pause, lead):
    """It sends nothing in the pause, and is as far ahead in the next turn."""
    frames, start = [], 0.0
    for _ in range(4):
        frames += ahead(lead, start)
        start += len(AHEAD) * 0.02 + pause
    carrier = play(frames)
    finish(carrier, frames[-1][0])
    assert carrier.playout.skipped == 0


def test_a_stall_beyond_the_lead_of_a_bot_is_worked_off_to_its_lead():
    """1 s ahead, and held up for 2.5 s: the caller hears a gap of 1.5 s, and then its pauses are shorter."""
    frames = [(now if not 5.0 < now <= 7.5 else 7.5, frame) for now, frame in ahead(1.0, frames=AHEAD * 4)]
    carrier = play(frames)
    finish(carrier, frames[-1][0])
    assert 8 * 1300 <= carrier.playout.skipped <= 8 * 1520


def test_a_bot_that_is_interrupted_is_ahead_in_its_next_turn_too():
    carrier = play(ahead(1.0))
    now = len(AHEAD) * 0.02 - 1.0
    carrier.playout.clear(now)
    frames = ahead(1.0, now + 0.2)
    play(frames, carrier)
    finish(carrier, frames[-1][0])
    assert carrier.playout.skipped == 0


def test_a_second_burst_behind_the_first_keeps_its_pauses():
    burst = [QUIET] * 15 + [LOUD] * 35
    frames = at_once(burst * 30, 0.0) + at_once(burst * 4, 10.0) + at_once(burst * 6, 20.0) + at_once([QUIET], 28.0)
    carrier = play(frames)
    assert finish(carrier, 28.0) == b"".join(frame for _, frame in frames)
    assert carrier.playout.skipped == 0


def test_a_bot_that_is_twice_as_fast_as_speech_is_a_burst_too():
    frames = chat(30.0, pace=0.01)
    carrier = play(frames)
    assert carrier.playout.skipped == 0
    assert finish(carrier, 30.0) == b"".join(frame for _, frame in frames)


def test_a_burst_in_one_message_is_one_too():
    whole = b"".join([LOUD] * 35 + [QUIET] * 15) * 30
    carrier = play([(0.0, whole), (9.0, QUIET), (16.0, QUIET)])
    assert carrier.playout.skipped == 0
    assert finish(carrier, 16.0) == whole + QUIET * 2


@pytest.mark.parametrize("block", [20, 100, 1000])
def test_a_real_time_bot_loses_nothing_whatever_its_blocks(block):
    frames = [(n * block / 1000, MULAW.silence(8 * block)) for n in range(60_000 // block)]
    assert play(frames).playout.skipped == 0


def test_one_unplayed_large_chunk_is_no_delay():
    quiet = L16.silence(320)
    carrier = play([(n * 0.02, quiet) for n in range(3000)], Carrier(L16, EXOTEL, PlayoutLimits()))
    assert carrier.playout.skipped == 0
    late = at_once([quiet] * 50, 61.0) + [(61.0 + n * 0.02, quiet) for n in range(1000)]
    play(late, carrier)
    assert 16 * 600 <= carrier.playout.skipped <= 16 * 1000
    assert 0.2 <= carrier.playout.unplayed(late[-1][0]) <= 0.3


def test_a_burst_of_silence_is_not_shortened():
    frames = [*at_once([QUIET] * 1000, 0.0), (20.02, QUIET)]
    carrier = play(frames)
    assert carrier.playout.skipped == 0
    assert len(finish(carrier, 20.02)) == 1001 * FRAME


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([LOUD, QUIET]), st.integers(1, 300), st.sampled_from([0.0, 0.02, 0.6]))))
def test_only_silence_is_ever_left_out(runs):
    """Runs of speech and silence, each at a pace of its own."""
    frames, now = [], 0.0
    for frame, count, pace in runs:
        for _ in range(min(count, 30) if pace == 0.6 else count):
            frames.append((now, frame))
            now += pace
    carrier = Carrier(limits=PlayoutLimits(capacity=7200.0))
    if frames:
        play(frames, carrier)
    said = b"".join(frame for _, frame in frames)
    assert loud_part(finish(carrier, now)) == loud_part(said)
    assert len(said) == len(carrier.audio) + carrier.playout.skipped


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 0.3)), max_size=30))
def test_nothing_is_lost_reordered_or_sent_too_early(blocks):
    carrier = Carrier(limits=PlayoutLimits(target_buffer=0.2, capacity=600.0, pad_after=0.06))
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


def test_a_bot_one_second_ahead_keeps_its_pauses():
    """Eight times 0.4 s of silence and a second of tone: what it has ahead it has on purpose."""
    said = ([QUIET] * 20 + [LOUD] * 50) * 8
    frames = at_once(said[:50], 0.0) + [((n - 49) * 0.02, frame) for n, frame in enumerate(said) if n >= 50]
    carrier = play(frames)
    assert carrier.playout.skipped == 0
    assert finish(carrier, frames[-1][0]) == b"".join(said)
