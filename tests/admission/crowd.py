"""A gateway with scripted workers and callers, and a watch on what must never be.

All of the gateway is real: its door, conductor, registry (memory, and a real Redis), sockets of carriers, links and the
host's. Only webhooks skip HTTP, and the workers are scripted, so that hundreds cost seconds.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from lxml import etree

from gateway.node.services import Fallback, Services
from gateway.pool.registry import ClaimResult, PoolCounts, Queued, Registry
from tests.admission.scripted import ScriptedHost
from tests.kit.node import SERVICE, Carrier, Gateway, start
from tests.kit.waiting import until

SLOTS = 20
WARM = 4


class Crowd:
    """A gateway, its host, its callers, and a watch on what must never be."""

    def __init__(self, gateway: Gateway, host: ScriptedHost) -> None:
        self.gateway = gateway
        self.node = gateway.node
        self.sessions = gateway.sessions
        self.host = host
        self.callers: dict[str, Carrier] = {}
        self.hung_up: set[str] = set()
        self.killed: Counter[str] = Counter()
        self.samples = 0
        self.last: PoolCounts | None = None
        self.most_used = 0
        self.most_talking = 0

    async def slots(self) -> PoolCounts:
        self.last = await self.node.registry.slots(SERVICE)
        return self.last

    async def watch(self) -> None:
        """For ever: what is used, who talks, and whether a worker or a session is there twice."""
        while True:
            slots = await self.slots()
            linked = [s for s in self.sessions if s.worker.link is not None and s.ended is None]
            workers = [s.claim.worker.id for s in linked if s.claim is not None and s.claim.worker is not None]
            self.samples += 1
            self.most_used = max(self.most_used, slots.used)
            self.most_talking = max(self.most_talking, len(linked))
            assert slots.used <= SLOTS, slots
            assert len(linked) <= SLOTS, f"{len(linked)} sessions talk on {SLOTS} slots"
            assert len(set(workers)) == len(workers), "one worker serves two sessions"
            assert len(self.host.talking()) <= SLOTS
            await asyncio.sleep(0.002)

    def descriptors(self) -> int:
        """Open ones of this process, less those on which idle workers listen."""
        return len(os.listdir("/proc/self/fd")) - len(self.host.workers)

    async def until(self, what: str, holds: Callable[[], Awaitable[bool] | bool]) -> None:
        def seen() -> str:
            states = Counter(w.state for w in self.host.workers.values())
            return (
                f"{what}; {self.last}, workers {states}, {len(self.sessions)} sessions, {len(self.host.started)} starts"
            )

        await until(holds, complain=seen)

    def set_policy(self, fallback: Fallback) -> None:
        """`when_full`."""
        [service] = self.node.services
        self.node.services = Services([replace(service, when_full=fallback)])

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

    async def until_queued(self, n: int) -> None:
        """So many are on hold."""

        async def held() -> bool:
            return (await self.slots()).queued == n

        await self.until(f"{n} are on hold", held)

    async def until_full(self) -> None:
        """Every slot has a bot that talks."""

        async def full() -> bool:
            linked = sum(s.worker.link is not None and s.ended is None for s in self.sessions)
            return len(self.talking()) == linked == SLOTS

        await self.until("every slot is talking", full)

    async def until_rest(self) -> None:
        """Nobody is there, and all slots are free."""

        async def at_rest() -> bool:
            slots = await self.slots()
            idle = sum(w.state == "ready" for w in self.host.workers.values())
            nobody = not self.sessions and not self.node.streams
            return nobody and idle == slots.ready >= WARM and slots.used == slots.queued == slots.busy == 0

        await self.until("at rest, and exact", at_rest)


class Noting:
    """A registry that notes each session's first place in the queue."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.places: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    async def claim(self, service: str, session: str, **how: Any) -> ClaimResult:
        result = await self._registry.claim(service, session, **how)
        if isinstance(result, Queued):
            self.places.setdefault(session, result.position)
        return result
