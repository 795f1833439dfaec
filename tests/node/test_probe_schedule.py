"""Who is asked when: spread, free ones often, busy ones seldom, and never more than so many a second."""

from __future__ import annotations

from collections import Counter

from gateway.node.probe_schedule import BUSY_ROUNDS, MIN_SPACING, ProbeSchedule


def asked(schedule: ProbeSchedule, since: float, until: float, busy: set[int] = frozenset()) -> list[tuple[float, int]]:
    """All that were asked in this time, in steps of 20 ms."""
    found, now = [], since
    while now < until:
        for n in schedule.due(now):
            found.append((now, n))
            if n in busy:
                schedule.ask_seldom(n, now)
        now += 0.02
    return found


def test_all_are_asked_at_once_and_then_once_in_a_round():
    schedule = ProbeSchedule(10, 2.0, 100.0)
    assert schedule.first_round(100.01)
    first = asked(schedule, 100.0, 100.1)
    assert sorted(n for _, n in first) == list(range(10))
    assert not schedule.first_round(100.1)
    counts = Counter(n for _, n in asked(schedule, 102.0, 122.0))
    assert set(counts) == set(range(10)) and set(counts.values()) == {10}


def test_they_are_spread_over_the_round():
    schedule = ProbeSchedule(100, 2.0, 0.0)
    asked(schedule, 0.0, 2.0)
    at_a_time = Counter(round(at, 3) for at, _ in asked(schedule, 2.0, 10.0))
    assert max(at_a_time.values()) <= 2


def test_busy_ones_are_asked_in_every_fifth_round_only():
    schedule = ProbeSchedule(10, 2.0, 0.0)
    asked(schedule, 0.0, 2.0)
    counts = Counter(n for _, n in asked(schedule, 2.0, 102.0, {3}))
    assert counts[4] == 50
    assert counts[3] in (50 // BUSY_ROUNDS, 50 // BUSY_ROUNDS + 1)


def test_a_thousand_are_never_more_than_so_many_a_second():
    schedule = ProbeSchedule(1000, 2.0, 0.0)
    every = [at for at, _ in asked(schedule, 0.0, 60.0)]
    seconds = Counter(int(at) for at in every)
    assert max(seconds.values()) <= 1 / MIN_SPACING + 20
    assert 4.4 < schedule.every < 4.6  # less than uvicorn keeps a connection


def test_one_in_a_hurry_is_asked_next_and_the_others_as_before():
    schedule = ProbeSchedule(10, 2.0, 0.0)
    asked(schedule, 0.0, 2.0)
    schedule.ask_seldom(3, 2.0)
    schedule.hurry(3, 2.3)
    assert 3 in schedule.due(2.3)
    counts = Counter(n for _, n in asked(schedule, 2.32, 4.3))
    assert max(counts.values()) == 1


def test_a_standstill_is_no_burst_of_all_rounds_that_were_missed():
    schedule = ProbeSchedule(10, 2.0, 0.0)
    asked(schedule, 0.0, 2.0)
    assert len(schedule.due(100.0)) == 10
    assert len(asked(schedule, 100.0, 101.9)) <= 10


def test_none_is_never_due():
    schedule = ProbeSchedule(0, 2.0, 0.0)
    assert schedule.due(100.0) == []
    assert schedule.next == float("inf")
