"""10,000 calls on a virtual clock with everything that can die dying: no slot, claim, place in the queue, fact, task or
descriptor is left, and no session.

The conductor, its door, the registry in memory and the bridge are the real ones; sockets are in memory, and the tick is
slower than 20 ms, as nobody listens.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections import Counter

import pytest
from pydantic import SecretStr

import gateway.media.ticker
import gateway.sessions.open_link
from gateway.carriers import CARRIERS
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.node.services import Fallback, Service, Services
from gateway.node.tokens import Signer
from gateway.pool.client import RegistryClient
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.registry import Leases
from gateway.sessions.lease_renewal import renew_claims, resend_after_registry_loss
from gateway.sessions.session import Session
from gateway.sessions.table import Sessions
from gateway.streams.authorize import UpgradeAuthorizer
from tests.admission.virtual import VirtualLoop
from tests.admission.worldwide import KEY, Host, World
from tests.kit.node import SERVICE

EPOCH = 1_760_000_000.0
RATE = 8.0
"""Calls a second: about as many as the slots can take, so that there is always a queue now and then."""
PUBLIC_URL = "http://127.0.0.1:1"


@pytest.mark.parametrize("calls", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nothing_is_left(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.media.ticker, "TICK", 0.25)
    bugs = bugs_of_tasks(monkeypatch)
    began, before = time.monotonic(), len(os.listdir("/proc/self/fd"))
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        happened, lasted = runner.run(live_through(calls, monkeypatch))
    assert bugs == []
    assert len(os.listdir("/proc/self/fd")) == before
    gc.collect()
    print(f"{calls} calls, {lasted:.0f} s in {time.monotonic() - began:.1f} s: {dict(happened)}")
    assert not [one for one in gc.get_objects() if isinstance(one, Session)]
    for what in (
        "bot dies",
        "bot hangs",
        "bot raises",
        "is cut off",
        "comes back",
        "never starts",
        "hosts died",
        "held",
    ):
        assert happened[what] > 0, f"{what}: it was not tried"


def bugs_of_tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What tasks of the node have raised, as it is told: they are only logged, and the calls go on somehow."""
    bugs: list[str] = []
    done = Node._done

    def noting(node: Node, task: asyncio.Task[object]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            bugs.append(f"{task.get_name().split()[0]}: {error!r}")
        done(node, task)

    monkeypatch.setattr(Node, "_done", noting)
    return bugs


async def live_through(calls: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], float]:
    loop = asyncio.get_running_loop()

    def wall() -> float:
        return EPOCH + loop.time()

    registry = MemoryRegistry(Leases(), clock=wall, unix_time=wall)
    node = Node(
        public_url=PUBLIC_URL,
        registry=RegistryClient(registry, unix_time=wall),
        signer=Signer((b"a secret of the tests",)),
        services=Services([Service(SERVICE, default=True, when_full=Fallback("hold"), max_hold=8.0, wrapup=5.0)]),
        carriers={name: entry.carrier(None, public_url=PUBLIC_URL, dev=True) for name, entry in CARRIERS.items()},
        unix_time=wall,
    )
    sessions = Sessions(node)
    world = World(sessions, UpgradeAuthorizer(sessions, local_keys=(SecretStr(KEY),), dev=True), seed=calls)
    monkeypatch.setattr(gateway.sessions.open_link, "connect", world.dial)
    idle = len(asyncio.all_tasks())
    node.ticker.start()
    world.hosts = [Host(world, "h1", SERVICE, 12, 3), Host(world, "h2", SERVICE, 12, 3)]
    for host in world.hosts:
        host.come_up()
    upkeep = [node.spawn(work(sessions), work.__name__) for work in (renew_claims, resend_after_registry_loss)]
    upkeep += [asyncio.create_task(work) for work in (beat(world), harm(world, registry), watch(world, registry))]
    async with asyncio.TaskGroup() as group:
        for n in range(calls):
            await asyncio.sleep(world.lot.expovariate(RATE))
            group.create_task(_tried(world, f"CA-{n}"))
    lasted = loop.time()

    async with asyncio.timeout(200.0):  # of virtual time: the longest wait of all is a bot's wrap-up and a park
        while sessions or node.streams:
            await asyncio.sleep(0.5)
    failed = [task.exception() for task in upkeep if task.done() and not task.cancelled()]
    assert failed == []
    hosts_beat, harm_done, _ = upkeep[2:]
    harm_done.cancel()
    registry.down = False
    # Reservations expire that no stream took, and what an outage forgives. The hosts beat on: the first question after
    # an outage ends it, and what that question finds is forgiven still.
    await asyncio.sleep(60.0)
    assert not hosts_beat.done()
    slots = await registry.slots(SERVICE)
    assert (slots.used, slots.queued, slots.busy) == (0, 0, 0)
    assert registry._slots == {}
    assert (node.tasks, len(node.ticker), node.registry.suspected()) == (2 + len(node.hosts), 0, frozenset())

    for host in world.hosts:
        host.die()
    for task in upkeep:
        task.cancel()
    node.ticker.stop()
    await asyncio.sleep(8 * 24 * 3600.0)  # facts live for a day, and what must not be replayed for a week
    await registry.slots(SERVICE)
    assert left_in(registry) == {}
    assert node.hosts == {}
    assert node.tasks == 0
    assert len(asyncio.all_tasks()) == idle
    return world.happened, lasted


def left_in(registry: MemoryRegistry) -> dict[str, int]:
    """What the registry still keeps, and how many of it. All that it keeps things in has a length."""
    kept = {name: len(value) for name, value in vars(registry).items() if hasattr(value, "__len__")}
    return {name: n for name, n in kept.items() if n}


async def _tried(world: World, call_id: str) -> None:
    try:
        await world.call(call_id)
    except RegistryUnavailable:  # answered with 503 by the app, which is not here
        world.happened["registry away"] += 1


async def beat(world: World) -> None:
    while True:
        await asyncio.sleep(2.0)
        for host in world.hosts:
            host.beat()


async def harm(world: World, registry: MemoryRegistry) -> None:
    """Idle workers die every second or so; now and then a host's connection, a whole host, and the registry."""
    for n in range(1, 10**9):
        await asyncio.sleep(world.lot.uniform(0.5, 1.5))
        host = world.lot.choice(world.hosts)
        idle = [w for w in host.workers.values() if w.state == "ready"]
        if idle:
            world.lot.choice(idle)._dies()
        if n % 17 == 0:
            world.happened["connections lost"] += 1
            host.lose_connection()
        if n % 41 == 0 and host.up:
            world.happened["hosts died"] += 1
            host.die()
            asyncio.get_running_loop().call_later(world.lot.uniform(1.0, 20.0), host.come_up)
        if n % 97 == 0:
            world.happened["outages"] += 1
            registry.down = True
            asyncio.get_running_loop().call_later(world.lot.uniform(0.5, 4.0), setattr, registry, "down", False)


async def watch(world: World, registry: MemoryRegistry) -> None:
    """Never more on a host than it has slots."""
    while True:
        await asyncio.sleep(0.5)
        world.happened["held"] += registry._queues.length(SERVICE) > 0
        for state in registry._hosts.values():
            assert state.host is None or len(state.slots) <= state.host.cap
            taken = [slot.worker for slot in state.slots.values() if slot.worker]
            assert len(set(taken)) == len(taken)
