from __future__ import annotations

import pytest

from gateway.worker.starts import REPEAT_LOG_SECONDS, Backoff, StartTimes


def test_what_fails_again_is_tried_ever_later_up_to_ten_seconds() -> None:
    backoff, now, delays = Backoff(), 0.0, []
    for _ in range(9):
        delays.append(backoff.failed(now, now + 0.1))
        assert backoff.wait(now + 0.1) == delays[-1]
        now += 0.1 + delays[-1]
        assert backoff.wait(now) < 1e-9
    assert [round(delay, 6) for delay in delays] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]


def test_attempts_that_were_made_together_count_once() -> None:
    backoff = Backoff()
    delays = [backoff.failed(0.0, 0.1 + n / 100) for n in range(20)]
    assert delays[0] == pytest.approx(0.2) and backoff.failures == 1
    assert max(delays) == delays[0] and abs(delays[-1] - 0.01) < 1e-9


def test_after_a_worker_that_stays_the_next_failure_is_the_first() -> None:
    backoff = Backoff()
    backoff.failed(0.0, 0.1)
    backoff.failed(0.3, 0.4)
    backoff.succeeded()
    assert backoff.wait(0.5) == 0.0 and backoff.failed(0.5, 0.6) == pytest.approx(0.2)


def test_a_reason_that_lasts_is_told_once_a_minute() -> None:
    backoff = Backoff()
    times = [n * 10.0 for n in range(13)]
    assert [t for t in times if backoff.should_tell("no model", t)] == [0.0, REPEAT_LOG_SECONDS, 2 * REPEAT_LOG_SECONDS]
    assert backoff.should_tell("exit status 3", 121.0)
    backoff.succeeded()
    assert backoff.should_tell("exit status 3", 122.0)


def test_how_long_a_start_takes() -> None:
    times = StartTimes()
    assert times.longest(()) == 0.0
    assert times.longest([0.5, 2.0]) == 2.0
    times.add(15.0)
    assert times.longest([2.0]) == 15.0 and times.longest([20.0]) == 20.0
    for _ in range(10):
        times.add(1.0)
    assert times.longest([]) == 1.0
