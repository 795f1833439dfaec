"""The bot's clock goes on, whatever the carrier does: silence for what did not come, once, and none for jitter."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.caller_clock import DRIFT, LATE, STOPPED, CallerClock
from serializers.lost_media import MAX_SECONDS

FRAME = 0.02


class Line:
    """A caller's line: frames that arrive at their times, and ticks every 20 ms. Counts seconds."""

    def __init__(self, frame: float = FRAME) -> None:
        self.clock = CallerClock()
        self.frame = frame
        self.heard = self.silence = self.left_out = 0.0

    def run(self, arrivals: list[float], until: float) -> None:
        waiting, tick = sorted(arrivals), 0
        while tick * FRAME <= until:
            now = tick * FRAME
            came = 0.0
            while waiting and waiting[0] <= now:
                at = waiting.pop(0)
                if not self.clock.silence_owed:
                    came += self.frame
                elif not self.clock.admit_late_audio(self.frame, at):
                    self.left_out += self.frame
                    continue
                self.heard += self.frame
            if came:
                self.clock.audio_came(came, now)
            missing = int(self.clock.silence_due(now) / FRAME + 0.5) * FRAME
            self.clock.silence_given(missing, now)
            self.silence += missing
            tick += 1

    @property
    def total(self) -> float:
        return self.heard + self.silence


def times(*spans: tuple[float, float], frame: float = FRAME) -> list[float]:
    """When frames arrive that are sent from the one time to the other."""
    return [begin + n * frame for begin, end in spans for n in range(round((end - begin) / frame))]


@pytest.mark.parametrize("frame", [0.02, 0.1, 0.2])
def test_media_that_stop_for_three_seconds_are_three_of_silence(frame):
    line = Line(frame)
    line.run(times((0, 2), (5, 9), frame=frame), 8.9)
    assert line.silence == pytest.approx(3, abs=FRAME)
    assert line.left_out == 0
    assert line.total == pytest.approx(8.9, abs=frame + FRAME)


def test_silence_begins_within_a_second_and_goes_on():
    line = Line()
    line.run(times((0, 2)), 2 + STOPPED - 0.04)
    assert line.silence == 0
    line = Line()
    line.run(times((0, 2)), 62)
    assert line.silence == pytest.approx(60, abs=2 * FRAME)


def test_audio_that_comes_after_all_is_not_heard_on_top_of_silence():
    line = Line()
    line.run([*times((0, 2)), *(5.0 for _ in range(150)), *times((5, 12))], 11.99)
    assert line.silence == pytest.approx(3, abs=2 * FRAME)
    assert line.left_out == pytest.approx(line.silence, abs=FRAME)
    assert line.total == pytest.approx(12, abs=2 * FRAME)


@pytest.mark.parametrize("stall", [0.2, 0.4, 0.7, 0.95])
def test_a_stall_that_catches_up_within_a_second_brings_no_silence(stall):
    line = Line()
    line.run([*times((0, 2)), *(2 + stall for _ in range(round(stall / FRAME))), *times((2 + stall, 8))], 7.99)
    assert (line.silence, line.left_out) == (0, 0)


def test_nothing_is_missing_before_the_first():
    line = Line()
    line.run(times((7, 9)), 9)
    assert line.silence == 0


def test_a_start_in_one_burst_and_then_a_pause_brings_no_silence():
    line = Line()
    line.run([*(0.5 for _ in range(40)), *times((0.9, 5))], 4.9)
    assert line.silence == 0


@given(st.integers(), st.sampled_from([0.05, 0.1, 0.2, 0.3]))
def test_jitter_brings_no_silence(seed: int, jitter: float):
    """In order, as TCP keeps it: a late frame holds up those behind it."""
    line, at, rng = Line(), 0.0, random.Random(seed)
    arrivals = []
    for sent in times((0, 20)):
        at = max(at, sent + rng.uniform(0, jitter))
        arrivals.append(at)
    line.run(arrivals, 20)
    assert (line.silence, line.left_out) == (0, 0)


def test_half_a_second_lost_without_numbers_is_half_a_second_of_silence():
    line = Line()
    line.run(times((0, 2), (2.5, 8)), 7.99)
    assert line.silence == pytest.approx(0.5, abs=FRAME)
    assert line.total == pytest.approx(8, abs=2 * FRAME)


def test_many_small_losses_never_add_up():
    line = Line()
    spans = [(second, second + 0.9) for second in range(60)]
    line.run(times(*spans), 59.9)
    assert line.total == pytest.approx(60, abs=LATE + 0.15)


@pytest.mark.parametrize("drift", [-DRIFT / 2, DRIFT / 2])
def test_a_clock_that_drifts_brings_no_silence(drift):
    line = Line()
    line.run([at * (1 + drift) for at in times((0, 3600))], 3600)
    assert (line.silence, line.left_out) == (0, 0)


def test_media_that_numbers_name_as_lost_are_silence_once():
    clock, now = CallerClock(), 0.0
    for now in times((0, 1)):
        clock.audio_came(FRAME, now)
    for now in times((1, 4)):
        clock.silence_given(round(clock.silence_due(now) / FRAME) * FRAME, now)
    lost = [clock.admit_late_audio(FRAME, 4.0, lost=True) for _ in range(150)]
    assert sum(lost) <= 2
    assert all(clock.admit_late_audio(FRAME, at) for at in times((4.0, 6.0)))


def test_a_process_that_was_stopped_reads_first_what_has_come():
    clock = CallerClock()
    clock.silence_due(0.0)
    clock.audio_came(FRAME, 0.0)
    assert clock.silence_due(30.0) == 0
    assert not clock.silence_owed
    clock.audio_came(1500 * FRAME, 30.0)
    assert clock.silence_due(30.02) == 0


def silence(clock: CallerClock, begin: float, seconds: float) -> float:
    """Tick for so long. Returns the seconds of silence."""
    given = 0.0
    for tick in range(round(seconds / FRAME)):
        now = begin + tick * FRAME
        missing = clock.silence_due(now)
        clock.silence_given(missing, now)
        given += missing
    return given


def test_media_before_the_first_tick_begin_the_clock_too():
    """The bridge is made between two ticks, at any time of a clock that has run for long."""
    clock = CallerClock()
    clock.audio_came(FRAME, 7000.0)
    assert silence(clock, 7000.01, 3) == pytest.approx(3, abs=2 * FRAME)


def test_media_read_before_the_first_tick_after_a_stop_begin_the_clock_too():
    clock = CallerClock()
    clock.audio_came(FRAME, 0.0)
    clock.silence_due(0.0)
    clock.audio_came(FRAME, 60.0)  # the process was stopped for a minute, and reads before it ticks
    assert silence(clock, 60.01, 3) > 2.9


def test_silence_at_once_is_bounded():
    clock = CallerClock()
    clock.audio_came(FRAME, 0.0)
    most = 0.0
    for tick in range(1, 100):
        most = max(most, clock.silence_due(tick * 60.0))
    assert 0 < most <= MAX_SECONDS


def test_a_new_bot_begins_with_now():
    clock = CallerClock()
    clock.audio_came(FRAME, 0.0)
    clock.begin(100.0)
    assert clock.silence_due(100.0) == 0
    assert not clock.silence_owed
