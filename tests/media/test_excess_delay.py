"""Standing delay or a burst? Frames of 20 ms, unless said otherwise; time passed in."""

from __future__ import annotations

import pytest

from gateway.media.excess_delay import ExcessDelay


@pytest.fixture
def delay():
    return ExcessDelay(most=0.12, enough=0.04, patience=5.0, steady=0.5)


def flow(delay, first: float, last: float, unplayed: float, length: float = 0.02) -> list[float]:
    """Audio in real time; when it was judged excessive."""
    times = [first + n * length for n in range(round((last - first) / length))]
    return [now for now in times if delay.judge(length, unplayed, now)]


def test_delay_in_a_steady_flow_is_excessive_after_five_seconds(delay):
    assert flow(delay, 10.0, 20.0, 0.13)[0] == pytest.approx(15.0, abs=0.03)


def test_what_stays_below_the_most_never_is(delay):
    assert flow(delay, 0.0, 60.0, 0.12) == []


def test_one_moment_of_relief_is_enough(delay):
    flow(delay, 0.0, 4.0, 0.3)
    delay.judge(0.02, 0.1, 4.0)
    assert flow(delay, 4.02, 8.9, 0.3) == []


def test_once_excessive_it_is_worked_off_further_than_it_must_be(delay):
    flow(delay, 0.0, 6.0, 0.3)
    assert delay.judge(0.02, 0.05, 6.0)
    assert not delay.judge(0.02, 0.04, 6.02)
    assert not delay.judge(0.02, 0.11, 6.04)


def test_a_burst_ends_it(delay):
    assert flow(delay, 0.0, 6.0, 0.3)
    judged = [delay.judge(0.02, 0.3, 6.0) for _ in range(100)]
    assert not any(judged[30:])
    assert flow(delay, 6.02, 10.9, 2.0) == []


def test_a_burst_in_one_message_ends_it(delay):
    assert flow(delay, 0.0, 6.0, 0.3)
    delay.judge(30.0, 0.3, 6.0)
    assert flow(delay, 6.02, 10.9, 30.0) == []


def test_a_pause_ends_it(delay):
    assert flow(delay, 0.0, 6.0, 9.0)
    assert flow(delay, 6.6, 11.5, 8.4) == []


def test_half_a_second_early_or_late_is_still_the_same_flow(delay):
    times = [n * 0.02 for n in range(500)]
    late = [now + (0.4 if n % 100 < 20 else 0.0) for n, now in enumerate(times)]
    assert True in [delay.judge(0.02, 0.6, now) for now in late]


@pytest.mark.parametrize("length", [0.02, 0.1, 1.0])
def test_the_length_of_its_audio_does_not_make_a_burst(delay, length):
    assert flow(delay, 0.0, 20.0, 0.3, length)
