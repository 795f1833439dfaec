"""Breaker and outage: time is passed in."""

from __future__ import annotations

import math

import pytest

from gateway.errors import RegistryUnavailable
from gateway.pool.breaker import MISSED, OPEN, Breaker, Outage


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


def test_while_all_is_well_everybody_asks(breaker):
    for _ in range(3):
        breaker.begin()
    breaker.succeeded()
    breaker.check()


def test_after_a_failure_nobody_asks_for_a_second(breaker, clock):
    breaker.failed(breaker.begin())
    for _ in range(3):
        with pytest.raises(RegistryUnavailable):
            breaker.check()
    clock.now += OPEN - 0.01
    with pytest.raises(RegistryUnavailable):
        breaker.begin()


def test_then_one_probe_goes_first(breaker, clock):
    breaker.failed(breaker.begin())
    clock.now += OPEN
    breaker.begin()
    with pytest.raises(RegistryUnavailable):
        breaker.begin()
    breaker.succeeded()
    breaker.begin()


def test_a_probe_that_fails_closes_the_door_again(breaker, clock):
    breaker.failed(breaker.begin())
    clock.now += OPEN
    breaker.failed(breaker.begin())
    with pytest.raises(RegistryUnavailable):
        breaker.begin()
    clock.now += OPEN
    breaker.begin()


def test_a_probe_that_was_given_up_lets_the_next_one_try(breaker, clock):
    breaker.failed(breaker.begin())
    clock.now += OPEN
    breaker.begin()
    breaker.gave_up()
    breaker.begin()


def test_who_never_missed_it_forgives_nothing():
    assert Outage().back(5.0) == math.inf


def test_a_short_failure_is_no_outage():
    outage = Outage()
    outage.missed(10.0)
    outage.answered(10.0 + MISSED - 0.01)
    assert outage.back(11.0) == math.inf


def test_an_outage_is_counted_from_its_first_failure_and_forgiven_from_its_end():
    outage = Outage()
    for began in (10.0, 10.6, 11.2):
        outage.missed(began)
    assert outage.back(11.3) == 0.0
    outage.answered(12.0)
    assert outage.back(15.0) == 3.0
    outage.answered(16.0)
    assert outage.back(16.0) == 4.0


def test_a_server_that_forgot_is_forgiven():
    outage = Outage()
    outage.forgot(10.0)
    assert outage.back(11.0) == 1.0
