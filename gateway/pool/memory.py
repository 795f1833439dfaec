"""The registry of one process. It awaits where Redis would, expires by the same leases, and can be asked to fail."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import FactEvent, Facts, merge
from gateway.pool.registry import (
    Claim,
    ClaimResult,
    Full,
    Host,
    Leases,
    Once,
    Queued,
    Slots,
    Stale,
)
from gateway.protocol.workers import Running, Worker


@dataclass(slots=True)
class _HostEntry:
    host: Host
    workers: dict[str, Worker]
    expires: float
    sessions: set[str]
    """Those that hold a unit of the cap: exactly the entries of `_held` that name this host."""
    draining: bool = False

    @property
    def free(self) -> int:
        return 0 if self.draining else self.host.cap - len(self.sessions)


@dataclass(slots=True)
class _Held:
    """A unit of a host's cap, held by a session: by a confirmed stream (fence > 0), for one to come (pending > 0),
    or both, when a call comes back for another stream on the same worker.
    """

    service: str
    host: str
    worker: str = ""
    fence: int = 0
    attempt: int = 0
    expires: float = 0.0
    """Of the confirmed claim."""
    pending: int = 0
    pending_expires: float = 0.0
    fresh: bool = True

    @property
    def until(self) -> float:
        return max(self.expires if self.fence else 0.0, self.pending_expires if self.pending else 0.0)


class MemoryRegistry:
    """See `gateway.pool.registry.Registry`. clock: unix time in seconds; tests pass their own."""

    def __init__(self, leases: Leases | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.leases = leases or Leases()
        self.down = False
        """Set it, and every method raises RegistryUnavailable, as a Redis that is cut off would."""
        self._clock = clock
        self._hosts: dict[str, _HostEntry] = {}
        self._held: dict[str, _Held] = {}
        self._sessions: dict[str, set[str]] = {}
        """Per host; kept when the host is lost: its workers may live, and their calls with them."""
        self._attempts: dict[str, tuple[int, float]] = {}
        self._queues: dict[str, dict[str, float]] = {}
        self._facts: dict[str, tuple[Facts, float]] = {}
        self._aliases: dict[str, str] = {}
        self._aliases_of: dict[str, set[str]] = {}
        self._once: dict[str, tuple[str, float, float]] = {}
        self._fence = 0
        self._freed: dict[str, asyncio.Event] = {}
        self._expiry: list[tuple[float, str, str]] = []

    # Hosts.

    async def put_host(self, host: Host, running: Sequence[Running] = ()) -> bool:
        now = await self._enter()
        old = self._hosts.get(host.id)
        if old is not None and old.host.epoch > host.epoch:
            return False
        sessions = self._sessions.setdefault(host.id, set())
        entry = _HostEntry(host, {w.id: w for w in host.workers}, now + self.leases.host, sessions)
        self._hosts[host.id] = entry
        self._expire_at(entry.expires, "host", host.id)
        for session in tuple(sessions):
            self._rehouse(session, entry)
        for run in running:
            self._take_over(run, entry, now)
        self._settle(entry)
        return True

    async def beat(self, host_id: str, epoch: int, workers: Sequence[Worker]) -> tuple[str, ...] | None:
        now = await self._enter()
        entry = self._hosts.get(host_id)
        if entry is None or entry.host.epoch != epoch:
            return None
        entry.workers = {w.id: w for w in workers}
        entry.expires = now + self.leases.host
        self._expire_at(entry.expires, "host", host_id)
        self._settle(entry)
        return tuple(sorted(s for s in entry.sessions if not self._held[s].worker))

    async def drop_host(self, host_id: str, epoch: int) -> None:
        await self._enter()
        entry = self._hosts.get(host_id)
        if entry is not None and entry.host.epoch <= epoch:
            self._forget_host(host_id)

    async def drain_host(self, host_id: str, epoch: int) -> None:
        await self._enter()
        entry = self._hosts.get(host_id)
        if entry is not None and entry.host.epoch == epoch:
            entry.draining = True

    # Claims.

    async def claim(self, service: str, session: str, *, avoid: Iterable[str] = (), queue: bool = False) -> ClaimResult:
        now = await self._enter()
        avoid = frozenset(avoid)
        held = self._held.get(session)
        if held is not None and (held.service != service or held.worker in avoid or not self._alive(held)):
            self._give_up(session)
            held = None
        if held is None:
            entry, result = self._place(service, session, avoid, queue, now)
            if entry is None:
                return result
            held = _Held(service, entry.host.id)
            self._held[session] = held
            entry.sessions.add(session)
            self._assign(entry, session, held, avoid)
        if not held.pending:
            held.pending = self._attempts.get(session, (0, 0.0))[0] + 1
            self._count_attempt(session, held.pending, now)
            held.pending_expires = _whole_ms(now + self.leases.reserved)
            self._expire_at(held.pending_expires, "held", session)
        return self._claim_of(session, held, held.pending, fence=0, expires=held.pending_expires)

    async def confirm(self, session: str, attempt: int) -> Claim | Stale:
        now = await self._enter()
        held = self._held.get(session)
        if held is None or held.pending != attempt or not self._alive(held):
            return Stale(spent=held is not None and 0 < attempt <= held.attempt)
        self._fence = max(self._fence + 1, int(now * 1e6))
        held.fence, held.attempt, held.pending = self._fence, attempt, 0
        held.expires = now + self.leases.confirmed
        self._expire_at(held.expires, "held", session)
        claim = self._claim_of(session, held, attempt, fence=held.fence, expires=held.expires)
        held.fresh = False
        return claim

    async def look(self, session: str, fence: int) -> Claim | Stale:
        await self._enter()
        held = self._held.get(session)
        if held is None or held.fence != fence or not self._alive(held):
            return Stale(spent=held is not None and held.fence > fence)
        return self._claim_of(session, held, held.attempt, fence=fence, expires=held.expires)

    async def renew(self, claims: Mapping[str, int]) -> set[str]:
        now = await self._enter()
        lost = set()
        for session, fence in claims.items():
            held = self._held.get(session)
            if held is None or held.fence != fence:
                lost.add(session)
                continue
            held.expires = now + self.leases.confirmed
            self._expire_at(held.expires, "held", session)
        return lost

    async def release(self, session: str, fence: int) -> None:
        await self._enter()
        held = self._held.get(session)
        if held is not None and held.fence == fence:
            self._give_up(session)

    async def leave(self, service: str, session: str) -> None:
        await self._enter()
        if self._queues.get(service, {}).pop(session, None) is not None:
            self._hint(service)

    # Facts, keys, hints.

    async def merge(self, session: str, event: FactEvent) -> Facts:
        now = await self._enter()
        known, _ = self._facts.get(session, (Facts(session=session), 0.0))
        facts = merge(known, event)
        expires = now + (self.leases.ended if facts.status == "ended" else self.leases.facts)
        self._facts[session] = (facts, expires)
        self._expire_at(expires, "facts", session)
        for alias in event.aliases:
            self._aliases.setdefault(alias, session)
            self._aliases_of.setdefault(session, set()).add(alias)
        return facts

    async def find(self, alias: str) -> Facts | None:
        await self._enter()
        entry = self._facts.get(self._aliases.get(alias, alias))
        return entry[0] if entry else None

    async def once(self, key: str, ttl: float, value: str = "") -> Once:
        now = await self._enter()
        known = self._once.get(key)
        if known is not None:
            return Once(False, known[0], now - known[1])
        self._once[key] = (value, now, now + ttl)
        self._expire_at(now + ttl, "once", key)
        return Once(True, value, 0.0)

    async def freed(self, service: str, timeout: float) -> None:
        await self._enter()
        event = self._freed.setdefault(service, asyncio.Event())
        try:
            await asyncio.wait_for(event.wait(), timeout)
        except TimeoutError:
            pass

    async def slots(self, service: str) -> Slots:
        await self._enter()
        cap = used = 0
        states = {"ready": 0, "starting": 0, "busy": 0, "done": 0}
        for entry in self._hosts_of(service):
            cap += 0 if entry.draining else entry.host.cap
            used += len(entry.sessions)
            for worker in entry.workers.values():
                states[worker.state] += 1
        queued = len(self._queues.get(service, ()))
        return Slots(cap, used, states["ready"], states["starting"], states["busy"], queued)

    # Within: synchronous, so that every method above is one atomic step after `_enter`.

    async def _enter(self) -> float:
        await asyncio.sleep(0)
        if self.down:
            raise RegistryUnavailable("the registry is down")
        now = self._clock()
        self._purge(now)
        return now

    def _expire_at(self, when: float, kind: str, key: str) -> None:
        heapq.heappush(self._expiry, (when, kind, key))

    def _purge(self, now: float) -> None:
        """Drop what has expired. The heap may name things renewed since: their own field decides."""
        while self._expiry and self._expiry[0][0] <= now:
            _, kind, key = heapq.heappop(self._expiry)
            match kind:
                case "host" if key in self._hosts and self._hosts[key].expires <= now:
                    self._forget_host(key)
                case "held" if key in self._held:
                    self._expire_held(key, self._held[key], now)
                case "once" if key in self._once and self._once[key][2] <= now:
                    del self._once[key]
                case "facts" if key in self._facts and self._facts[key][1] <= now:
                    self._forget_session(key)
                case "attempts" if key in self._attempts and self._attempts[key][1] <= now:
                    if key in self._held:
                        self._count_attempt(key, self._attempts[key][0], now)
                    else:
                        del self._attempts[key]
                case "queue":
                    service, _, session = key.partition("\n")
                    if self._queues.get(service, {}).get(session, now + 1) <= now:
                        del self._queues[service][session]
                        self._hint(service)

    def _count_attempt(self, session: str, attempt: int, now: float) -> None:
        """Attempts count on over claims that were lost: a token of an older one must never be taken for a newer."""
        self._attempts[session] = (attempt, now + self.leases.ended)
        self._expire_at(now + self.leases.ended, "attempts", session)

    def _expire_held(self, session: str, held: _Held, now: float) -> None:
        if held.pending and held.pending_expires <= now:
            held.pending = 0
        if held.until <= now:
            self._give_up(session)

    def _forget_session(self, session: str) -> None:
        del self._facts[session]
        for alias in self._aliases_of.pop(session, ()):
            if self._aliases.get(alias) == session:
                del self._aliases[alias]

    def _forget_host(self, host_id: str) -> None:
        entry = self._hosts.pop(host_id)
        if not entry.sessions:
            del self._sessions[host_id]
        self._hint(entry.host.service)

    def _give_up(self, session: str) -> None:
        held = self._held.pop(session)
        sessions, entry = self._sessions[held.host], self._hosts.get(held.host)
        sessions.discard(session)
        if entry is not None:
            self._settle(entry)
        elif not sessions:
            del self._sessions[held.host]
        self._hint(held.service)

    def _hint(self, service: str) -> None:
        event = self._freed.pop(service, None)
        if event is not None:
            event.set()

    def _hosts_of(self, service: str) -> Iterator[_HostEntry]:
        return (e for e in self._hosts.values() if e.host.service == service)

    def _alive(self, held: _Held) -> bool:
        entry = self._hosts.get(held.host)
        if entry is None:
            return False
        worker = entry.workers.get(held.worker)
        return not held.worker or (worker is not None and worker.state != "done")

    def _place(
        self, service: str, session: str, avoid: frozenset[str], queue: bool, now: float
    ) -> tuple[_HostEntry, ClaimResult] | tuple[None, ClaimResult]:
        """A host for a newcomer, or why there is none. Those on hold go first, in their order."""
        hosts = list(self._hosts_of(service))
        waiting = self._queues.setdefault(service, {})
        ahead = list(waiting).index(session) if session in waiting else len(waiting)
        able = [e for e in hosts if e.free > 0 and self._can_serve(e, avoid)]
        if sum(min(e.free, self._capacity(e, avoid)) for e in able) > ahead:
            waiting.pop(session, None)
            best = max(able, key=lambda e: (bool(self._ready(e, avoid)), e.free / e.host.cap))
            return best, Full(len(hosts))
        if not queue:
            return None, Full(len(hosts))
        waiting[session] = now + self.leases.queued
        self._expire_at(waiting[session], "queue", f"{service}\n{session}")
        return None, Queued(ahead + 1)

    def _can_serve(self, entry: _HostEntry, avoid: frozenset[str]) -> bool:
        return not entry.host.static or bool(self._ready(entry, avoid))

    def _capacity(self, entry: _HostEntry, avoid: frozenset[str]) -> int:
        """How many more it could take: a host starts workers as needed, static ones are what they are."""
        return len(self._ready(entry, avoid)) if entry.host.static else entry.free

    def _ready(self, entry: _HostEntry, avoid: frozenset[str] = frozenset()) -> list[Worker]:
        """Workers to be had: ready, and not promised to anybody."""
        taken = {self._held[s].worker for s in entry.sessions}
        return [w for w in entry.workers.values() if w.state == "ready" and w.id not in taken and w.id not in avoid]

    def _assign(self, entry: _HostEntry, session: str, held: _Held, avoid: frozenset[str] = frozenset()) -> None:
        """Give a worker to a claim without one: one started for this session, or else one started for nobody."""
        ready = self._ready(entry, avoid)
        own = [w for w in ready if w.session == session]
        anyone = [w for w in ready if not w.session]
        if own or anyone:
            held.worker = (own or anyone)[0].id
            held.fresh = True

    def _settle(self, entry: _HostEntry) -> None:
        """After the host's workers have changed: those who wait for one get it, oldest attempt first."""
        for session in sorted(entry.sessions, key=lambda s: (self._held[s].until, s)):
            held = self._held[session]
            if not held.worker:
                self._assign(entry, session, held)
        if entry.free > 0:
            self._hint(entry.host.service)

    def _rehouse(self, session: str, entry: _HostEntry) -> None:
        """The host registered again: a session stays with it if its worker does, or if it had none yet."""
        held = self._held[session]
        if held.service != entry.host.service or (held.worker and held.worker not in entry.workers):
            self._give_up(session)

    def _take_over(self, run: Running, entry: _HostEntry, now: float) -> None:
        """The host reports a running session: believed if it is newer than what we know."""
        held = self._held.get(run.session)
        if (held is not None and held.fence >= run.fence) or run.worker not in entry.workers or run.fence <= 0:
            return
        if held is not None:
            self._give_up(run.session)
        self._fence = max(self._fence, run.fence)
        attempt = max(1, self._attempts.get(run.session, (0, 0.0))[0])
        self._count_attempt(run.session, attempt, now)
        self._held[run.session] = _Held(
            entry.host.service,
            entry.host.id,
            run.worker,
            run.fence,
            attempt,
            now + self.leases.confirmed,
            fresh=False,
        )
        entry.sessions.add(run.session)
        self._expire_at(now + self.leases.confirmed, "held", run.session)

    def _claim_of(self, session: str, held: _Held, attempt: int, *, fence: int, expires: float) -> Claim:
        entry = self._hosts[held.host]
        return Claim(
            session=session,
            service=held.service,
            host=held.host,
            worker=entry.workers.get(held.worker),
            attempt=attempt,
            fence=fence,
            expires=expires,
            protocol=entry.host.protocol,
            link_key=entry.host.link_key,
            fresh=held.fresh,
        )


def _whole_ms(seconds: float) -> float:
    """Tokens carry whole milliseconds; the claim says the same number on every node."""
    return int(seconds * 1000) / 1000
