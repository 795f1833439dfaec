"""One gateway process: what every part of the conductor stands on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakValueDictionary

import structlog

from gateway.carriers.base import Carrier
from gateway.media.ticker import Ticker
from gateway.metrics import MAX_HOSTS, Metrics, forget_oldest
from gateway.node.http_client import Rest
from gateway.node.services import Services
from gateway.node.tokens import Signer
from gateway.pool.client import RegistryClient
from gateway.pool.registry import Leases

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds, unless said otherwise."""

    outage_grace: float = 5.0
    """A registry that is away is asked again for this long on behalf of a caller who was answered: one that restarts is
    back within seconds. Who has only rung gets `when_down` at once."""
    start_timeout: float = 5.0
    """A stream that has not sent `start` by then is closed, 1008."""
    bad_before_start: int = 5
    """As many unintelligible messages in a row before `start`, and the stream is closed, 1003."""
    reattach_timeout: float = 10.0
    """A bot whose caller's stream broke waits this long for the carrier to come back."""
    link_timeout: float = 1.0
    """A worker answers the upgrade within this, or the next one is claimed."""
    redial: float = 0.3
    """A link that breaks is dialled once more after this: the worker may live."""
    connect_tries: int = 3
    connect_all: float = 3.0
    """At most so many workers are tried, in at most so long."""
    worker_start: float = 10.0
    """A host that had no ready worker starts one; the caller's audio waits this long for it."""
    max_worker_starts: int = 3
    """Worker starts over the whole life of a session: a call that kills its bots is not given one after another."""
    hand_over: float = 2.0
    """A call that another node is to go on with is given away in a pause of the bot's, at the latest after this."""
    rest_timeout: float = 1.5
    """The carrier's REST API hangs up within this, or its XML does."""
    drain_notice: float = 3.0
    """While draining, new calls are still taken for so long, where there are other nodes: several checks of a balancer,
    which prefers the node that empties until it has noticed."""
    streams: int = 2000
    """WebSockets of carriers at once, in this process."""


class ConnectedHost(Protocol):
    """A worker host's connection, as its node uses it."""

    def start_worker(self, session: str) -> None:
        """Ask for a worker for this session, now."""

    def drain(self) -> None:
        """Tell it to take no new sessions, and to end when its calls have."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(slots=True)
class Node:
    """The process. public_url: what carriers call us by, no trailing slash."""

    public_url: str
    registry: RegistryClient
    signer: Signer
    services: Services
    carriers: Mapping[str, Carrier]
    leases: Leases = Leases()
    limits: CallLimits = CallLimits()
    dial_allowed: Callable[[str], bool] = lambda _: False
    """May a transfer or forward go to this number?"""
    unix_time: Callable[[], float] = time.time
    ticker: Ticker = field(default_factory=Ticker)
    hosts: dict[str, ConnectedHost] = field(default_factory=dict)
    """Worker hosts connected to this node, by id."""
    start_seconds: dict[str, float] = field(default_factory=dict)
    """Per service: how long a start of its bot's workers takes, by what its hosts say."""
    peak_ready: dict[str, int] = field(default_factory=dict)
    """Per host: the most ready workers it has ever had at once."""
    rest: Rest = field(default_factory=Rest)
    streams: int = 0
    """Carriers' WebSockets that are open."""
    draining: bool = False
    """/readyz and /lbz say so; the balancer looks now and then, and calls come until it has."""
    refusing: bool = False
    """No new calls."""
    overloaded: bool = False
    """The event loop is late: nobody new is admitted, for those who talk would hear it."""
    metrics: Metrics = field(default_factory=Metrics)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _session_locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    @property
    def rejected(self) -> Counter[tuple[str, str]]:
        """(where, reason): what was refused at the door."""
        return self.metrics.rejected

    @property
    def public_ws(self) -> str:
        """The same, as carriers dial it for streams."""
        return "ws" + self.public_url.removeprefix("http")

    def url(self, path: str) -> str:
        return self.public_url + path

    def start_worker(self, host: str, session: str) -> None:
        """Ask a host to start a worker for a session. One that is connected elsewhere learns of it with its beat."""
        if host in self.hosts:
            self.hosts[host].start_worker(session)

    def start_timeout(self, service: str) -> float:
        """Return how long a caller of this service waits for a worker to start, in seconds.

        A bot whose workers are known to take longer than the limit gets twice what they took.
        """
        return max(self.limits.worker_start, 2 * self.start_seconds.get(service, 0.0))

    def session_lock(self, session: str) -> asyncio.Lock:
        """Streams of one session are admitted one after another."""
        return self._session_locks.setdefault(session, asyncio.Lock())

    def note_ready(self, host: str, service: str, ready: int) -> None:
        """A host has so many workers ready."""
        self.peak_ready[host] = max(
            self.peak_ready.pop(host, 0), ready
        )  # last again: the first has been silent for longest
        forget_oldest(self.peak_ready, MAX_HOSTS)

    def note_overload(self, on: bool, lag: float) -> None:
        """The event loop keeps up, or it does not. lag: its mean, seconds."""
        if on != self.overloaded:
            self.overloaded = on
            log.warning("overloaded" if on else "no longer overloaded", lag=round(lag, 3), streams=self.streams)

    def refuse(self, where: str, reason: str, **details: str) -> None:
        """Count and log one refusal: one line, no secrets, no raw paths."""
        self.rejected[where, reason] += 1
        log.warning("refused", where=where, reason=reason, **details)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run beside everything else; a failure is logged, and nothing is forgotten."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", task=task.get_name(), exc_info=error)

    @property
    def tasks(self) -> int:
        """How many are running."""
        return len(self._tasks)
