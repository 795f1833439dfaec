"""The state of one gateway process, shared by webhooks, streams, sessions and what looks after them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakValueDictionary

import structlog

from gateway.call_recording.writer import RecordingThread
from gateway.carriers.base import Carrier
from gateway.carriers.url import socket_url
from gateway.media.ticker import Ticker
from gateway.metrics import MAX_HOSTS, Metrics, forget_oldest
from gateway.node.http_client import HttpClient
from gateway.node.limits import CallLimits
from gateway.node.log_limiter import LogLimiter
from gateway.node.services import Fallback, Service, Services
from gateway.node.tokens import Signer
from gateway.node.wire_records import WireRecords
from gateway.node.worker_http import WorkerHttp
from gateway.node.worker_networks import WorkerNetworks
from gateway.pool.client import RegistryClient
from gateway.pool.registry import Leases
from gateway.protocol.workers import LinkProtocol, Worker
from gateway.records.base import NoRecords, Records, RecordStore

log = structlog.get_logger(__name__)

BEFORE_ROUTING = ("http", "ops", "dev")
"""Where a request is refused before anything is known of it: no route, a bound of HTTP itself, a page's request."""


class WatchedWorkers(Protocol):
    """The static workers of a service, as sessions use them."""

    def call_began(self, worker: Worker) -> None:
        """A call of this node has it."""

    def call_ended(self, worker: Worker) -> None:
        """It is free again, once it says so."""


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
    worker_networks: WorkerNetworks = field(default_factory=WorkerNetworks)
    """Where worker hosts may say that their workers are."""
    unix_time: Callable[[], float] = time.time
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    """This process, as other nodes know it: the name of its mailbox in the registry."""
    ticker: Ticker = field(default_factory=Ticker)
    hosts: dict[str, ConnectedHost] = field(default_factory=dict)
    """Worker hosts connected to this node, by id."""
    static_workers: dict[str, WatchedWorkers] = field(default_factory=dict)
    """By service."""
    start_seconds: dict[str, float] = field(default_factory=dict)
    """Per service: how long a start of its bot's workers takes, by what its hosts say."""
    protocols: dict[str, LinkProtocol] = field(default_factory=dict)
    """Per service: what its bots speak, by what its hosts said last."""
    peak_ready: dict[str, int] = field(default_factory=dict)
    """Per host: the most ready workers it has ever had at once."""
    records: Records = field(default_factory=NoRecords)
    """Where what becomes known of calls is kept for good."""
    recordings: RecordingThread = field(default_factory=RecordingThread)
    recording_tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """Those that wait for a recording's file, to note where it is."""
    wire: WireRecords = field(init=False)
    """Captures of what carriers and the gateway say to each other, for bug reports."""
    record_store: RecordStore | None = None
    """Reads `records`; None: no records are kept."""
    http_client: HttpClient = field(default_factory=HttpClient)
    worker_http: WorkerHttp = field(default_factory=WorkerHttp)
    streams: int = 0
    """WebSockets of carriers and of clients (`/ws-client`) that are open."""
    draining: bool = False
    """/readyz and /lbz say so; the balancer looks now and then, and calls come until it has."""
    refusing: bool = False
    """No new calls."""
    overloaded: bool = False
    """The event loop is late: no new call is admitted, as running ones would hear it."""
    metrics: Metrics = field(default_factory=Metrics)
    _refused_lines: LogLimiter = field(default_factory=lambda: LogLimiter(burst=500, per_second=1.0))
    """A burst of callers who are refused is told one by one; a stranger who tries keys all day is not."""
    _port_lines: LogLimiter = field(default_factory=lambda: LogLimiter(burst=5, per_second=0.1))
    """Of what any scanner of ports does the operator needs one line, not each."""
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _session_locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def __post_init__(self) -> None:
        self.metrics.recordings = self.recordings
        enabled = any(service.record for service in self.services)
        self.wire = WireRecords(enabled=enabled, public_url=self.public_url, public_ws=self.public_ws)

    @property
    def rejected(self) -> Counter[tuple[str, str]]:
        """(where, reason): what was refused at the door."""
        return self.metrics.rejected

    @property
    def public_ws(self) -> str:
        """`public_url` with the scheme ws or wss: where carriers open streams."""
        return socket_url(self.public_url)

    def forward_number(self, carrier: str, fallback: Fallback) -> str:
        """Return the number that a fallback sends this carrier's caller to, "" if to none."""
        allowed = fallback.kind == "forward" and self.carriers[carrier].can.transfer and self.dial_allowed(fallback.to)
        return fallback.to if allowed else ""

    def url(self, path: str) -> str:
        return self.public_url + path

    def protocol_of(self, service: Service) -> LinkProtocol:
        """Return what this service's bots speak, as far as this node knows: a caller on hold has no worker to say."""
        return service.protocol or self.protocols.get(service.host, "pcm")

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

    def note_ready(self, host: str, ready: int) -> None:
        """A host has so many workers ready."""
        # Entered again, so that the first entry is of the host that has been silent for longest.
        self.peak_ready[host] = max(self.peak_ready.pop(host, 0), ready)
        forget_oldest(self.peak_ready, MAX_HOSTS)

    def note_overload(self, on: bool, lag: float) -> None:
        """The event loop keeps up, or it does not. lag: its mean, seconds."""
        if on != self.overloaded:
            self.overloaded = on
            log.warning("overloaded" if on else "no longer overloaded", lag=round(lag, 3), streams=self.streams)

    def refuse(self, where: str, reason: str, **details: str) -> None:
        """Count and log one refusal: one line, no secrets, no raw paths.

        details: those that are "" are left out. Of very many refusals of a kind only some are logged.
        """
        self.rejected[where, reason] += 1
        self._log_some("refused", where, reason, details)

    def note_ignored(self, where: str, reason: str, **details: str) -> None:
        """Log something that was asked for and is left out, while the rest of the request is served.

        details: as in `refuse`.
        """
        self._log_some("ignored", where, reason, details)

    def _log_some(self, event: str, where: str, reason: str, details: Mapping[str, str]) -> None:
        limiter = self._port_lines if where in BEFORE_ROUTING else self._refused_lines
        left_out = limiter.allow((where, reason), time.monotonic())
        if left_out is not None:
            more = {"left_out": left_out} if left_out else {}
            known = {name: value for name, value in details.items() if value}
            log.warning(event, where=where, reason=reason, **known, **more)

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
