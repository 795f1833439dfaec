"""The registry: who serves whom. Hosts, slots, claims, the queue of those on hold, and the facts of sessions.

Two implementations behind one interface: `memory` for one process, `redis` for many nodes. Implementations have
no tasks, sockets of their own making, or callbacks; every method awaits where Redis would, and raises nothing but
`RegistryUnavailable`. What is full, queued or stale is a value. After an outage of a second or more, nothing is taken
for expired for one lease of its kind (of a reservation: `confirmed`): nobody could renew it.

A claim's life: `claim` reserves one unit of a host's cap for a session and, if one is ready, a worker; unconfirmed
it expires. `confirm`, once for each attempt, when the stream has started: it gives a new fence, which only grows.
`renew` while the session lives. `release`, fenced: only the newest holder's counts.

Static workers know nothing of us, so a node beats for them, with what their /readyz says: `ready`, or `busy` for any
other answer or none. One that has served is not offered again before a later beat finds it ready; one whose confirmed
claim ran out unreleased, not before beats have found it something else and then ready, or `Leases.static` is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from gateway.pool.facts import FactEvent, Facts
from gateway.protocol.workers import LinkProtocol, Running, Worker

FENCE_AHEAD = 3600 * 1_000_000
"""Microseconds that a reported fence may be ahead of the registry's clock: two servers' clocks may differ. A registry
counts on from the highest fence it believes, so one from the far future would outlive every clock."""
STATIC_HOST = "static:"
"""What the ids of hosts begin with that stand for static workers, and no other host's."""


@dataclass(frozen=True, slots=True)
class Leases:
    """Every time limit of the registry, in seconds. Tests run it scaled down."""

    beat: float = 2.0
    """A host beats this often."""
    host: float = 6.0
    """A host unheard for three beats is dead, and its workers with it."""
    reserved: float = 30.0
    """An unconfirmed claim: carriers open the stream within seconds, or never. The stream token lives as long."""
    confirmed: float = 15.0
    """A confirmed claim that nobody renews: no slot is lost for longer than this."""
    renew: float = 5.0
    """Renewed three times in a lease, so that two renewals may be lost."""
    queued: float = 5.0
    """A place in the queue: whoever is on hold claims again at least this often."""
    facts: float = 24 * 3600.0
    """Facts of a session that is not known to have ended; no call is longer."""
    ended: float = 600.0
    """Facts of one that has: callbacks come late and repeat, but not for ever."""
    static: float = 7200.0
    """A static worker whose claim ran out unreleased may still be talking: as long as a call may last, it is not
    offered again, unless it is seen not ready meanwhile."""

    def scaled(self, factor: float) -> Leases:
        """The same, all `factor` times as long."""
        return Leases(*(getattr(self, f) * factor for f in self.__slots__))


@dataclass(frozen=True, slots=True)
class Host:
    """A worker host as it registered. cap: sessions at once. static: its workers know nothing of us.

    seq: of this news; in one epoch, older news than what is known changes nothing. 0: not counted.
    """

    id: str
    epoch: int
    service: str
    protocol: LinkProtocol
    cap: int
    workers: tuple[Worker, ...]
    link_key: str = ""
    static: bool = False
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A slot held for a session.

    attempt: grows with each stream of the session; a stream token names it. fence: 0 until confirmed.
    worker: None while the host is still starting one. expires: unix time, whole milliseconds kept.
    link_key: bearer for the worker. fresh: the worker has not served this session before.
    """

    session: str
    service: str
    host: str
    worker: Worker | None
    attempt: int
    fence: int
    expires: float
    protocol: LinkProtocol = "pcm"
    link_key: str = ""
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Queued:
    """No slot is free; the session has place `position` (from 1) among those on hold."""

    position: int


@dataclass(frozen=True, slots=True)
class Full:
    """No slot is free. hosts: how many live hosts serve this service; 0 means that it is down, not busy."""

    hosts: int


@dataclass(frozen=True, slots=True)
class Stale:
    """The claim is not there. spent: because this attempt was confirmed before, or a newer one was; else it has
    expired or its worker is gone, and may be claimed again.
    """

    spent: bool


@dataclass(frozen=True, slots=True)
class Once:
    """What `once` found. first: nobody had set the key. value: what the first one set. age: seconds since then."""

    first: bool
    value: str
    age: float


@dataclass(frozen=True, slots=True)
class Slots:
    """What a pool has, for metrics and /readyz. live = ready + starting + busy workers; used = live claims."""

    cap: int
    used: int
    ready: int
    starting: int
    busy: int
    queued: int


ClaimResult: TypeAlias = Claim | Queued | Full


class Registry(Protocol):
    """See the module's docstring. session: the session id, everywhere."""

    async def put_host(self, host: Host, running: Sequence[Running] = ()) -> bool:
        """Replace all that is known of this host. False: a newer epoch of it is known, nothing was done.

        running: sessions that its workers serve. One with a higher fence than is known is believed, and one whose claim
        was lost; not one that was released, avoids that worker, or has gone to another service: its bot outstays the
        call. Nor one with a fence that no registry can have given yet (see FENCE_AHEAD), nor one that another live host
        serves, unless an outage may have lost a newer claim. If that leaves the cap too small, sessions that have no
        worker yet, or no stream, give way. A host that drains still does.
        """

    async def beat(self, host_id: str, epoch: int, workers: Sequence[Worker], seq: int = 0) -> tuple[str, ...] | None:
        """Renew the host's lease, and its workers' states unless they are older than what is known. None: unknown,
        `put_host` again.

        Returns the sessions that hold a unit of this host's cap and still wait for a worker.
        """

    async def drop_host(self, host_id: str, epoch: int) -> None:
        """Forget the host, unless a newer epoch of it is known.

        Confirmed claims on it live on while they are renewed: a lost host says nothing of its workers' calls.
        """

    async def drain_host(self, host_id: str, epoch: int) -> None:
        """Offer nothing of this host any more. Claims with a worker stay; those still without one are given up, and may
        be claimed again elsewhere.
        """

    async def claim(self, service: str, session: str, *, avoid: Iterable[str] = (), queue: bool = False) -> ClaimResult:
        """A slot for this session; the same one if it holds one that is alive.

        An unconfirmed claim is returned as it is (with a worker as soon as there is one). A confirmed one is
        given a next attempt on the same worker. avoid: ids of workers that failed this session; a claim on one
        of them is given up and another worker taken. And ids of hosts that may be dead: they give nothing, and a claim
        there is given up unless it is a stream's with a worker, which may outlive its host. queue: take a place among
        those on hold if there is none; while others wait, a newcomer without `queue` finds the pool full.
        """

    async def confirm(self, session: str, attempt: int) -> Claim | Stale:
        """The stream of this attempt has started. Once per attempt; gives the new fence."""

    async def look(self, session: str, fence: int) -> Claim | Stale:
        """The confirmed claim as it is now: with its worker, as soon as the host has started one."""

    async def renew(self, claims: Mapping[str, int]) -> set[str]:
        """Renew confirmed claims, {session: fence}. Returns the sessions that are no longer held by that fence.

        On a server, a claim may be gone after an outage though it was renewed as often as could be: another node let it
        expire, or the server came back empty. It is entered again if nobody has taken its place and it was not given
        up. In memory no claim is lost so: nothing expires for a lease after an outage, and what is gone is lost.
        """

    async def release(self, session: str, fence: int) -> None:
        """Give the slot back, if the session is still held by this fence (0: an unconfirmed claim). Idempotent."""

    async def leave(self, service: str, session: str) -> None:
        """Give up the session's place in the queue. Idempotent."""

    async def merge(self, session: str, event: FactEvent) -> Facts:
        """Fold the event into the session's facts (see `facts.merge`) and return them."""

    async def find(self, alias: str) -> Facts | None:
        """The facts of the session with this id or alias (a carrier's call id, `carrier:id`)."""

    async def once(self, key: str, ttl: float, value: str = "") -> Once:
        """Set `key` to `value` for `ttl` seconds, unless it is set; say which."""

    async def freed(self, service: str, timeout: float) -> None:
        """Return when a slot may have been freed, at the latest after `timeout`. A hint: always claim again."""

    async def slots(self, service: str) -> Slots:
        """A count of the pool as it is now."""

    async def close(self) -> None:
        """Let go of connections, if there are any. Idempotent."""
