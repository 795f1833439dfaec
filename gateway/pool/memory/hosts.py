"""One worker host as the memory registry keeps it: its workers, and who holds what of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice

from gateway.pool.registry import Claim, Host
from gateway.protocol.workers import Worker


@dataclass(slots=True)
class Reservation:
    """A unit of a host's cap, held by a session: by a confirmed stream (fence > 0), for one to come (pending > 0),
    or both, when a call comes back for another stream on the same worker. since: a ticket, the older the lower.
    """

    service: str
    host: str
    since: int
    static: bool
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
        """When the unit is free again."""
        return max(self.expires if self.fence else 0.0, self.pending_expires if self.pending else 0.0)

    def shuns(self, avoid: Collection[str]) -> bool:
        """Its holder wants another place than this. A worker with a stream may outlive a host that is avoided."""
        return self.worker in avoid or (self.host in avoid and not (self.fence and self.worker))


@dataclass(slots=True)
class HostState:
    """host: None while it is lost. Its claims are kept then: its workers may live, and their calls with them."""

    host: Host | None = None
    seq: int = 0
    """Of the newest news of its workers."""
    draining: bool = False
    workers: dict[str, Worker] = field(default_factory=dict)
    ready: dict[str, None] = field(default_factory=dict)
    """Ready for anybody and promised to nobody, in order."""
    own: dict[str, str] = field(default_factory=dict)
    """Session -> worker that was started for it, ready and not yet given."""
    held: dict[str, Reservation] = field(default_factory=dict)
    """Session -> its unit. Its length is what is used of the cap."""
    taken: dict[str, str] = field(default_factory=dict)
    """Worker -> session."""
    waiting: dict[str, None] = field(default_factory=dict)
    """Sessions that hold a unit and wait for a worker, oldest first."""
    spent: dict[str, float] = field(default_factory=dict)
    """Static worker that has served -> when a beat may bring it back."""

    def is_old(self, seq: int) -> bool:
        """Later news has been heard already, by another way. If not, this is the newest now."""
        if 0 < seq < self.seq:
            return True
        self.seq = seq
        return False

    @property
    def free(self) -> int:
        """Units of the cap that are to be had."""
        return 0 if self.host is None or self.draining else max(0, self.host.cap - len(self.held))

    @property
    def share(self) -> float:
        """Of the cap, what is free."""
        return self.free / self.host.cap if self.host is not None else 0.0

    @property
    def offers(self) -> bool:
        """Whether there is something to be had of it, for somebody."""
        return self.free > 0 and (self.host is None or not self.host.static or bool(self.ready or self.own))

    def capacity(self, session: str, avoid: Collection[str]) -> int:
        """How many more it could take: a host starts workers as needed, static ones are what they are."""
        if self.host is not None and self.host.id in avoid:
            return 0
        if self.host is None or not self.host.static:
            return self.free
        avoided = sum(worker in self.ready for worker in avoid)
        own = self.own.get(session, "")
        return min(self.free, len(self.ready) - avoided + (own != "" and own not in avoid))

    def set_workers(self, workers: Iterable[Worker], now: float, *, beat: bool) -> None:
        """What the host says of its workers now. beat: fresh news, which brings a static worker back."""
        self.workers = {worker.id: worker for worker in workers}
        self.ready.clear()
        self.own.clear()
        for worker in self.workers.values():
            if beat and worker.id in self.spent:
                if worker.state != "ready":
                    self.spent[worker.id] = 0.0
                elif self.spent[worker.id] <= now:
                    del self.spent[worker.id]
            self.offer(worker.id)

    def offer(self, name: str) -> None:
        """Offer a worker, if it is one to be had."""
        worker = self.workers.get(name)
        if worker is None or worker.state != "ready" or name in self.taken or name in self.spent:
            return
        if worker.session:
            self.own.setdefault(worker.session, name)
        else:
            self.ready[name] = None

    def best_worker(self, session: str, avoid: Collection[str]) -> str:
        """The worker that this session would get: one started for it, or else one started for nobody, or ""."""
        own = self.own.get(session)
        if own is not None and own not in avoid:
            return own
        first = islice(self.ready, len(avoid) + 1)
        return next((worker for worker in first if worker not in avoid), "")

    def enter(self, session: str, held: Reservation, avoid: Collection[str] = ()) -> None:
        """Give the session its unit, and a worker if it has none and there is one."""
        self.held[session] = held
        if not held.worker and (worker := self.best_worker(session, avoid)):
            held.worker, held.fresh = worker, True
        if held.worker:
            self.take(session, held.worker)
            self.waiting.pop(session, None)
        else:
            self.waiting[session] = None

    def take(self, session: str, worker: str) -> None:
        """Out of what is offered."""
        self.taken[worker] = session
        self.ready.pop(worker, None)
        for other, own in list(self.own.items()):
            if own == worker:
                del self.own[other]

    def leave(self, session: str) -> None:
        """The unit is free again, and the worker, if it can be had."""
        held = self.held.pop(session)
        self.waiting.pop(session, None)
        if held.worker:
            del self.taken[held.worker]
            self.offer(held.worker)

    def settle(self) -> None:
        """Workers may have come free: those who wait for one get it, oldest first."""
        for session in list(self.waiting):
            if not self.ready and not self.own:
                return
            self.enter(session, self.held[session])

    def claim_of(self, session: str, held: Reservation, attempt: int, *, fence: int, expires: float) -> Claim:
        """Make the claim that its holder is given."""
        assert self.host is not None
        return Claim(
            session=session,
            service=held.service,
            host=held.host,
            worker=self.workers.get(held.worker),
            attempt=attempt,
            fence=fence,
            expires=expires,
            protocol=self.host.protocol,
            link_key=self.host.link_key,
            fresh=held.fresh,
        )
