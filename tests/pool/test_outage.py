"""Outages: time is passed in."""

from __future__ import annotations

import math

from gateway.pool.outage import OUTAGE_AFTER, Outage


def test_without_an_outage_there_is_no_grace():
    assert Outage().seconds_since_outage(5.0) == math.inf


def test_a_short_failure_is_no_outage():
    outage = Outage()
    outage.missed(10.0)
    outage.answered(10.0 + OUTAGE_AFTER - 0.01)
    assert outage.seconds_since_outage(11.0) == math.inf


def test_an_outage_lasts_from_its_first_failure_and_grace_from_its_end():
    outage = Outage()
    for began in (10.0, 10.6, 11.2):
        outage.missed(began)
    assert outage.seconds_since_outage(11.3) == 0.0
    outage.answered(12.0)
    assert outage.seconds_since_outage(15.0) == 3.0
    outage.answered(16.0)
    assert outage.seconds_since_outage(16.0) == 4.0


def test_a_server_that_forgot_all_gives_grace():
    outage = Outage()
    outage.forgot(10.0)
    assert outage.seconds_since_outage(11.0) == 1.0
