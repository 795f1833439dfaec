"""Processes die under running calls, and the calls go on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tests.cluster.balancer import CHECK_EVERY, CHECK_FAILURES, CHECK_TIMEOUT
from tests.cluster.heard import tones
from tests.cluster.rig import CARRIERS, HUNG, Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

DETECTED = CHECK_FAILURES * (CHECK_EVERY + CHECK_TIMEOUT)
"""Seconds until the balancer has seen that a node does not answer."""


@pytest.fixture(autouse=True)
def _from_here(cluster: Cluster) -> Iterator[None]:
    cluster.forget_notes()
    yield
    cluster.balancer.preferred = ""


async def test_gateway_dies_mid_call(cluster: Cluster) -> None:
    """SIGKILL of the node that has the streams: each call comes to the other by /resume, and its bot goes on there."""
    cluster.balancer.preferred = "a"
    calls = cluster.start(*CARRIERS, seconds=4)
    await cluster.talking(4)
    await asyncio.sleep(1)
    cluster.gateways["a"].kill()
    for call in await calls:
        assert call.whole, call
        assert len(call.report.opened) == 2, call
        assert call.gap < 3.0, call
        assert call.statuses == ["reattached"], call
        assert len(set(call.pids)) == len(call.starts) == 1, call
        assert len(call.heard) == 1, call
    await cluster.until_used(0)
    await cluster.restart("a")


async def test_worker_dies_mid_call(cluster: Cluster) -> None:
    """SIGKILL of each call's worker: another goes on, with `resumed` and the `state` that was left."""
    calls = cluster.start(*CARRIERS, seconds=4)
    await cluster.talking(4)
    await asyncio.sleep(1)
    killed = cluster.kill_workers()
    for call in await calls:
        assert call.whole, call
        assert len(call.report.opened) == 1, call
        assert call.gap < 2.0, call
        first, second = call.starts
        assert first["pid"] in killed, call
        assert (second["resumed"], second["attempt"], second["state"]) == (True, 2, f"{first['pid']},"), call
        assert call.heard == tones(call.pids), call
    await cluster.until_used(0)


async def test_worker_hangs_mid_call(cluster: Cluster) -> None:
    """SIGSTOP of each call's worker: it does not answer its ping, another takes the call; woken, it finds itself fenced
    off, and is not heard again.
    """
    calls = cluster.start(*CARRIERS, seconds=6.5)
    await cluster.talking(4)
    await asyncio.sleep(1)
    hung = cluster.signal_workers(signal.SIGSTOP)
    await cluster.noted("start", 8)
    await asyncio.sleep(1)
    for pid in hung:
        os.kill(pid, signal.SIGCONT)
    for call in await calls:
        assert call.whole, call
        assert call.gap < 2.0 + HUNG, call
        assert [start["resumed"] for start in call.starts] == [False, True], call
        assert call.heard == tones(call.pids), call
    await cluster.until_used(0)


async def test_gateway_hangs_mid_call(cluster: Cluster) -> None:
    """SIGSTOP of the node that has the streams, and SIGCONT when its calls live elsewhere: it lets go of them."""
    cluster.balancer.preferred = "a"
    calls = cluster.start(*CARRIERS, seconds=6)
    await cluster.talking(4)
    await asyncio.sleep(1)
    cluster.stop("a")
    await cluster.noted("status", 4)
    cluster.go_on("a")
    for call in await calls:
        assert call.whole, call
        assert call.gap < 3.0 + DETECTED, call
        assert call.statuses == ["reattached"], call
        assert len(call.starts) == len(call.heard) == 1, call
    await cluster.until_used(0)
    await cluster.balancer.until("a", "up")


@pytest.mark.cluster
async def test_registry_forgets_all_between_two_deaths(cluster: Cluster) -> None:
    """Redis restarts empty under calls that have been resumed once. Their node tells it again what it must know, so
    that the next node's death is survived as the first was.
    """
    cluster.balancer.preferred = "a"
    calls = cluster.start(*CARRIERS, seconds=30)  # two deaths and two returns, on a busy machine, too
    await cluster.talking(4)
    cluster.gateways["a"].kill()
    await cluster.noted("status", 4)
    await cluster.restart("a")
    cluster.redis.kill()
    cluster.redis.start()
    await cluster.until_known({note["session"] for note in cluster.notes() if note["what"] == "start"})
    cluster.gateways["b"].kill()
    await cluster.noted("status", 8)
    await cluster.restart("b")
    for call in await calls:
        assert call.whole, call
        assert len(call.report.opened) == 3, call
        assert len(call.starts) == len(call.heard) == 1, call
    await cluster.until_used(0)
