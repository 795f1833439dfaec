"""From a claim to an open link: past workers and hosts that do not answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace

import pytest

from gateway.errors import RegistryUnavailable
from gateway.node.services import Fallback, Services
from gateway.pool.registry import Host, Stale
from gateway.protocol.codes import EndReason
from gateway.protocol.workers import Worker
from gateway.sessions.worker_search import ASK_AGAIN, OpenLink, Unavailable, WorkerRequest, acquire_worker, next_look
from tests.kit.node import PATIENCE, SERVICE, start
from tests.kit.waiting import until


@pytest.fixture
def silent():
    """The URL of a worker that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/ws"


@contextlib.asynccontextmanager
async def away(gateway):
    """The registry, until the end of the `with`."""
    gateway.memory.down = True
    try:
        yield
    finally:
        gateway.memory.down = False


def hold_nobody(gateway) -> None:
    """`when_full = "busy"`."""
    [service] = gateway.node.services
    gateway.node.services = Services([replace(service, when_full=Fallback("busy"))])


async def two_hosts(gateway, *first: str, cap: int = 9) -> None:
    """The bots' host becomes one of two: `big`, which is preferred as it is emptier, with workers at these urls. Of the
    other, only its last worker is to be had.
    """
    registry = gateway.memory
    await registry.claim(SERVICE, "somebody else's")
    workers = tuple(Worker(f"big/w{n}", url, "ready") for n, url in enumerate(first))
    await registry.put_host(Host("big", 1, SERVICE, "pcm", cap, workers, "link-key"))


async def test_the_next_worker_is_of_another_host_than_one_lost_without_a_word(gateway):
    await two_hosts(gateway, "ws://127.0.0.1:9/ws", "ws://127.0.0.1:9/ws", "ws://127.0.0.1:9/ws")
    gateway.node.registry.suspect_host("big")
    carrier = await gateway.call()
    await gateway.bots[1].until("start")
    assert carrier.code is None


async def test_a_host_that_is_back_is_trusted(gateway):
    gateway.node.registry.suspect_host("h")
    assert gateway.node.registry.suspected() == {"h"}
    gateway.node.registry.trust_host("h")
    await gateway.call()
    async with asyncio.timeout(PATIENCE):
        while not any(bot.of("start") for bot in gateway.bots):
            await asyncio.sleep(0.005)


async def test_after_an_unanswering_worker_the_next_is_sought_on_another_host(gateway, silent):
    """Its whole machine may be gone, and three tries of a second each are all that a caller has."""
    gateway.node.limits = replace(gateway.node.limits, link_timeout=0.1)
    await two_hosts(gateway, *[silent] * 8)
    await gateway.call()
    await gateway.bots[1].until("start")


async def test_after_an_unanswering_worker_its_host_is_better_than_none(gateway, silent):
    gateway.node.limits = replace(gateway.node.limits, link_timeout=0.1)
    registry = gateway.memory
    [state] = registry._hosts.values()
    good, hung = state.host.workers
    hung = replace(hung, url=silent)
    await registry.put_host(replace(state.host, workers=(hung, good)))
    carrier = await gateway.open(await gateway.stream_path())
    carrier.send(start())
    await gateway.bots[0].until("start")


async def test_a_call_does_not_wait_for_a_worker_of_a_host_that_has_left(gateway):
    """The host had a unit left, and no worker yet."""
    registry = gateway.memory
    await two_hosts(gateway)
    await gateway.call("CA1")
    await gateway.bots[1].until("start")
    await gateway.call("CA2")
    async with asyncio.timeout(PATIENCE):
        while len(gateway.sessions) < 2:
            await asyncio.sleep(0.005)
    assert not gateway.bots[0].of("start")
    await registry.release("somebody else's", 0)
    gateway.node.registry.suspect_host("big")
    await gateway.bots[0].until("start")


async def test_a_node_that_wakes_to_a_dead_link_leaves_a_call_that_another_has(gateway):
    """It was stopped for some seconds, and its carrier's stream went to another node meanwhile."""
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    [session] = gateway.sessions
    registry = gateway.memory
    again = await registry.claim(SERVICE, session.id)
    elsewhere = await registry.confirm(session.id, again.attempt)
    session.link_dead()
    assert await carrier.until_closed() == 1000
    assert sum(len(bot.of("start")) for bot in gateway.bots) == 1
    assert await registry.renew({session.id: elsewhere.fence}) == set()
    assert bot.closed_with is not None


async def test_a_dead_link_is_replaced_while_no_registry_says_who_has_the_call(gateway):
    await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    registry = gateway.memory
    look, asked, fence = registry.get_claim, [], session.claim.fence

    async def away(*about):
        asked.append(about)
        registry.get_claim = look
        raise RegistryUnavailable("away")

    registry.get_claim = away
    session.link_dead()
    await gateway.started(2)
    assert asked == [(session.id, fence)]


async def test_a_caller_who_waits_for_a_worker_outlasts_a_registry_outage(gateway):
    registry = gateway.memory
    [state] = registry._hosts.values()
    ready, _ = state.host.workers
    await registry.put_host(replace(state.host, workers=()))
    carrier = await gateway.call()
    await until(lambda: state.slots and all(held.fence for held in state.slots.values()))
    async with away(gateway):
        await asyncio.sleep(2 * ASK_AGAIN)
    await registry.put_host(replace(state.host, workers=(ready,)))
    await gateway.started()
    assert carrier.code is None


async def test_a_call_that_loses_its_worker_in_an_outage_gets_the_next(gateway):
    hold_nobody(gateway)
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    async with away(gateway):
        bot.socket.abort()
        await until(lambda: bot.closed_with is not None)
        await asyncio.sleep(2 * ASK_AGAIN)
    await gateway.started(2)
    assert carrier.code is None


async def test_a_caller_without_a_bot_is_let_go_when_the_registry_stays_away(gateway):
    hold_nobody(gateway)
    gateway.node.limits = replace(gateway.node.limits, outage_grace=0.1)
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    async with away(gateway):
        bot.socket.abort()
        assert await carrier.until_closed() == 1000


async def test_a_wait_for_a_worker_that_is_avoided_takes_no_time_from_the_search(gateway):
    """Its host starts the claim's worker, and reports one first that has failed this session."""
    gateway.node.limits = replace(gateway.node.limits, connect_all=1.0, reconnect_after=0.02)
    registry, service = gateway.memory, "slow.acme"
    [state] = registry._hosts.values()
    failed, good = (replace(state.host.workers[0], id=name) for name in ("failed", "good"))
    await registry.put_host(Host("slow", 1, service, "pcm", 1, (), "link-key"))
    hold_until = asyncio.get_running_loop().time() + PATIENCE
    request = WorkerRequest(service, "s1", {}, lambda _claim: None, hold_until=hold_until)
    search = asyncio.create_task(acquire_worker(gateway.node, request, None, avoid=frozenset({"failed"})))
    await asyncio.sleep(1.2)  # longer than the search may take without the wait
    await registry.beat("slow", 1, (failed,))
    await asyncio.sleep(0.1)
    await registry.beat("slow", 1, (replace(failed, state="busy"), good))
    found = await search
    assert isinstance(found, OpenLink) and found.claim.worker.id == "good"
    found.link.close()
    await found.link.gone.wait()


def test_a_worker_that_takes_long_to_start_is_looked_for_ever_more_seldom():
    """A hundred callers of a cold service would ask the registry 5,000 times a second."""
    waited, looks = 0.0, 0
    while waited < 30.0:
        pause = next_look(waited)
        assert pause <= max(0.02, waited / 10), "no caller waits a tenth longer for it"
        waited, looks = waited + pause, looks + 1
    assert looks < 160


async def test_claims_that_are_never_confirmed_are_not_asked_for_without_end(gateway):
    gateway.node.limits = replace(gateway.node.limits, outage_grace=2.5 * ASK_AGAIN)
    registry, asked = gateway.memory, []

    async def gone(*about):
        asked.append(about)
        return Stale(spent=False)

    registry.confirm = gone
    request = WorkerRequest(SERVICE, "s1", {}, lambda _claim: None)
    found = await acquire_worker(gateway.node, request, None)
    assert found == Unavailable(EndReason.NO_WORKER)
    assert 2 <= len(asked) <= 5
