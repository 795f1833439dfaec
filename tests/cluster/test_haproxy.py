"""40 calls of four carriers behind HAProxy, and what the promises say of a node, a worker, a deploy that ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.cluster.rig import CARRIERS, Cluster
from tests.cluster.table import PRINTED, Outcome

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

CALLS = 40
RAMP = 3.0
"""Seconds in which they ring: 13 a second."""
DETECTED = 2.2
"""Seconds until HAProxy, as delivered, cuts the streams of a node that does not answer: 0.5 + 2 · 0.8, and a timer."""


SIZE: dict[str, Any] = {"haproxy": True, "warm": 12, "most": 60, "drain_seconds": 2.0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster"), **SIZE) as running:
        yield running


async def under_load(
    cluster: Cluster, what: str, do: Callable[[], Awaitable[object]], *, seconds: float = 10.0, outlasts: bool = False
) -> Outcome:
    """Let something happen to 40 calls that talk; what became of them. outlasts: some have ended when it has."""
    cluster.forget_notes()
    calls = cluster.start(*(CARRIERS * (CALLS // len(CARRIERS))), seconds=seconds, within=RAMP)
    await cluster.talking(CALLS)
    await asyncio.sleep(1)
    assert (await cluster.slots()).used == CALLS
    await do()
    exact = 0.0 if outlasts else await cluster.until_used(CALLS)
    outcome = Outcome(what, await calls)
    outcome.slots = max(exact, await cluster.until_used(0))
    PRINTED.append(outcome)
    return outcome


def assert_kept(outcome: Outcome) -> None:
    """No call is lost, nobody hears two bots, every caller was served to the end."""
    assert not outcome.lost, "\n".join(map(str, outcome.lost))
    assert not outcome.two_bots, "\n".join(map(str, outcome.two_bots))
    assert outcome.hit, "nothing happened"


@pytest.mark.parametrize("run", range(1, 6))
async def test_gateway_is_killed(cluster: Cluster, run: int) -> None:
    async def kill() -> None:
        cluster.gateways["a"].kill()

    outcome = await under_load(cluster, f"gateway SIGKILL, run {run}", kill)
    await cluster.restart("a")
    assert_kept(outcome)
    assert len(outcome.same_bot) == len(outcome.hit)
    assert outcome.gap(0.99) < 3.0


async def test_gateway_hangs(cluster: Cluster) -> None:
    async def stop() -> None:
        cluster.stop("a")
        await asyncio.sleep(5)
        cluster.go_on("a")

    outcome = await under_load(cluster, "gateway SIGSTOP, 5 s", stop, seconds=12)
    assert cluster.haproxy is not None
    await cluster.haproxy.until("a", "up")
    assert_kept(outcome)
    assert len(outcome.same_bot) == len(outcome.hit)
    assert outcome.gap(0.99) < 3.0 + DETECTED


async def test_gateway_in_a_black_hole(tmp_path: Path) -> None:
    """It lives, holds its links and its claims, and hears nothing of its carriers any more."""
    async with Cluster(tmp_path, holes=True, **SIZE) as cluster:

        async def swallow() -> None:
            cluster.holes["a"].swallow("a")
            await asyncio.sleep(6)
            cluster.holes["a"].let_pass("a")

        outcome = await under_load(cluster, "gateway in a black hole, 6 s", swallow, seconds=12)
    assert_kept(outcome)
    assert len(outcome.same_bot) == len(outcome.hit)
    assert outcome.gap(0.99) < 3.0 + DETECTED


async def test_half_the_workers_are_killed(cluster: Cluster) -> None:
    async def kill() -> None:
        assert len(cluster.kill_workers(0.5)) == CALLS // 2

    outcome = await under_load(cluster, "half the workers SIGKILL", kill)
    assert_kept(outcome)
    assert len(outcome.hit) == len(outcome.resumed) == len(outcome.with_state) == CALLS // 2
    assert outcome.gap(0.99) < 2.0
    assert outcome.slots < 15.0


async def test_rolling_restart(cluster: Cluster) -> None:
    """SIGTERM to each gateway and each host in turn. A gateway gives away after `drain_seconds` what has not ended; a
    host waits for its calls.
    """

    async def roll() -> None:
        for name, gateway in cluster.gateways.items():
            gateway.terminate()
            assert await gateway.ended() == 0
            await cluster.restart(name)
        for name, host in cluster.hosts.items():
            host.terminate()
            assert await host.ended(40) == 0
            await cluster.restart(name)

    outcome = await under_load(cluster, "rolling restart", roll, seconds=30, outlasts=True)
    assert_kept(outcome)
    assert len(outcome.same_bot) == len(outcome.hit)
    assert outcome.gap(0.99) < 1.0
