"""What becomes of an event after an attempt."""

from __future__ import annotations

import pytest

from gateway.outbox.verdict import DELAYS, JITTER, Dead, Delivered, Reply, Retry, verdict


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_any_status_of_success_delivers(status: int) -> None:
    assert verdict(Reply(status), 1, 0.5) == Delivered()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(500), "status 500"),
        (Reply(404), "status 404"),
        (Reply(302), "status 302: redirects are not followed"),
        (Reply(0, "no connection"), "no connection"),
    ],
)
def test_what_failed_is_tried_again(reply: Reply, error: str) -> None:
    assert verdict(reply, 1, 0.5) == Retry(5.0, error)


def test_attempts_go_on_for_a_day() -> None:
    delays = []
    for attempts in range(1, 12):
        match verdict(Reply(503), attempts, 0.5):
            case Retry(delay):
                delays.append(delay)
            case Dead(error):
                assert error == "status 503"
                break
    assert delays == list(DELAYS)
    assert sum(delays) * (1 + JITTER) > 24 * 3600 > sum(delays)


def test_gone_is_dead_at_once() -> None:
    assert verdict(Reply(410), 1, 0.5) == Dead("status 410")


def test_delays_are_spread() -> None:
    assert verdict(Reply(500), 3, 0.0) == Retry(108.0, "status 500")
    assert verdict(Reply(500), 3, 1.0) == Retry(132.0, "status 500")


@pytest.mark.parametrize(("asked", "delay"), [(2.0, 5.0), (60.0, 60.0), (1e9, 3600.0)])
def test_a_receiver_may_ask_for_more_time_but_not_for_ever(asked: float, delay: float) -> None:
    assert verdict(Reply(429, retry_after=asked), 1, 0.5) == Retry(delay, "status 429")
