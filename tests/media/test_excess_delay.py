"""Standing delay or a burst? Frames of 20 ms, unless said otherwise; time passed in."""

from __future__ import annotations

import pytest

from gateway.media.excess_delay import ExcessDelay


@pytest.fixture
def delay():
    return ExcessDelay(max_excess=0.12, stop_below=0.04, stand_seconds=5.0, jitter=0.5)


def flow(delay, first: float, last: float, unplayed: float, length: float = 0.02) -> list[float]:
    """Audio in real time; when it was judged excessive."""
    times = [first + n * length for n in range(round((last - first) / length))]
    return [now for now in times if delay.should_trim(length, unplayed, now)]


def test_delay_in_a_steady_flow_is_excessive_after_five_seconds(delay):
    assert flow(delay, 10.0, 20.0, 0.13)[0] == pytest.approx(15.0, abs=0.03)


def test_what_stays_below_the_most_never_is(delay):
    assert flow(delay, 0.0, 60.0, 0.12) == []


def test_one_moment_of_relief_is_enough(delay):
    flow(delay, 0.0, 4.0, 0.3)
    delay.should_trim(0.02, 0.1, 4.0)
    assert flow(delay, 4.02, 8.9, 0.3) == []


def test_once_excessive_it_is_worked_off_further_than_it_must_be(delay):
    flow(delay, 0.0, 6.0, 0.3)
    assert delay.should_trim(0.02, 0.05, 6.0)
    assert not delay.should_trim(0.02, 0.04, 6.02)
    assert not delay.should_trim(0.02, 0.11, 6.04)


def test_a_burst_ends_it(delay):
    assert flow(delay, 0.0, 6.0, 0.3)
    judged = [delay.should_trim(0.02, 0.3, 6.0) for _ in range(100)]
    assert not any(judged[30:])
    assert flow(delay, 6.02, 10.9, 2.0) == []


def test_a_burst_in_one_message_ends_it(delay):
    assert flow(delay, 0.0, 6.0, 0.3)
    delay.should_trim(30.0, 0.3, 6.0)
    assert flow(delay, 6.02, 10.9, 30.0) == []


def test_a_pause_ends_it(delay):
    assert flow(delay, 0.0, 6.0, 9.0)
    assert flow(delay, 6.6, 11.5, 8.4) == []


def test_half_a_second_early_or_late_is_still_the_same_flow(delay):
    times = [n * 0.02 for n in range(500)]
    late = [now + (0.4 if n % 100 < 20 else 0.0) for n, now in enumerate(times)]
    assert True in [delay.should_trim(0.02, 0.6, now) for now in late]


@pytest.mark.parametrize("length", [0.02, 0.1, 1.0])
def test_the_length_of_its_audio_does_not_make_a_burst(delay, length):
    assert flow(delay, 0.0, 20.0, 0.3, length)


def test_a_burst_is_a_lead_and_no_excess(delay):
    delay.should_trim(1.0, 0.0, 0.0)
    assert flow(delay, 0.02, 30.0, 0.98) == []


def test_what_a_stall_leaves_beyond_the_lead_is_excess(delay):
    delay.should_trim(1.0, 0.0, 0.0)
    flow(delay, 0.02, 5.0, 0.98)
    [delay.should_trim(0.02, 0.0, 6.5) for _ in range(75)]
    assert flow(delay, 6.5, 13.0, 1.5)[0] == pytest.approx(11.5, abs=0.05)


def test_a_pause_that_the_caller_did_not_hear_makes_the_lead_smaller(delay):
    delay.should_trim(3.0, 0.0, 0.0)
    flow(delay, 0.02, 4.0, 2.98)
    assert flow(delay, 5.0, 12.0, 1.98) == []
    assert flow(delay, 12.0, 20.0, 2.3)


@pytest.mark.parametrize("drift", [0.9995, 1.0005])
def test_drift_is_no_lead(delay, drift):
    trimmed = [delay.should_trim(0.02, 0.2, n * 0.02 * drift) for n in range(60_000)]
    assert all(trimmed[300:])


def test_a_reset_begins_a_new_schedule(delay):
    flow(delay, 0.0, 6.0, 0.3)
    delay.reset()
    delay.should_trim(1.0, 0.0, 6.1)
    assert flow(delay, 6.12, 20.0, 0.98) == []
