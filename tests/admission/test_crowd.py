"""200 calls at once on 20 slots, while workers die: never more sessions than slots, in order, and exact at rest.

All of the gateway is real: its door, conductor, registry (memory, and a real Redis), sockets of carriers, links and the
host's. Only the workers are scripted, so that hundreds cost seconds; `test_processes` has real ones.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from lxml import etree
from pydantic import SecretStr

from gateway.app import make_app
from gateway.calls.node import Node
from gateway.calls.services import Fallback, Service, Services
from gateway.calls.tokens import Signer
from gateway.calls.upgrades import Doorkeeper
from gateway.calls.upkeep import renew_claims
from gateway.carriers import CARRIERS
from gateway.pool.memory import MemoryRegistry
from gateway.pool.redis import RedisRegistry
from gateway.pool.registry import Leases, Queued, Registry, Slots
from gateway.sockets import server_protocol
from tests.admission.scripted import KEY, ScriptedHost
from tests.calls.conftest import SERVICE, Carrier, Gateway, start

CALLS = 200
SLOTS = 20
WARM = 4
PATIENCE = 15.0
"""Seconds until something that should happen at once is taken for something that never does."""
PUBLIC_URL = "http://127.0.0.1:1"


class Crowd:
    """A gateway, its host, its callers, and a watch on what must never be."""

    def __init__(self, gateway: Gateway, host: ScriptedHost) -> None:
        self.gateway = gateway
        self.node = gateway.node
        self.host = host
        self.callers: dict[str, Carrier] = {}
        self.hung_up: set[str] = set()
        self.killed: Counter[str] = Counter()
        self.samples = 0
        self.most_used = 0
        self.most_talking = 0
        self.queue: dict[str, int] = {}
        """Call -> its first place in the queue."""

    async def slots(self) -> Slots:
        return await self.node.registry.slots(SERVICE)

    async def watch(self) -> None:
        """For ever: what is used, who talks, and whether a worker or a session is there twice."""
        while True:
            slots = await self.slots()
            linked = [s for s in self.node.sessions.values() if s.link is not None and s.ended is None]
            workers = [s.claim.worker.id for s in linked if s.claim is not None and s.claim.worker is not None]
            self.samples += 1
            self.most_used = max(self.most_used, slots.used)
            self.most_talking = max(self.most_talking, len(linked))
            assert slots.used <= slots.cap == SLOTS, slots
            assert len(linked) <= SLOTS, f"{len(linked)} sessions talk on {SLOTS} slots"
            assert len(set(workers)) == len(workers), "one worker serves two sessions"
            assert len(self.host.talking()) <= SLOTS
            await asyncio.sleep(0.002)

    def descriptors(self) -> int:
        """Open ones of this process, less those on which idle workers listen."""
        return len(os.listdir("/proc/self/fd")) - len(self.host.workers)

    async def until(self, what: str, holds) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not await holds():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            states = Counter(w.state for w in self.host.workers.values())
            pytest.fail(
                f"never: {what}; {await self.slots()}, workers {states}, {len(self.node.sessions)} sessions,"
                f" {len(self.host.started)} starts"
            )

    # Callers.

    async def ring(self, call_id: str) -> str:
        """The webhook; the first verb of its answer. A stream that it asks for is opened."""
        answer = await self.gateway.voice(call_id)
        root = etree.fromstring(answer.content)
        urls = root.xpath("//Stream/@url")
        if urls:
            carrier = await self.gateway.open("/ws/" + urls[0].split("/ws/")[1])
            carrier.send(start(call_id))
            self.callers[call_id] = carrier
        return str(root[0].tag)

    def hang_up(self, call_id: str) -> None:
        self.hung_up.add(call_id)
        self.callers[call_id].send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": call_id}})

    def kill(self, call_id: str) -> None:
        """The worker of this call dies."""
        self.killed[call_id] += 1
        self.host.by_call(call_id).kill()

    # What is known of them.

    def started(self) -> list[str]:
        """Calls whose bot has heard of them, each once, in order."""
        return list(dict.fromkeys(call for call, _, _ in self.host.started))

    def talking(self) -> list[str]:
        """Calls that are served now, longest first."""
        serving = {w.call_id for w in self.host.workers.values() if w.state == "busy" and w.call_id}
        return [call for call in self.started() if call in serving - self.hung_up]

    async def until_full(self) -> None:
        """Every slot has a bot that talks."""

        async def full() -> bool:
            linked = sum(s.link is not None and s.ended is None for s in self.node.sessions.values())
            return len(self.talking()) == linked == SLOTS

        await self.until("every slot is talking", full)

    async def until_rest(self) -> None:
        """Nobody is there, and all slots are free."""

        async def at_rest() -> bool:
            slots = await self.slots()
            idle = sum(w.state == "ready" for w in self.host.workers.values())
            nobody = not self.node.sessions and not self.node.streams
            return nobody and idle == slots.ready >= WARM and slots.used == slots.queued == slots.busy == 0

        await self.until("at rest, and exact", at_rest)


class Noting:
    """A registry that notes each session's first place in the queue."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.places: dict[str, int] = {}

    def __getattr__(self, name: str):
        return getattr(self._registry, name)

    async def claim(self, service: str, session: str, **how):
        result = await self._registry.claim(service, session, **how)
        if isinstance(result, Queued):
            self.places.setdefault(session, result.position)
        return result


@pytest.fixture(params=["memory", "redis"])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "memory":
        return MemoryRegistry(Leases())
    return RedisRegistry(request.getfixturevalue("redis_url"), Leases(), prefix=f"test-{uuid.uuid4().hex}")


@pytest.fixture
async def crowd(registry: Registry) -> AsyncIterator[Crowd]:
    service = Service(host=SERVICE, default=True, when_full=Fallback("hold"), max_hold=120.0, wrapup=2.0)
    node = Node(
        public_url=PUBLIC_URL,
        registry=Noting(registry),
        signer=Signer((b"a secret of the tests",)),
        services=Services([service]),
        carriers={name: entry.carrier(None, public_url=PUBLIC_URL, dev=True) for name, entry in CARRIERS.items()},
        dial_allowed=lambda to: to.startswith("+1555"),
    )
    await registry.slots(SERVICE)  # its first connection, if it has any
    node.ticker.start()
    upkeep = node.spawn(renew_claims(node), "renew claims")
    loop = asyncio.get_running_loop()
    doorkeeper = Doorkeeper(node, worker_keys=(SecretStr(KEY),), dev=True)
    door = await loop.create_server(server_protocol(doorkeeper.decide), "127.0.0.1", 0, backlog=2 * CALLS)
    gateway = Gateway(node, [])
    gateway.port = door.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:  # short: a unix socket's path has 100 bytes
        host = ScriptedHost(Path(folder), SERVICE, cap=SLOTS, warm=WARM)
        await host.register(gateway.port)
        transport = httpx.ASGITransport(make_app(node, ready=lambda: True))
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as gateway.http:
            crowd = Crowd(gateway, host)
            await crowd.until_rest()
            tasks, open_before = node.tasks, crowd.descriptors()
            watch = asyncio.create_task(crowd.watch())
            yield crowd
            for call in crowd.callers:
                crowd.hang_up(call)
            await crowd.until_rest()
            watch.cancel()
            [failed] = await asyncio.gather(watch, return_exceptions=True)
            assert isinstance(failed, asyncio.CancelledError), failed
            assert crowd.samples > 20
            assert host.asked_twice == [], "a worker was given to two sessions"
            for caller in crowd.callers.values():
                await caller.until_closed()
            await crowd.until("no task is left", lambda: _is(lambda: node.tasks == tasks))
            if isinstance(registry, MemoryRegistry):  # a Redis client keeps connections for the next burst
                await crowd.until("no descriptor is left", lambda: _is(lambda: crowd.descriptors() <= open_before))
        await host.close()
    upkeep.cancel()
    node.ticker.stop()
    door.close()
    await registry.close()
    await asyncio.sleep(0.01)


async def _is(fact) -> bool:
    return bool(fact())


def set_policy(crowd: Crowd, fallback: Fallback) -> None:
    [service] = crowd.node.services
    crowd.node.services = Services([replace(service, when_full=fallback)])


def everybody() -> list[str]:
    return [f"CA-{n}" for n in range(CALLS)]


async def test_those_on_hold_enter_in_order_while_workers_die(crowd):
    chance = random.Random(20)
    answers = await asyncio.gather(*(crowd.ring(call) for call in everybody()))
    assert set(answers) == {"Connect"}
    await crowd.until_full()

    async def all_queued() -> bool:
        return (await crowd.slots()).queued == CALLS - SLOTS

    await crowd.until("all others are on hold", all_queued)
    first = set(crowd.started())
    session_of = {crowd.node.signer.session_id("twilio", "", call): call for call in everybody()}
    places = {session_of[session]: place for session, place in crowd.node.registry.places.items()}
    line = sorted((call for call in everybody() if call not in first), key=places.__getitem__)
    assert sorted(places[call] for call in line) == list(range(1, CALLS - SLOTS + 1))

    for n in range(20):  # one by one: each freed slot goes to the first in line
        crowd.hang_up(crowd.talking()[0])
        await crowd.until_full()
        entered = [call for call in crowd.started() if call not in first]
        assert entered == line[: n + 1]

    while len(crowd.hung_up) + SLOTS < CALLS:  # then several at once, and at each turn workers die
        talking = crowd.talking()
        leaving = chance.sample(talking, min(15, CALLS - SLOTS - len(crowd.hung_up)))
        staying = [call for call in talking if call not in leaving]
        for call in chance.sample(staying, 3):
            if crowd.killed[call] < 2:  # a third start is the last
                crowd.kill(call)
        for call in leaving:
            crowd.hang_up(call)
        await crowd.until_full()
        entered = [call for call in crowd.started() if call not in first]
        assert sorted(entered, key=places.__getitem__) == line[: len(entered)], "somebody was passed in the queue"

    async def all_served() -> bool:
        return set(crowd.started()) == set(everybody())

    for call in crowd.talking():
        crowd.hang_up(call)
    await crowd.until("everybody has been served", all_served)
    starts = Counter(call for call, _, _ in crowd.host.started)
    assert {call: n - 1 for call, n in starts.items() if n > 1} == dict(crowd.killed)
    assert sum(crowd.killed.values()) > 20
    assert crowd.most_used == crowd.most_talking == SLOTS


@pytest.mark.parametrize(
    ("fallback", "verb"),
    [(Fallback("busy"), "Reject"), (Fallback("forward", "+15550123456"), "Dial")],
    ids=["busy", "forward"],
)
async def test_a_full_pool_refuses_or_forwards_exactly_the_rest(crowd, fallback, verb):
    chance = random.Random(20)
    set_policy(crowd, fallback)
    for turn in range(3):
        calls = [f"CA-{turn}-{n}" for n in range(CALLS)]
        ringing = asyncio.gather(*(crowd.ring(call) for call in calls))
        for _ in range(10):  # idle, promised, or about to be linked: any of them may die
            await asyncio.sleep(0.03)
            ready = [w for w in crowd.host.workers.values() if w.state == "ready"]
            if ready:
                chance.choice(ready).kill()
        assert Counter(await ringing) == {"Connect": SLOTS, verb: CALLS - SLOTS}
        await crowd.until_full()
        victims = crowd.talking()[:5]
        for call in victims:
            crowd.kill(call)
        await crowd.until_full()
        assert set(victims) < set(crowd.talking()), "a call was lost with its worker"
        for call in crowd.talking():
            crowd.hang_up(call)
        await crowd.until_rest()
    assert crowd.most_used == crowd.most_talking == SLOTS
