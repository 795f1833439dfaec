"""The registry of one process. It awaits where Redis would, and expires by the same leases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.errors import RegistryUnavailable
from gateway.pool.memory.attempts import Attempts
from gateway.pool.memory.expiry import ExpiryQueue, whole_ms
from gateway.pool.memory.hold_queue import HoldQueues
from gateway.pool.memory.hosts import ClaimState, HostState
from gateway.pool.memory.shared_state import SharedState
from gateway.pool.memory.slot_notifier import SlotNotifier
from gateway.pool.outage import Outage
from gateway.pool.registry import MAX_FENCE_LEAD_US, Claim, ClaimResult, Full, Host, Leases, PoolCounts, Queued, Stale
from gateway.protocol.workers import Running, Worker


class MemoryRegistry(SharedState):
    """See `gateway.pool.registry.Registry`.

    clock: of the leases; it only grows, while unix time may be set. unix_time: of a claim's end and its fence.
    """

    def __init__(
        self,
        leases: Leases | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.leases = leases or Leases()
        super().__init__(self.leases)
        self.down = False
        """For tests: set it, and every method raises RegistryUnavailable, as a Redis that is cut off would."""
        self._clock, self._unix_time = clock, unix_time
        self._outage = Outage()
        self._hosts: dict[str, HostState] = {}
        self._host_ends: ExpiryQueue[str] = ExpiryQueue()  # host -> end of its lease
        self._retired_ends: ExpiryQueue[str] = ExpiryQueue()  # host -> when its retired workers are forgotten
        self._slots: dict[str, ClaimState] = {}  # by session
        self._claim_ends: ExpiryQueue[str] = ExpiryQueue()  # session -> when its slot is free again
        self._attempts = Attempts(self.leases.ended)
        self._queues = HoldQueues()
        self._fence = 0
        self._arrivals = 0  # claims so far
        self._notifier = SlotNotifier()

    async def close(self) -> None:
        pass

    # Hosts.

    async def put_host(self, host: Host, running: Sequence[Running] = ()) -> bool:
        now = await self._begin_step()
        state = self._hosts.setdefault(host.id, HostState())
        known = state.host
        if known is not None and known.epoch > host.epoch:
            return False
        same = known is not None and known.epoch == host.epoch
        self._host_ends.set(host.id, now + self.leases.host)
        if same and state.is_old(host.seq):
            return True
        state.seq = host.seq
        # A host that drains says so to each gateway, and registers with each: the same start is not another host.
        state.draining = state.draining and same
        state.host = host
        state.set_workers(host.workers, now, beat=False)
        for session, slot in list(state.slots.items()):
            if slot.service != host.service or (slot.worker and slot.worker not in state.workers):
                self._give_up(session, now)
        for run in running:
            self._restore(run, host, state, now)
        self._make_room(state, now)
        state.give_free_workers()
        self._notifier.tell(host.service)
        return True

    async def beat(self, host_id: str, epoch: int, workers: Sequence[Worker], seq: int = 0) -> tuple[str, ...] | None:
        now = await self._begin_step()
        state = self._hosts.get(host_id)
        if state is None or state.host is None or state.host.epoch != epoch:
            return None
        self._host_ends.set(host_id, now + self.leases.host)
        if state.is_old(seq):
            return tuple(state.waiting)
        state.set_workers(workers, now, beat=True)
        state.give_free_workers()
        if state.offers:  # else all on hold would claim again for nothing, at every beat of every host
            self._notifier.tell(state.host.service)
        return tuple(state.waiting)

    async def drop_host(self, host_id: str, epoch: int) -> None:
        await self._begin_step()
        state = self._hosts.get(host_id)
        if state is not None and state.host is not None and state.host.epoch <= epoch:
            self._forget_host(host_id)

    async def drain_host(self, host_id: str, epoch: int) -> None:
        now = await self._begin_step()
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
        now = await self._begin_step()
        avoid = frozenset(avoid)
        slot = self._load(session, now)
        lost_worker = False
        # Gone to another service, unwanted, or dead: give it up and look again.
        if slot is not None and (slot.service != service or slot.is_avoided(avoid) or not self._is_alive(slot)):
            lost_worker = slot.service == service
            if slot.worker in avoid:
                self._attempts.note_released(session, slot.fence)
            self._give_up(session, now)
            slot = None
        if slot is None:
            found = self._choose_host(service, session, avoid, queue, now, lost_worker)
            if not isinstance(found, HostState):
                return found
            slot = self._make_claim(session, found, avoid)
        if not slot.pending_attempt:
            attempts = self._attempts.of(session, now)
            attempts.given += 1
            slot.pending_attempt = attempts.given
            slot.pending_expires = now + self.leases.reserved
            slot.token_expires = whole_ms(self._unix_time() + self.leases.reserved)
            self._claim_ends.set(session, slot.until)
        return self._hosts[slot.host].claim_of(session, slot, slot.pending_attempt, fence=0, expires=slot.token_expires)

    async def confirm(self, session: str, attempt: int) -> Claim | Stale:
        now = await self._begin_step()
        slot = self._load(session, now)
        if slot is None or attempt <= 0 or slot.pending_attempt != attempt or not self._is_alive(slot):
            return Stale(spent=self._attempts.is_spent(session, attempt))
        self._fence = max(self._fence + 1, int(self._unix_time() * 1e6))
        slot.fence, slot.attempt, slot.pending_attempt = self._fence, attempt, 0
        attempts = self._attempts.of(session, now)
        attempts.confirmed, attempts.fence, attempts.released = attempt, slot.fence, False
        slot.expires = now + self.leases.confirmed
        self._claim_ends.set(session, slot.until)
        claim = self._claim_of(session, slot, attempt, slot.fence, self.leases.confirmed)
        slot.fresh = False
        return claim

    async def get_claim(self, session: str, fence: int | None) -> Claim | Stale:
        now = await self._begin_step()
        slot = self._slots.get(session)
        if fence is None:
            fence = (slot.fence if slot is not None else 0) or -1
        if slot is None or slot.fence != fence or not self._is_alive(slot):
            return Stale(spent=slot is not None and slot.fence > fence >= 0)
        return self._claim_of(session, slot, slot.attempt, fence, slot.expires - now)

    async def renew(self, claims: Mapping[str, int]) -> set[str]:
        now = await self._begin_step()
        lost = set()
        for session, fence in claims.items():
            slot = self._slots.get(session)
            if slot is None or slot.fence != fence:
                lost.add(session)
                continue
            slot.expires = now + self.leases.confirmed
            self._claim_ends.set(session, slot.until)
        return lost

    async def release(self, session: str, fence: int) -> None:
        now = await self._begin_step()
        slot = self._slots.get(session)
        self._attempts.note_released(session, fence)
        if slot is not None and slot.fence == fence:
            self._give_up(session, now)

    async def leave_queue(self, service: str, session: str) -> None:
        await self._begin_step()
        self._leave_queue(service, session)

    # Hints.

    async def wait_free(self, service: str, timeout: float, freed: int | None = None) -> None:
        with self._notifier.next(service) as hint:  # before anything is awaited: from here on none is missed
            await self._begin_step()
            if freed is not None and self._notifier.told(service) != freed:
                return
            try:
                async with asyncio.timeout(timeout):
                    await hint.wait()
            except TimeoutError:
                pass

    async def slots(self, service: str) -> PoolCounts:
        await self._begin_step()
        cap = used = free = 0
        states = {"ready": 0, "starting": 0, "busy": 0, "done": 0}
        for state in self._hosts_of(service):
            assert state.host is not None
            cap += 0 if state.draining else state.host.cap
            used += len(state.slots)
            free += state.capacity("", ())
            for worker in state.workers.values():
                states[worker.state] += 1
        queued = self._queues.length(service)
        return PoolCounts(cap, used, states["ready"], states["starting"], states["busy"], queued, free)

    # Within: synchronous, so that every method above is one atomic step after `_begin_step`.

    async def _begin_step(self) -> float:
        await asyncio.sleep(0)
        now = self._clock()
        if self.down:
            self._outage.missed(now)
            raise RegistryUnavailable("the registry is down")
        self._outage.answered(now)
        self._purge(now)
        return now

    def _purge(self, now: float) -> None:
        """Drop what has expired, but nothing in grace."""
        since_outage = self._outage.seconds_since_outage(now)
        if since_outage >= self.leases.host:
            for host_id in self._host_ends.due(now):
                self._forget_host(host_id)
        if since_outage >= self.leases.confirmed:
            for session in self._claim_ends.due(now):
                self._give_up(session, now, lost=True)
        if since_outage >= self.leases.queued:
            for service, session in self._queues.due(now):
                self._leave_queue(service, session)
        self._attempts.purge(now, self._slots)
        for host_id in self._retired_ends.due(now):
            self._hosts[host_id].retired.clear()
            self._drop_host_if_unused(host_id)
        self._purge_shared(now)

    def _load(self, session: str, now: float) -> ClaimState | None:
        """Return the session's slot, without a pending attempt that has expired."""
        slot = self._slots.get(session)
        if slot is not None and slot.pending_expires <= now and not self._in_grace(now):
            slot.pending_attempt = 0
        return slot

    def _in_grace(self, now: float) -> bool:
        """Return whether claims do not expire now, as an outage is over for less than their lease."""
        return self._outage.seconds_since_outage(now) < self.leases.confirmed

    def _claim_of(self, session: str, slot: ClaimState, attempt: int, fence: int, left: float) -> Claim:
        """Make the confirmed claim that its holder is given. left: seconds until it ends."""
        expires = whole_ms(self._unix_time() + left)
        return self._hosts[slot.host].claim_of(session, slot, attempt, fence=fence, expires=expires)

    def _make_claim(self, session: str, state: HostState, avoid: frozenset[str]) -> ClaimState:
        assert state.host is not None
        slot = ClaimState(state.host.service, state.host.id, self._next_arrival(), state.host.static)
        self._slots[session] = slot
        state.assign(session, slot, avoid)
        return slot

    def _next_arrival(self) -> int:
        self._arrivals += 1
        return self._arrivals

    def _give_up(self, session: str, now: float, *, lost: bool = False) -> None:
        """End a claim. lost: it expired; else it was given up on purpose."""
        slot = self._slots.pop(session)
        self._claim_ends.discard(session)
        self._attempts.keep_longer(session, now)
        state = self._hosts[slot.host]
        if slot.static and slot.fence and slot.worker:
            state.retired[slot.worker] = now + self.leases.static if lost else 0.0
            self._retired_ends.set(slot.host, now + self.leases.static)
        state.unassign(session)
        state.give_free_workers()
        self._drop_host_if_unused(slot.host)
        self._notifier.tell(slot.service)

    def _forget_host(self, host_id: str) -> None:
        state = self._hosts[host_id]
        assert state.host is not None
        self._host_ends.discard(host_id)
        self._notifier.tell(state.host.service)
        state.host, state.seq, state.draining = None, 0, False
        state.set_workers((), 0.0, beat=False)
        self._drop_host_if_unused(host_id)

    def _drop_host_if_unused(self, host_id: str) -> None:
        state = self._hosts[host_id]
        if state.host is None and not state.slots and not state.retired:
            del self._hosts[host_id]
            self._retired_ends.discard(host_id)

    def _leave_queue(self, service: str, session: str) -> None:
        if self._queues.leave(service, session):
            self._notifier.tell(service)

    def _hosts_of(self, service: str) -> list[HostState]:
        return [state for state in self._hosts.values() if state.host is not None and state.host.service == service]

    def _is_alive(self, slot: ClaimState) -> bool:
        state = self._hosts[slot.host]
        if state.host is None:
            return False
        worker = state.workers.get(slot.worker)
        return not slot.worker or (worker is not None and worker.state != "done")

    def _choose_host(
        self, service: str, session: str, avoid: frozenset[str], queue: bool, now: float, lost_worker: bool
    ) -> HostState | Queued | Full:
        """Choose a host for a newcomer, or say why there is none. Those on hold go first, in their order; a session
        that lost its worker goes before them, as the slot that it has just given up stays its own.
        """
        hosts = self._hosts_of(service)
        ahead = 0 if lost_worker else self._queues.ahead(service, session)
        able = [(state, state.capacity(session, avoid)) for state in hosts]
        total = sum(capacity for _, capacity in able)

        def could_serve(other: str, avoided: frozenset[str]) -> bool:
            return any(state.capacity(other, avoided) for state in hosts)

        if total > ahead or (total and self._queues.leave_some(service, ahead, total, could_serve)):
            self._queues.leave(service, session)
            offers = (state for state, capacity in able if capacity)
            return max(offers, key=lambda state: (bool(state.best_worker(session, avoid)), state.share))
        if not queue:
            return Full(len(hosts))
        self._queues.join(service, session, avoid, now + self.leases.queued, first=lost_worker)
        return Queued(ahead + 1, self._notifier.told(service))

    def _restore(self, run: Running, host: Host, state: HostState, now: float) -> None:
        """Enter a running session that the host reports, if `Registry.put_host` believes it. An attempt that waits for
        its stream stays good.
        """
        slot = self._load(run.session, now)
        rival = state.slots.get(state.in_use.get(run.worker, ""))
        newer = run.fence > (slot.fence if slot is not None else 0) and (rival is None or rival.fence <= run.fence)
        # No registry can have given this fence yet: it would be the floor of all later ones.
        possible = run.fence <= max(self._fence, int(self._unix_time() * 1e6) + MAX_FENCE_LEAD_US)
        elsewhere = slot is not None and (slot.service != host.service or self._is_served_elsewhere(slot, host, now))
        rejected = self._attempts.rejects(run.session, run.fence)
        if not newer or not possible or elsewhere or rejected or run.worker not in state.workers:
            return
        attempts = self._attempts.of(run.session, now)
        found = ClaimState(host.service, host.id, self._next_arrival(), host.static, run.worker, run.fence, fresh=False)
        found.attempt = slot.attempt if slot is not None else max(1, attempts.given)
        found.expires = now + self.leases.confirmed
        attempts.given, attempts.confirmed = max(attempts.given, found.attempt), max(attempts.confirmed, found.attempt)
        attempts.fence, attempts.released = run.fence, False
        if rival is not None:
            self._displace(rival, run, state, now)
        state.take(run.session, run.worker)  # before anything is given up, which hands out what comes free
        if slot is not None and slot is not rival:
            self._give_up(run.session, now)
        if slot is not None:
            found.take_pending(slot)
        self._slots[run.session] = found
        state.assign(run.session, found)
        self._claim_ends.set(run.session, found.until)
        self._fence = max(self._fence, run.fence)

    def _is_served_elsewhere(self, slot: ClaimState, host: Host, now: float) -> bool:
        """Return whether a live host of another name has the session, and no outage can have lost a newer claim."""
        if slot.fence == 0 or slot.host == host.id:
            return False
        return self._hosts[slot.host].host is not None and not self._in_grace(now)

    def _displace(self, rival: ClaimState, run: Running, state: HostState, now: float) -> None:
        """Give up the rival's claim: the worker serves another session than we thought."""
        session = state.in_use[run.worker]
        rival.worker = ""  # giving it up must not free the worker
        state.in_use[run.worker] = run.session
        self._give_up(session, now)

    def _make_room(self, state: HostState, now: float) -> None:
        for session in state.sessions_over_cap():
            self._give_up(session, now)
