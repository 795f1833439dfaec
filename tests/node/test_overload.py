"""The loop's lag, and when it is too much: one pause is not, a wall is, and flapping helps nobody."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.media.types import Counts
from gateway.node.node import Node
from gateway.node.overload import LoopLagMonitor, Overload, OverloadLimits
from gateway.node.services import Services
from gateway.node.tokens import Signer
from gateway.pool.client import RegistryClient
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.registry import Leases

LIMITS = OverloadLimits()
TICK = 0.02


def run(overload: Overload, pauses: list[float], start: float = 0.0) -> float:
    """Ticks due every 20 ms in a loop whose iterations take so long each; returns the time after them."""
    now = due = start
    for pause in pauses:
        now = max(now + pause, due)
        overload.note(now - due, now)
        due += TICK
        if due < now - 1.0:
            due = now + TICK
    return now


def test_a_loop_on_time_is_not_overloaded():
    overload = Overload()
    run(overload, [0.001] * 500)
    assert not overload.active
    assert overload.mean < 0.001


@pytest.mark.parametrize("pause", [0.1, 0.3, 0.45])
def test_one_pause_is_not_overload(pause):
    overload = Overload()
    now = run(overload, [0.001] * 50)
    run(overload, [pause] + [0.0001] * 100, now)
    assert not overload.active
    assert overload.mean < LIMITS.enter


def test_a_loop_with_no_time_to_spare_is_overloaded_within_two_seconds():
    overload = Overload()
    assert run(overload, [0.03] * 60) < 2.0
    assert overload.active


def test_pauses_one_after_another_are_overload():
    overload = Overload()
    run(overload, [0.3] * 10)
    assert overload.active


def test_a_limit_of_the_most_that_counts_is_never_reached():
    overload = Overload(OverloadLimits(enter=LIMITS.most))
    run(overload, [3.0] * 1000)
    assert overload.mean > 0.99
    assert not overload.active


def test_it_is_over_only_well_below_the_limit():
    overload, now = Overload(), 0.0
    while not overload.active:
        now += TICK
        overload.note(0.15, now)
    left = None
    while overload.active:
        now += TICK
        left = overload.mean
        overload.note(0.0, now)
    assert left > LIMITS.leave >= overload.mean
    assert LIMITS.leave < LIMITS.enter


def test_between_the_limits_nothing_changes():
    between = (LIMITS.enter + LIMITS.leave) / 2
    calm, strained = Overload(), Overload()
    strained.mean, strained.active = LIMITS.enter + 0.01, True
    for n in range(500):
        calm.note(between, n * TICK)
        strained.note(between, n * TICK)
    assert (calm.active, strained.active) == (False, True)


def test_after_a_suspension_it_recovers_within_three_seconds():
    overload = Overload()
    overload.note(0.0, 0.0)
    overload.note(3600.0, 3600.0)
    now = 3600.0
    while overload.active:
        now += TICK
        overload.note(0.0, now)
    assert 0 < now - 3600.0 < 3.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 100)), max_size=60))
def test_the_mean_stays_within_what_was_noted(ticks):
    overload, now = Overload(), 0.0
    for lag, after in ticks:
        now += after
        assert overload.note(lag, now) is overload.active
        assert 0.0 <= overload.mean <= LIMITS.most
    if not any(lag > LIMITS.enter for lag, _ in ticks):
        assert not overload.active


@pytest.fixture
def node():
    registry = MemoryRegistry(Leases())
    return Node("http://127.0.0.1:1", RegistryClient(registry), Signer((b"k" * 16,)), Services([]), {})


def test_the_pulse_tells_the_node_and_its_metrics(node):
    pulse = LoopLagMonitor(node)
    for n in range(200):
        node.ticker.lag = 0.2
        pulse.tick(n * TICK)
    assert node.overloaded
    assert node.metrics.lag.count == 200
    for n in range(200, 400):
        node.ticker.lag = 0.0
        pulse.tick(n * TICK)
    assert not node.overloaded


class Bridge:
    """Of a call; remembers when it was looked at."""

    counts = Counts()

    def __init__(self) -> None:
        self.sampled: list[float] = []

    def unplayed(self, now: float) -> float:
        self.sampled.append(now)
        return 0.0


def test_the_pulse_samples_calls_once_a_second(node):
    pulse, bridge = LoopLagMonitor(node), Bridge()
    with node.metrics.call("twilio", "a.b", bridge, 0.0):
        for n in range(151):
            pulse.tick(n * TICK)
    assert [round(at) for at in bridge.sampled] == [0, 1, 2, 3]
