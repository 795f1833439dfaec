"""An echo followed on the way, with the time passed in.

Messages every 20 ms, heard again some time later.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from gateway.audio.files import convert
from gateway.simulator.load.echoes import FORGET, GIVE_UP, MEMORY, EchoFollower, ShortPlayout
from gateway.simulator.plan import Pcm
from gateway.simulator.voice import Encoding

from .plans import speech

MULAW = Encoding("PCMU", 8000)
WIDE = Encoding("L16", 16000)
FRAME = 0.02


def frames_of(pcm: Pcm, encoding: Encoding, ms: int = 20) -> list[bytes]:
    wire = encoding.encode(convert(pcm, 8000, encoding.rate))
    size = encoding.bytes_per_second * ms // 1000
    return [wire[at : at + size] for at in range(0, len(wire) - size + 1, size)]


class Line:
    """A caller and their echo. `heard`: for each frame said, when and what comes back."""

    def __init__(self, said: Encoding = MULAW, heard: Encoding = MULAW) -> None:
        self.playout = ShortPlayout(heard.bytes_per_second, heard.sample_bytes)
        self.follower = EchoFollower(said, heard, self.playout)

    def run(self, said: list[bytes], heard: Iterable[tuple[float, bytes]], frame: float = FRAME) -> float:
        """Everything in its order; returns when it is over."""
        events = [(index * frame, 1, payload) for index, payload in enumerate(said)]
        events += [(at, 0, payload) for at, payload in heard]
        now = 0.0
        for count, (now, is_said, payload) in enumerate(sorted(events, key=lambda event: event[:2])):
            if is_said:
                self.follower.said(now, payload)
            else:
                self.playout.play(now, payload)
            if count % 97 == 0:
                self.follower.follow(now)
        return now


def echoed(said: list[bytes], delay: float) -> list[tuple[float, bytes]]:
    return [(index * FRAME + delay, payload) for index, payload in enumerate(said)]


@pytest.mark.parametrize("delay", [0.005, 0.1, 0.9])
def test_the_delay_of_a_whole_echo(delay: float) -> None:
    line, said = Line(), frames_of(speech(6), MULAW)
    line.run(said, echoed(said, delay))
    line.follower.finish(whole=True)
    follower = line.follower
    assert follower.found
    assert not follower.gave_up
    assert follower.lost == 0
    assert follower.delays.min == pytest.approx(delay * 1000, abs=0.01)
    assert follower.delays.max == pytest.approx(delay * 1000, abs=0.01)
    # All audible frames were verified by ear: the sentence has a pause.
    assert 200 < follower.delays.count == follower.sought < 300


def test_a_filter_and_another_codec_on_the_way() -> None:
    """Through 16 kHz and back, 4 ms later in the audio: that is delay, and no loss."""
    line, said = Line(), frames_of(speech(4), MULAW)
    pcm = convert(convert(MULAW.decode(b"".join(said)), 8000, 16000), 16000, 8000)
    back = frames_of(np.concatenate([np.zeros(32, np.int16), pcm]), MULAW)
    line.run(said, echoed(back, 0.03))
    line.follower.finish(whole=True)
    assert line.follower.lost == 0
    assert line.follower.delays.p50 == pytest.approx(34, abs=0.4)


def test_an_echo_at_another_rate() -> None:
    line = Line(heard=WIDE)
    line.run(frames_of(speech(4), MULAW), echoed(frames_of(speech(4), WIDE), 0.04))
    line.follower.finish(whole=True)
    assert line.follower.lost == 0
    assert line.follower.delays.p50 == pytest.approx(40, abs=0.5)


def test_messages_of_100_ms() -> None:
    line, said = Line(), frames_of(speech(4), MULAW, ms=100)
    line.run(said, [(index * 0.1 + 0.2, payload) for index, payload in enumerate(said)], frame=0.1)
    line.follower.finish(whole=True)
    assert line.follower.lost == 0
    assert line.follower.delays.max == pytest.approx(200, abs=0.1)
    assert line.follower.delays.count <= len(said)


@pytest.mark.parametrize("gone", [[60], [60, 61, 62], [60, 140, 141], list(range(55, 75))])
def test_frames_that_were_left_out(gone: list[int]) -> None:
    line, said = Line(), frames_of(speech(6), MULAW)
    back = [(at, payload) for index, (at, payload) in enumerate(echoed(said, 0.05)) if index not in gone]
    line.run(said, back)
    line.follower.finish(whole=False)
    assert line.follower.lost == len(gone)


def test_a_frame_that_became_silence() -> None:
    line, said = Line(), frames_of(speech(6), MULAW)
    back = [(at, b"\xff" * 160 if index == 60 else payload) for index, (at, payload) in enumerate(echoed(said, 0.05))]
    line.run(said, back)
    line.follower.finish(whole=True)
    assert line.follower.lost == 1


def test_silence_put_between_delays_and_loses_nothing() -> None:
    line, said = Line(), frames_of(speech(6), MULAW)
    back = echoed(said, 0.05)
    back.insert(130, (back[130][0] - 0.001, b"\xff" * 480))
    line.run(said, back)
    line.follower.finish(whole=True)
    assert line.follower.lost == 0
    assert line.follower.delays.min == pytest.approx(50, abs=0.1)
    assert line.follower.delays.max == pytest.approx(109, abs=1.1)


@pytest.mark.parametrize("silent", [0, 5, 60])
def test_speech_at_the_beginning_that_was_never_heard_is_lost(silent: int) -> None:
    """Silence is not: a gateway leaves out what its bot was not yet there to hear."""
    spoken = speech(5)[800:]  # it begins with 0.1 s of silence
    line, said = Line(), frames_of(np.concatenate([np.zeros(silent * 160, np.int16), spoken]), MULAW)
    line.run(said, echoed(said, 0.05)[silent + 10 :])
    line.follower.finish(whole=True)
    assert line.follower.lost == 10


def test_silence_at_the_beginning_that_was_left_out_is_not_lost() -> None:
    line, said = Line(), frames_of(speech(4), MULAW)
    line.run(said, echoed(said, 0.05)[5:])
    line.follower.finish(whole=True)
    assert line.follower.lost == 0


def test_a_tail_is_lost_only_for_one_who_stayed_for_it() -> None:
    said = frames_of(speech(3.6), MULAW)
    for whole in (True, False):
        line = Line()
        line.run(said, echoed(said, 0.05)[:-5])
        line.follower.finish(whole=whole)
        assert line.follower.lost == (5 if whole else 0)


def test_what_no_bot_heard_is_not_looked_for() -> None:
    line, said = Line(), frames_of(speech(6), MULAW)
    line.run(said[:100], [])
    line.follower.skip()
    for index, payload in enumerate(said[100:], 100):
        line.follower.said(index * FRAME, payload)
        line.playout.play(index * FRAME + 0.05, payload)
        line.follower.follow(index * FRAME)
    line.follower.finish(whole=True)
    assert line.follower.found
    assert line.follower.lost == 0
    assert line.follower.sought < 200


def test_a_bot_that_says_something_else_is_given_up() -> None:
    line, said = Line(), frames_of(np.resize(speech(6), 8000 * 12), MULAW)
    other = MULAW.encode(np.random.default_rng(7).integers(-9000, 9000, 8000 * 12).astype(np.int16))
    line.run(said, [(index * FRAME, other[index * 160 : index * 160 + 160]) for index in range(len(said))])
    line.follower.finish(whole=True)
    assert not line.follower.found
    assert line.follower.gave_up
    assert (line.follower.lost, line.follower.delays.count) == (0, 0)
    assert line.follower.sought <= (GIVE_UP + 1) * 50


def test_a_mess_costs_a_bounded_number_of_searches() -> None:
    """Every other frame is noise: they count, and not each of them is searched for."""
    line, said = Line(), frames_of(speech(3), MULAW)
    noise = MULAW.encode(np.random.default_rng(8).integers(-9000, 9000, 160).astype(np.int16))
    back = [
        (at, noise if index > 60 and index % 2 else payload) for index, (at, payload) in enumerate(echoed(said, 0.05))
    ]
    line.run(said, back)
    line.follower.finish(whole=True)
    assert 20 <= line.follower.lost <= line.follower.sought


def test_memory_does_not_grow_with_the_call() -> None:
    line = Line()
    said = frames_of(np.resize(speech(6), 8000 * 60), MULAW)
    line.run(said, echoed(said, 0.05))
    assert len(line.playout.heard) <= MEMORY / FRAME + 2 * FORGET
    assert len(line.follower._said) <= MEMORY / FRAME
    assert line.playout.total == len(said) * 160
    assert line.playout.forgotten + sum(len(heard.payload) for heard in line.playout.heard) == line.playout.total


def test_the_first_clear_is_remembered() -> None:
    playout = ShortPlayout(8000, 1)
    playout.play(10.0, bytes(1600))
    assert playout.clear(10.1) == []
    playout.play(10.2, bytes(160))
    playout.clear(10.3)
    assert playout.first_clear == (10.1, 800)
    assert playout.total == 960


def test_nothing_said_nothing_heard() -> None:
    line = Line()
    line.follower.follow(100.0)
    line.follower.finish(whole=True)
    assert not line.follower.found
