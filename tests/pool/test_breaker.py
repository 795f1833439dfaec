"""The breaker: time is passed in."""

from __future__ import annotations

import pytest

from gateway.errors import RegistryUnavailable
from gateway.pool.breaker import REFUSE_SECONDS, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(clock)


def test_while_all_is_well_every_question_is_asked(breaker):
    for _ in range(3):
        breaker.begin()
    breaker.succeeded()
    breaker.check()


def test_after_a_failure_no_question_is_asked_for_a_second(breaker, clock):
    breaker.failed(breaker.begin())
    for _ in range(3):
        with pytest.raises(RegistryUnavailable):
            breaker.check()
    clock.now += REFUSE_SECONDS - 0.01
    with pytest.raises(RegistryUnavailable):
        breaker.begin()


def test_then_one_probe_goes_first(breaker, clock):
    breaker.failed(breaker.begin())
    clock.now += REFUSE_SECONDS
    breaker.begin()
    with pytest.raises(RegistryUnavailable):
        breaker.begin()
    breaker.succeeded()
    breaker.begin()


def test_a_probe_that_fails_closes_the_door_again(breaker, clock):
    breaker.failed(breaker.begin())
    clock.now += REFUSE_SECONDS
    breaker.failed(breaker.begin())
    with pytest.raises(RegistryUnavailable):
        breaker.begin()
    clock.now += REFUSE_SECONDS
    breaker.begin()


def test_a_probe_that_was_given_up_lets_the_next_one_try(breaker, clock):
    breaker.failed(breaker.begin())
    clock.now += REFUSE_SECONDS
    breaker.begin()
    breaker.gave_up()
    breaker.begin()
