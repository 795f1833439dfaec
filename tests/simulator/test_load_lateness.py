"""Distributions in bounded memory, and the load's own lateness."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.load.lateness import TOLERANCE, Lateness, Tolerance
from gateway.simulator.load.percentiles import Percentiles
from tests.kit.waiting import until


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_share_is_right_to_one_per_cent(values: list[float], share: float) -> None:
    spread = Percentiles()
    spread.note_all(values)
    exact = sorted(values)[math.ceil(share * len(values)) - 1]
    assert spread.share(share) == pytest.approx(exact, rel=0.011, abs=0.011)
    assert (spread.count, spread.max, spread.min) == (len(values), max(values), min(values))


@given(st.lists(st.floats(0, 1e4), max_size=50), st.lists(st.floats(0, 1e4), max_size=50))
def test_spreads_add_up(first: list[float], second: list[float]) -> None:
    one, two, both = Percentiles(), Percentiles(), Percentiles()
    one.note_all(first)
    two.note_all(second)
    both.note_all(first + second)
    one.add(two)
    assert [one.share(x / 10) for x in range(11)] == [both.share(x / 10) for x in range(11)]
    assert one.sum == pytest.approx(both.sum)


def test_bins_are_few_whatever_is_noted() -> None:
    spread = Percentiles()
    spread.note_all(x / 1000 for x in range(0, 1_000_000, 10))
    assert len(spread._bins) < 1200
    assert spread.p50 == pytest.approx(500, rel=0.01)


def test_nothing_has_no_percentiles() -> None:
    spread = Percentiles()
    assert spread.p50 is None
    assert spread.p99 is None
    assert spread.to_json() == {"count": 0}
    spread.note(-1.0)  # a timer may fire a little early
    assert spread.to_json() == {"count": 1, "mean": 0.0, "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}


def test_one_who_was_on_time_has_no_faults() -> None:
    lateness = Lateness()
    assert lateness.faults(TOLERANCE) == []
    for spread in (lateness.frames, lateness.loop, lateness.starts):
        spread.note_all([1.0] * 1000)
    assert lateness.faults(TOLERANCE) == []


@pytest.mark.parametrize(
    ("which", "values", "fault"),
    [
        ("frames", [25.0] * 10, "frames were sent 25 ms late (p99; 10 allowed)"),
        ("frames", [1.0] * 1000 + [250.0], "a frame was sent 250 ms late (200 allowed)"),
        ("loop", [12.0], "its event loop lagged 12 ms (p99; 10 allowed)"),
        ("starts", [300.0], "calls were started 300 ms late (p99; 100 allowed)"),
    ],
)
def test_each_lateness_is_a_fault_of_its_own(which: str, values: list[float], fault: str) -> None:
    lateness = Lateness()
    getattr(lateness, which).note_all(values)
    assert lateness.faults(TOLERANCE) == [fault]
    assert lateness.faults(Tolerance(1e9, 1e9, 1e9, 1e9)) == []


async def test_a_blocked_loop_is_seen() -> None:
    lateness = Lateness()
    lateness.watch_loop()
    await until(lambda: lateness.loop.count)
    before = lateness.loop.count
    time.sleep(0.3)
    await until(lambda: lateness.loop.count > before)
    lateness.stop()
    lateness.stop()
    # Each tick that the pause has swallowed counts: 280, 260, 240 … ms, and more where the machine paused us, too.
    assert lateness.loop.max >= 280
    assert lateness.loop.count - before >= 15
