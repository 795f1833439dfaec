"""The registry: who serves whom. Hosts, slots, claims, the queue of those on hold, and the facts of sessions.

Two implementations behind one interface: `memory` for one process, `redis` for many nodes. Implementations have
no tasks, sockets of their own making, or callbacks; every method awaits where Redis would, and raises nothing but
`RegistryUnavailable`. What is full, queued or stale is a value. After an outage of a second or more there is grace:
nothing expires for one lease of its kind, as no node could renew it; of unconfirmed claims that is `confirmed`, too.

A claim holds one unit of a host's cap for a session, and a worker as soon as one is ready. Its state follows from two
numbers: the attempt whose stream has not started, and the fence of the stream that runs (`Leases` has the times):

    state        attempt  fence  next
    ---------    -------  -----  -----------------------------------------------------------------------
    none         -        -      `claim` finds a unit: reserved. It finds none: Queued or Full
    reserved     waits    -      `confirm` of that attempt: confirmed. Not within `reserved`: none
    confirmed    -        runs   `renew`: stays. Not within `confirmed`: none (lost). `claim`: returning
    returning    waits    runs   `confirm`: confirmed, with a new fence. Not within `reserved`: confirmed
    any                          `release` by its fence, its worker gone or avoided: none

Each attempt is confirmed once, and each confirmation gives a new fence. Fences only grow, so that only the newest
holder can renew or release. A released claim is not believed again; a lost one is, if its host still reports its call.

Static workers know nothing of us, so a node beats for them, with what their /readyz says: `ready`, or `busy` for any
other answer or none. One that has served is not offered again before a later beat finds it ready; one whose confirmed
claim ran out unreleased, not before beats have found it something else and then ready, or `Leases.static` is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar

from gateway.pool.facts import FactEvent, Facts
from gateway.protocol.workers import LinkProtocol, Running, Worker

T = TypeVar("T")

MAX_FENCE_LEAD_US = 3600 * 1_000_000
"""Microseconds that a reported fence may be ahead of the registry's clock: two servers' clocks may differ. A registry
counts on from the highest fence it believes, so one from the far future would outlive every clock."""

MESSAGE_SECONDS = 5.0
"""Seconds that a mailbox is kept after its newest message: a node that has not read it by then is gone."""
MAX_MESSAGES = 1000
"""Messages in one mailbox; of more, the oldest are dropped."""


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
    """A confirmed claim that is not renewed: no slot is lost for longer than this."""
    renew: float = 5.0
    """Renewed three times in a lease, so that two renewals may be lost."""
    queued: float = 5.0
    """A position in the queue: a session on hold claims again at least this often."""
    facts: float = 24 * 3600.0
    """Facts of a session that is not known to have ended; no call is longer."""
    ended: float = 600.0
    """Facts of one that has: callbacks come late and repeat, but not for ever."""
    static: float = 7200.0
    """A static worker whose claim ran out unreleased may still be talking: for as long as a call lasts by default, it
    is not offered again, unless it is seen not ready meanwhile."""

    def scaled(self, factor: float) -> Leases:
        """Return the same, all `factor` times as long."""
        return Leases(*(getattr(self, f) * factor for f in self.__slots__))


@dataclass(frozen=True, slots=True)
class Host:
    """A worker host as it registered. cap: sessions at once. static: its workers know nothing of us.

    epoch: of this start of the host's process; a later start has a greater one. seq: number of this report within the
    epoch; a report older than the newest one heard changes nothing. 0: unnumbered.
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
    link_key: bearer for the worker. fresh: the worker has not served this session before. static: see `Host`.
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
    static: bool = False

    @property
    def worker_id(self) -> str:
        """The worker's id, "" while there is none."""
        return self.worker.id if self.worker is not None else ""

    @property
    def starts_bot_per_link(self) -> bool:
        """True if the worker begins a new bot with each link: a relayed static one. No bot there can go on."""
        return self.static and self.protocol == "relay"


@dataclass(frozen=True, slots=True)
class Queued:
    """No slot is free; the session has this position (from 1) among those on hold.

    freed: counter of freed-slot hints when this was answered. Pass it to `wait_free`, so that no hint is missed.
    """

    position: int
    freed: int = field(default=0, compare=False)


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
class SetResult:
    """What `set_if_absent` did. first: the key was not set. value: what it is set to. age: seconds since then."""

    first: bool
    value: str
    age: float


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """What a pool has, for metrics and /readyz.

    cap: of hosts that do not drain. used: claims. ready, starting, busy: workers. queued: sessions on hold.
    free: how many newcomers would be given a slot now, if there is no queue.
    """

    cap: int
    used: int
    ready: int
    starting: int
    busy: int
    queued: int
    free: int = 0

    @property
    def deserted(self) -> bool:
        """True if no worker is ready, has a call, or is claimed."""
        return not (self.ready or self.busy or self.used)


ClaimResult: TypeAlias = Claim | Queued | Full
TextChange: TypeAlias = Callable[[str, float], tuple[str, T]]
"""Makes a new text of the one that is there ("" if none is) and of the registry's unix time; and what to return."""


class WorkerRegistry(Protocol):
    """Hosts, claims and the queue of those on hold: see the module's docstring. session: the session id, everywhere."""

    async def put_host(self, host: Host, running: Sequence[Running] = ()) -> bool:
        """Replace all that is known of this host. False: a newer epoch of it is known, nothing was done.

        running: sessions that its workers serve. One is believed if its fence is higher than the known one, or its
        claim was lost. It is not believed if it
        - was released, avoids that worker or went to another service: its bot outlasts the call;
        - has a fence that no registry can have given yet (see MAX_FENCE_LEAD_US);
        - is served by another live host, unless this is in grace: an outage may have lost a newer claim.
        If the cap is too small then, sessions without a worker, or without a stream, are given up. A host that was
        draining goes on draining.
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
        """Give the session a slot; the same one if it has one that is alive.

        An unconfirmed claim is returned as it is (with a worker as soon as there is one). A confirmed one is
        given a next attempt on the same worker. avoid: ids of workers that failed this session, and of hosts that may
        be dead. A claim on such a worker is given up and another worker taken. Such a host gives nothing; a claim
        there is given up, except one with a stream and a worker, which may outlive its host. queue: take a position
        among those on hold if no slot is free; while others wait, a newcomer without `queue` finds the pool full.
        """

    async def confirm(self, session: str, attempt: int) -> Claim | Stale:
        """Confirm the claim, as the stream of this attempt has started. Returns it with its new fence.

        Once per attempt: the second time gives Stale, also where the first answer did not arrive. A caller that got no
        answer must claim again.
        """

    async def get_claim(self, session: str, fence: int | None) -> Claim | Stale:
        """Return the confirmed claim as it is now: with its worker, as soon as the host has started one.

        fence: None to learn which worker serves the session, without holding it.
        """

    async def renew(self, claims: Mapping[str, int]) -> set[str]:
        """Renew confirmed claims, {session: fence}. Returns the sessions that are no longer held by that fence.

        On a server, a claim may be gone after an outage though it was renewed as often as could be: another node let it
        expire, or the server came back empty. It is entered again if no newer claim has its worker and it was not
        given up. In memory no claim is lost so: nothing expires for a lease after an outage, and what is gone is lost.
        """

    async def release(self, session: str, fence: int) -> None:
        """Give the slot back, if the session is still held by this fence (0: an unconfirmed claim). Idempotent."""

    async def leave_queue(self, service: str, session: str) -> None:
        """Give up the session's position in the queue. Idempotent."""

    async def wait_free(self, service: str, timeout: float, freed: int | None = None) -> None:
        """Return when a slot may have been freed, at the latest after `timeout`. A hint: always claim again.

        freed: of the last `Queued`, as of when it counts; None: as of now.
        """

    async def slots(self, service: str) -> PoolCounts:
        """Count the pool as it is now."""


class SharedFacts(Protocol):
    """What is known of each session, by all nodes."""

    async def merge(self, session: str, event: FactEvent) -> Facts:
        """Fold the event into the session's facts (see `facts.merge`) and return them."""

    async def find(self, alias: str) -> Facts | None:
        """Return the facts of the session with this id or alias (see `facts.call_alias`), or None."""


class SharedTexts(Protocol):
    """Keys that are set once, and small texts that are changed in one step."""

    async def set_if_absent(self, key: str, ttl: float, value: str = "") -> SetResult:
        """Set `key` to `value` for `ttl` seconds, unless it is set; say which."""

    async def change(self, key: str, ttl: float, change: TextChange[T]) -> T:
        """Change the text under `key` in one step, keep it for `ttl` seconds from now, and return what `change` says.

        For texts that several nodes write, as `merge` does for facts. `change` may be called more than once, so it does
        nothing else. "" deletes the text. One that it leaves as it is is only read: it is kept no longer by that.
        """


class Mailboxes(Protocol):
    """Messages from node to node."""

    async def send(self, mailbox: str, message: str) -> None:
        """Leave a message for the node that reads this mailbox, see MESSAGE_SECONDS and MAX_MESSAGES."""

    async def receive(self, mailbox: str) -> list[str]:
        """Take all messages out of the mailbox, the oldest first."""


class Registry(WorkerRegistry, SharedFacts, SharedTexts, Mailboxes, Protocol):
    """All of it, as an implementation has it."""

    async def close(self) -> None:
        """Let go of connections, if there are any. Idempotent."""
