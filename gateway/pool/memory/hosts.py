"""One worker host as the memory registry keeps it: its workers, and who holds what of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice

from gateway.pool.registry import Claim, Host
from gateway.protocol.workers import Worker


@dataclass(slots=True)
class ClaimState:
    """A session's claim, which is a unit of a host's cap: for a confirmed stream (fence > 0), for one to come
    (pending_attempt > 0), or both, when a call comes back for another stream on the same worker.

    arrival: its place in the order of all claims, the older the lower.
    """

    service: str
    host: str
    arrival: int
    static: bool
    worker: str = ""
    fence: int = 0
    attempt: int = 0
    expires: float = 0.0
    """When the confirmed claim ends unless it is renewed, by the registry's clock."""
    pending_attempt: int = 0
    pending_expires: float = 0.0
    token_expires: float = 0.0
    """The same in unix time, set once: a webhook that is repeated is answered with the same bytes."""
    fresh: bool = True

    def take_pending(self, other: ClaimState) -> None:
        """Go on with the other slot's pending attempt."""
        self.pending_attempt = other.pending_attempt
        self.pending_expires, self.token_expires = other.pending_expires, other.token_expires

    @property
    def until(self) -> float:
        """When the unit is free again."""
        return max(self.expires if self.fence else 0.0, self.pending_expires if self.pending_attempt else 0.0)

    def is_avoided(self, avoid: Collection[str]) -> bool:
        """Return whether its holder avoids its worker; or its host, while it has no stream with a worker, which may
        outlive the host.
        """
        return self.worker in avoid or (self.host in avoid and not (self.fence and self.worker))


@dataclass(slots=True)
class HostState:
    """host: None while it is lost. Its claims are kept then: its workers may live, and their calls with them."""

    host: Host | None = None
    seq: int = 0
    """Number of the newest report on its workers."""
    draining: bool = False
    workers: dict[str, Worker] = field(default_factory=dict)
    ready: dict[str, None] = field(default_factory=dict)
    """Ready for any session and promised to none, in order."""
    started_for: dict[str, str] = field(default_factory=dict)
    """Session -> worker that was started for it, ready and not yet given."""
    slots: dict[str, ClaimState] = field(default_factory=dict)
    """Session -> its unit. Its length is what is used of the cap."""
    in_use: dict[str, str] = field(default_factory=dict)
    """Worker -> session."""
    waiting: dict[str, None] = field(default_factory=dict)
    """Sessions that hold a unit and wait for a worker, oldest first."""
    retired: dict[str, float] = field(default_factory=dict)
    """Static worker that has served -> from when, by the registry's clock, a beat that finds it ready brings it back;
    0.0: the next one does."""

    def is_old(self, seq: int) -> bool:
        """Return whether a later report was heard already, by another way. If not, this is the newest now."""
        if 0 < seq < self.seq:
            return True
        self.seq = seq
        return False

    @property
    def free(self) -> int:
        """Units of the cap that are free to be given."""
        return 0 if self.host is None or self.draining else max(0, self.host.cap - len(self.slots))

    @property
    def share(self) -> float:
        """The free part of the cap, 0 to 1."""
        return self.free / self.host.cap if self.host is not None else 0.0

    @property
    def offers(self) -> bool:
        """Whether a newcomer could be given a slot here."""
        return self.free > 0 and (self.host is None or not self.host.static or bool(self.ready or self.started_for))

    def capacity(self, session: str, avoid: Collection[str]) -> int:
        """How many more it could take: a host starts workers as needed, static ones are what they are."""
        if self.host is not None and self.host.id in avoid:
            return 0
        if self.host is None or not self.host.static:
            return self.free
        avoided = sum(worker in self.ready for worker in avoid)
        own = self.started_for.get(session, "")
        return min(self.free, len(self.ready) - avoided + (own != "" and own not in avoid))

    def set_workers(self, workers: Iterable[Worker], now: float, *, beat: bool) -> None:
        """What the host says of its workers now. beat: fresh news, which brings a static worker back."""
        self.workers = {worker.id: worker for worker in workers}
        self.ready.clear()
        self.started_for.clear()
        for worker in self.workers.values():
            if beat and worker.id in self.retired:
                if worker.state != "ready":
                    self.retired[worker.id] = 0.0
                elif self.retired[worker.id] <= now:
                    del self.retired[worker.id]
            self.offer(worker.id)

    def offer(self, name: str) -> None:
        """Offer a worker, if it is ready and free."""
        worker = self.workers.get(name)
        if worker is None or worker.state != "ready" or name in self.in_use or name in self.retired:
            return
        if worker.session:
            self.started_for.setdefault(worker.session, name)
        else:
            self.ready[name] = None

    def best_worker(self, session: str, avoid: Collection[str]) -> str:
        """The worker that this session would get: one started for it, or else one started for none, or ""."""
        own = self.started_for.get(session)
        if own is not None and own not in avoid:
            return own
        first = islice(self.ready, len(avoid) + 1)
        return next((worker for worker in first if worker not in avoid), "")

    def assign(self, session: str, slot: ClaimState, avoid: Collection[str] = ()) -> None:
        """Give the session its unit, and a worker if it has none and there is one."""
        self.slots[session] = slot
        if not slot.worker and (worker := self.best_worker(session, avoid)):
            slot.worker, slot.fresh = worker, True
        if slot.worker:
            self.take(session, slot.worker)
            self.waiting.pop(session, None)
        else:
            self.waiting[session] = None

    def take(self, session: str, worker: str) -> None:
        """Take the worker off what is offered."""
        self.in_use[worker] = session
        self.ready.pop(worker, None)
        for other, own in list(self.started_for.items()):
            if own == worker:
                del self.started_for[other]

    def unassign(self, session: str) -> None:
        """Free the session's slot, and offer its worker."""
        slot = self.slots.pop(session)
        self.waiting.pop(session, None)
        if slot.worker:
            del self.in_use[slot.worker]
            self.offer(slot.worker)

    def give_free_workers(self) -> None:
        """Give workers that have come free to the sessions that wait for one, oldest first.

        Without regard to what they avoid: a search that is given such a worker claims again.
        """
        for session in list(self.waiting):
            if not self.ready and not self.started_for:
                return
            self.assign(session, self.slots[session])

    def sessions_over_cap(self) -> list[str]:
        """Return the sessions to be given up for running calls of a full host: such without a worker, first those whose
        stream has not started, the newest first.
        """
        assert self.host is not None
        excess = len(self.slots) - self.host.cap
        able = ((s, slot) for s, slot in self.slots.items() if not slot.fence or not slot.worker)
        giving = sorted((slot.fence > 0, -slot.arrival, session) for session, slot in able)
        return [session for _, _, session in giving[: max(0, excess)]]

    def claim_of(self, session: str, slot: ClaimState, attempt: int, *, fence: int, expires: float) -> Claim:
        """Make the claim that its holder is given."""
        assert self.host is not None
        return Claim(
            session=session,
            service=slot.service,
            host=slot.host,
            worker=self.workers.get(slot.worker),
            attempt=attempt,
            fence=fence,
            expires=expires,
            protocol=self.host.protocol,
            link_key=self.host.link_key,
            fresh=slot.fresh,
            static=slot.static,
        )
