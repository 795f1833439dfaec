"""The registry of one process. It awaits where Redis would, expires by the same leases, and can be asked to fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice

from gateway.errors import RegistryUnavailable
from gateway.pool.breaker import Outage
from gateway.pool.facts import FactEvent, Facts
from gateway.pool.memory.attempts import Attempts
from gateway.pool.memory.expiry import ExpiryQueue
from gateway.pool.memory.hold_queue import Queues
from gateway.pool.memory.hosts import HostState, Reservation
from gateway.pool.memory.records import Records
from gateway.pool.memory.slot_notifier import SlotNotifier
from gateway.pool.registry import FENCE_AHEAD, Claim, ClaimResult, Full, Host, Leases, Once, Queued, Slots, Stale
from gateway.protocol.workers import Running, Worker


class MemoryRegistry:
    """See `gateway.pool.registry.Registry`. clock: unix time in seconds; tests pass their own."""

    def __init__(self, leases: Leases | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.leases = leases or Leases()
        self.down = False
        """Set it, and every method raises RegistryUnavailable, as a Redis that is cut off would."""
        self._clock = clock
        self._outage = Outage()
        self._hosts: dict[str, HostState] = {}
        self._host_ends: ExpiryQueue[str] = ExpiryQueue()
        self._spent_ends: ExpiryQueue[str] = ExpiryQueue()
        self._held: dict[str, Reservation] = {}
        self._claim_ends: ExpiryQueue[str] = ExpiryQueue()
        self._attempts = Attempts(self.leases.ended)
        self._queues = Queues()
        self._records = Records(self.leases)
        self._fence = 0
        self._ticket = 0
        self._hints = SlotNotifier()

    async def close(self) -> None:
        pass

    # Hosts.

    async def put_host(self, host: Host, running: Sequence[Running] = ()) -> bool:
        now = await self._enter()
        state = self._hosts.setdefault(host.id, HostState())
        known = state.host
        if known is not None and known.epoch > host.epoch:
            return False
        same = known is not None and known.epoch == host.epoch
        self._host_ends.set(host.id, now + self.leases.host)
        if same and state.is_old(host.seq):
            return True
        state.seq = host.seq
        # A host that drains says so to each gateway, and registers with each: the same start does not begin anew.
        state.draining = state.draining and same
        state.host = host
        state.set_workers(host.workers, now, beat=False)
        for session, held in list(state.held.items()):
            if held.service != host.service or (held.worker and held.worker not in state.workers):
                self._give_up(session, now)
        for run in running:
            self._take_over(run, host, state, now)
        self._make_room(state, now)
        state.settle()
        self._hints.tell(host.service)
        return True

    async def beat(self, host_id: str, epoch: int, workers: Sequence[Worker], seq: int = 0) -> tuple[str, ...] | None:
        now = await self._enter()
        state = self._hosts.get(host_id)
        if state is None or state.host is None or state.host.epoch != epoch:
            return None
        self._host_ends.set(host_id, now + self.leases.host)
        if state.is_old(seq):
            return tuple(state.waiting)
        state.set_workers(workers, now, beat=True)
        state.settle()
        if state.offers:  # else all on hold would claim again for nothing, at every beat of every host
            self._hints.tell(state.host.service)
        return tuple(state.waiting)

    async def drop_host(self, host_id: str, epoch: int) -> None:
        await self._enter()
        state = self._hosts.get(host_id)
        if state is not None and state.host is not None and state.host.epoch <= epoch:
            self._forget_host(host_id)

    async def drain_host(self, host_id: str, epoch: int) -> None:
        now = await self._enter()
        state = self._hosts.get(host_id)
        if state is not None and state.host is not None and state.host.epoch == epoch:
            state.draining = True
            # It starts no worker any more: those who wait for one go elsewhere.
            moved = list(state.waiting)
            state.waiting.clear()
            for session in moved:
                self._give_up(session, now)

    # Claims.

    async def claim(self, service: str, session: str, *, avoid: Iterable[str] = (), queue: bool = False) -> ClaimResult:
        now = await self._enter()
        avoid = frozenset(avoid)
        held = self._load(session, now)
        first = False
        if held is not None and (held.service != service or held.shuns(avoid) or not self._alive(held)):
            first = held.service == service
            if held.worker in avoid:
                self._attempts.note_over(session, held.fence)
            self._give_up(session, now)
            held = None
        if held is None:
            place = self._place(service, session, avoid, queue, now, first=first)
            if not isinstance(place, HostState):
                return place
            held = self._enter_claim(session, place, avoid)
        if not held.pending:
            attempts = self._attempts.of(session, now)
            attempts.given += 1
            held.pending = attempts.given
            held.pending_expires = _whole_ms(now + self.leases.reserved)
            self._claim_ends.set(session, held.until)
        return self._hosts[held.host].claim_of(session, held, held.pending, fence=0, expires=held.pending_expires)

    async def confirm(self, session: str, attempt: int) -> Claim | Stale:
        now = await self._enter()
        held = self._load(session, now)
        if held is None or attempt <= 0 or held.pending != attempt or not self._alive(held):
            return Stale(spent=self._attempts.is_spent(session, attempt))
        self._fence = max(self._fence + 1, int(now * 1e6))
        held.fence, held.attempt, held.pending = self._fence, attempt, 0
        attempts = self._attempts.of(session, now)
        attempts.confirmed, attempts.fence, attempts.over = attempt, held.fence, False
        held.expires = now + self.leases.confirmed
        self._claim_ends.set(session, held.until)
        claim = self._hosts[held.host].claim_of(session, held, attempt, fence=held.fence, expires=held.expires)
        held.fresh = False
        return claim

    async def look(self, session: str, fence: int) -> Claim | Stale:
        await self._enter()
        held = self._held.get(session)
        if held is None or held.fence != fence or not self._alive(held):
            return Stale(spent=held is not None and held.fence > fence)
        return self._hosts[held.host].claim_of(session, held, held.attempt, fence=fence, expires=held.expires)

    async def renew(self, claims: Mapping[str, int]) -> set[str]:
        now = await self._enter()
        lost = set()
        for session, fence in claims.items():
            held = self._held.get(session)
            if held is None or held.fence != fence:
                lost.add(session)
                continue
            held.expires = now + self.leases.confirmed
            self._claim_ends.set(session, held.until)
        return lost

    async def release(self, session: str, fence: int) -> None:
        now = await self._enter()
        held = self._held.get(session)
        self._attempts.note_over(session, fence)
        if held is not None and held.fence == fence:
            self._give_up(session, now)

    async def leave(self, service: str, session: str) -> None:
        await self._enter()
        self._leave(service, session)

    # Facts, keys, hints.

    async def merge(self, session: str, event: FactEvent) -> Facts:
        return self._records.merge(session, event, await self._enter())

    async def find(self, alias: str) -> Facts | None:
        await self._enter()
        return self._records.find(alias)

    async def once(self, key: str, ttl: float, value: str = "") -> Once:
        return self._records.once(key, ttl, value, await self._enter())

    async def freed(self, service: str, timeout: float) -> None:
        with self._hints.next(service) as hint:  # before anything is awaited: none is missed
            await self._enter()
            try:
                async with asyncio.timeout(timeout):
                    await hint.wait()
            except TimeoutError:
                pass

    async def slots(self, service: str) -> Slots:
        await self._enter()
        cap = used = 0
        states = {"ready": 0, "starting": 0, "busy": 0, "done": 0}
        for state in self._hosts_of(service):
            assert state.host is not None
            cap += 0 if state.draining else state.host.cap
            used += len(state.held)
            for worker in state.workers.values():
                states[worker.state] += 1
        queued = len(self._queues.of(service))
        return Slots(cap, used, states["ready"], states["starting"], states["busy"], queued)

    # Within: synchronous, so that every method above is one atomic step after `_enter`.

    async def _enter(self) -> float:
        await asyncio.sleep(0)
        now = self._clock()
        if self.down:
            self._outage.missed(now)
            raise RegistryUnavailable("the registry is down")
        self._outage.answered(now)
        self._purge(now)
        return now

    def _purge(self, now: float) -> None:
        """Drop what has expired, but after an outage forgive for one lease: nobody could renew."""
        back = self._outage.back(now)
        if back >= self.leases.host:
            for host_id in self._host_ends.due(now):
                self._forget_host(host_id)
        if back >= self.leases.confirmed:
            for session in self._claim_ends.due(now):
                self._give_up(session, now, lost=True)
        if back >= self.leases.queued:
            for service, session in self._queues.due(now):
                self._leave(service, session)
        self._attempts.purge(now, self._held)
        for host_id in self._spent_ends.due(now):
            self._hosts[host_id].spent.clear()
            self._tidy(host_id)
        self._records.purge(now)

    def _load(self, session: str, now: float) -> Reservation | None:
        """The claim, without a reservation that has expired."""
        held = self._held.get(session)
        forgiving = self._outage.back(now) < self.leases.confirmed
        if held is not None and held.pending_expires <= now and not forgiving:
            held.pending = 0
        return held

    def _enter_claim(self, session: str, place: HostState, avoid: frozenset[str]) -> Reservation:
        assert place.host is not None
        held = Reservation(place.host.service, place.host.id, self._next_ticket(), place.host.static)
        self._held[session] = held
        place.enter(session, held, avoid)
        return held

    def _next_ticket(self) -> int:
        self._ticket += 1
        return self._ticket

    def _give_up(self, session: str, now: float, *, lost: bool = False) -> None:
        """End a claim. lost: for want of renewal; else its holder, or whoever seeks another place, knows of it."""
        held = self._held.pop(session)
        self._claim_ends.discard(session)
        self._attempts.put_off(session, now)
        state = self._hosts[held.host]
        if held.static and held.fence and held.worker:
            state.spent[held.worker] = now + self.leases.static if lost else 0.0
            self._spent_ends.set(held.host, now + self.leases.static)
        state.leave(session)
        state.settle()
        self._tidy(held.host)
        self._hints.tell(held.service)

    def _forget_host(self, host_id: str) -> None:
        state = self._hosts[host_id]
        assert state.host is not None
        self._host_ends.discard(host_id)
        self._hints.tell(state.host.service)
        state.host, state.seq, state.draining = None, 0, False
        state.set_workers((), 0.0, beat=False)
        self._tidy(host_id)

    def _tidy(self, host_id: str) -> None:
        state = self._hosts[host_id]
        if state.host is None and not state.held and not state.spent:
            del self._hosts[host_id]
            self._spent_ends.discard(host_id)

    def _leave(self, service: str, session: str) -> None:
        if self._queues.leave(service, session):
            self._hints.tell(service)

    def _hosts_of(self, service: str) -> list[HostState]:
        return [state for state in self._hosts.values() if state.host is not None and state.host.service == service]

    def _alive(self, held: Reservation) -> bool:
        state = self._hosts[held.host]
        if state.host is None:
            return False
        worker = state.workers.get(held.worker)
        return not held.worker or (worker is not None and worker.state != "done")

    def _place(
        self, service: str, session: str, avoid: frozenset[str], queue: bool, now: float, *, first: bool
    ) -> HostState | Queued | Full:
        """A host for a newcomer, or why there is none. Those on hold go first, in their order. first: it had a slot,
        and lost its worker: what it has just given up is not for others, who never talked to anybody.
        """
        hosts = self._hosts_of(service)
        ahead = 0 if first else self._queues.ahead(service, session)
        able = [(state, state.capacity(session, avoid)) for state in hosts]
        total = sum(capacity for _, capacity in able)
        if total > ahead or (total and self._leave_some(service, hosts, ahead, total)):
            self._queues.leave(service, session)
            offers = (state for state, capacity in able if capacity)
            return max(offers, key=lambda state: (bool(state.best_worker(session, avoid)), state.share))
        if not queue:
            return Full(len(hosts))
        self._queues.join(service, session, avoid, now + self.leases.queued, first=first)
        return Queued(ahead + 1)

    def _leave_some(self, service: str, hosts: Collection[HostState], ahead: int, total: int) -> bool:
        """Whether so many ahead in the queue leave something of `total`: whoever avoids all that is free holds up
        nobody. Looks at no more of them than it must: everybody on hold asks this whenever something comes free.
        """
        first = islice(self._queues.of(service).items(), ahead)
        able = (one for one, avoid in first if not avoid or any(state.capacity(one, avoid) for state in hosts))
        return sum(1 for _ in islice(able, total)) < total

    def _take_over(self, run: Running, host: Host, state: HostState, now: float) -> None:
        """The host reports a running session: believed if it is newer than what we know, nobody has given it up, and no
        other service has it by now. A reservation for its next stream stays good.
        """
        held = self._load(run.session, now)
        if run.fence <= 0 or run.worker not in state.workers:
            return
        if held is not None and (held.fence >= run.fence or held.service != host.service):
            return
        if run.fence > max(self._fence, int(now * 1e6) + FENCE_AHEAD) or self._is_served_elsewhere(held, host, now):
            return
        rival = state.held.get(state.taken.get(run.worker, ""))
        if self._attempts.disowns(run.session, run.fence) or (rival is not None and rival.fence > run.fence):
            return
        attempts = self._attempts.of(run.session, now)
        found = Reservation(host.service, host.id, self._next_ticket(), host.static, run.worker, run.fence, fresh=False)
        found.attempt = held.attempt if held is not None else max(1, attempts.given)
        found.expires = now + self.leases.confirmed
        attempts.given, attempts.confirmed = max(attempts.given, found.attempt), max(attempts.confirmed, found.attempt)
        attempts.fence, attempts.over = run.fence, False
        if rival is not None:
            self._displace(rival, run, state, now)
        state.take(run.session, run.worker)  # before anything is given up, which hands out what comes free
        if held is not None and held is not rival:
            self._give_up(run.session, now)
        if held is not None:
            found.pending, found.pending_expires = held.pending, held.pending_expires
        self._held[run.session] = found
        state.enter(run.session, found)
        self._claim_ends.set(run.session, found.until)
        self._fence = max(self._fence, run.fence)

    def _is_served_elsewhere(self, held: Reservation | None, host: Host, now: float) -> bool:
        """Return whether a live host of another name has the session, and no outage can have lost a newer claim."""
        if held is None or held.fence == 0 or held.host == host.id:
            return False
        return self._hosts[held.host].host is not None and self._outage.back(now) >= self.leases.confirmed

    def _displace(self, rival: Reservation, run: Running, state: HostState, now: float) -> None:
        """The worker serves somebody else than we thought. It is not to be offered meanwhile."""
        session = state.taken[run.worker]
        rival.worker = ""
        state.taken[run.worker] = run.session
        self._give_up(session, now)

    def _make_room(self, state: HostState, now: float) -> None:
        """Somebody who is talking needs a unit of a full host: whoever has no worker yet gives way, first those whose
        stream has not started, the newest first.
        """
        assert state.host is not None
        excess = len(state.held) - state.host.cap
        if excess > 0:
            giving = [
                (held.fence > 0, -held.since, s) for s, held in state.held.items() if not held.fence or not held.worker
            ]
            for _, _, session in sorted(giving)[:excess]:
                self._give_up(session, now)


def _whole_ms(seconds: float) -> float:
    """Tokens carry whole milliseconds; the claim says the same number on every node."""
    return int(seconds * 1000) / 1000
