"""`gateway.workers.v1`: the messages between a worker host and a gateway.

The host connects to `/v1/workers/connect`, registers, and beats. Text messages are JSON objects with a `type`;
unknown types and fields are ignored by both sides. `decode_*` never raise: None for what cannot be understood.

A worker host is a stranger with a key. A field of the wrong type reads as if it were not there; a message with a
number, a count or a length beyond the bounds below is refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import orjson

from gateway.protocol.fields import count_of, int_of, json_object, name_of, seconds_of, str_of

SUBPROTOCOL = "gateway.workers.v1"
PATH = "/v1/workers/connect"
MAX_CAP = 4_000
"""Sessions at once on one host, so that all its workers fit into one message."""
MAX_WORKERS = 2 * MAX_CAP
"""Workers in one message. A host has at most `cap` that may take calls, and those that end after their call."""
MAX_MESSAGE = 1536 * 1024
"""Bytes of one message. A `register` with MAX_CAP busy workers is 1.2 MB, where their sockets' paths are as long as the
kernel allows.
"""
MAX_NUMBER = 2**52
"""Of epochs (ms), fences (µs) and sequence numbers: the year 2112. A registry goes on counting from a fence that a
host reports, and Lua and JSON count exactly to 2^53."""
MAX_NAME = 128
"""Characters of a session's name."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""A host's or a worker's name. Never one with a colon or a slash: `static:…` are the gateway's own hosts, and
`host/worker` is how it names workers apart."""
WORKER_URL = re.compile(
    r"unix:/[ -~]{1,500}|wss?://(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[!-~]{0,200})?"
)
"""Where a worker may be reached; without a user, and without what would break a request's line."""
LINK_KEY = re.compile(r"[!-~]{0,256}")
MAX_SERVICE = 100
"""Characters of a service host's name, as in the settings."""

WorkerState: TypeAlias = Literal["starting", "ready", "busy", "done"]
"""starting: not yet offered. ready: may be claimed. busy: has a call. done: the call is over, it ends soon."""

LinkProtocol: TypeAlias = Literal["pcm", "relay"]


@dataclass(frozen=True, slots=True)
class Worker:
    """One process that runs the bot.

    url: `unix:/path.sock` on the gateway's own machine, else `ws://host:port/ws`.
    session: the one that it serves or was started for, "" for none yet.
    address: where the name in `url` leads, which the gateway has resolved and checked; "" if it has not. Not on the
    wire: a host does not say it.
    cpu, memory: what its call takes now, in thousandths of a core and bytes; 0: not known. Only of one with a call, and
    on the wire only where they are known.
    """

    id: str
    url: str
    state: WorkerState
    session: str = ""
    address: str = ""
    cpu: int = 0
    memory: int = 0

    @property
    def is_local(self) -> bool:
        """True if it is on the gateway's own machine: it listens on a unix socket."""
        return self.url.startswith("unix:")


@dataclass(frozen=True, slots=True)
class Running:
    """A session that a worker of this host serves, with the highest fence it has seen."""

    session: str
    fence: int
    worker: str


# Host to gateway.


@dataclass(frozen=True, slots=True)
class Register:
    """A host presents itself.

    epoch: ms, grows with each start of the host.
    cap: sessions at once.
    link_key: the bearer key of links to its workers.
    seq, start_ms: as in `Beat`.
    """

    host: str
    epoch: int
    service_host: str
    protocol: LinkProtocol
    cap: int
    workers: tuple[Worker, ...]
    running: tuple[Running, ...]
    link_key: str
    seq: int = 0
    start_ms: int = 0


WorkerEnd: TypeAlias = Literal["died_idle", "died_in_call", "unusable", "overstayed", "hung", "slow_start"]
"""How a worker ended that should not have.

died_idle, died_in_call: on its own. unusable: before it was ready, or just after. overstayed: killed, as it had not
ended with its call. hung, slow_start: killed, as it did not answer, or was not ready in time.
"""


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life.

    workers: all of them, as they are now.
    lag_ms: of the host's event loop.
    ends: how many workers have ended how, since the host began.
    seq: grows with each message about the workers, whichever gateway it goes to, so that a message that was slow on its
    way undoes no later one. 0: from a host that does not count.
    start_ms: how long a start of this bot takes: the longest of the last few, or that of a start under way that takes
    longer. 0: not known yet.
    """

    workers: tuple[Worker, ...]
    lag_ms: int
    ends: Mapping[WorkerEnd, int] = field(default_factory=dict)
    seq: int = 0
    start_ms: int = 0


@dataclass(frozen=True, slots=True)
class Drain:
    """From either side: no new sessions; the host ends when the running ones are done."""


# Gateway to host.


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to `register`.

    heartbeat_s: beat this often.
    lease_s: a host that has not beaten for so long is taken for dead.
    wrapup_s: a worker may take so long to end after its call; 0 from a gateway that does not say.
    """

    heartbeat_s: float
    lease_s: float
    wrapup_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ok:
    """The answer to a beat."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The answer to a beat of a host that is not known, or no longer: register again."""


@dataclass(frozen=True, slots=True)
class StartWorker:
    """A session has claimed a unit of `cap`, and no worker is ready: start one for it at once."""

    session: str


ToGateway: TypeAlias = Register | Beat | Drain
ToHost: TypeAlias = Registered | Ok | Gone | Drain | StartWorker


def encode(message: ToGateway | ToHost) -> str:
    """The text message for any of the above."""
    return orjson.dumps(_fields(message)).decode()


def _fields(message: ToGateway | ToHost) -> dict[str, Any]:
    match message:
        case Register():
            return {
                "type": "register",
                "host": message.host,
                "epoch": message.epoch,
                "service_host": message.service_host,
                "protocol": message.protocol,
                "cap": message.cap,
                "workers": [_worker_fields(w) for w in message.workers],
                "running": [{"session": r.session, "fence": r.fence, "worker": r.worker} for r in message.running],
                "link_key": message.link_key,
                "seq": message.seq,
                "start_ms": message.start_ms,
            }
        case Beat():
            return {
                "type": "beat",
                "workers": [_worker_fields(w) for w in message.workers],
                "lag_ms": message.lag_ms,
                "ends": dict(message.ends),
                "seq": message.seq,
                "start_ms": message.start_ms,
            }
        case Drain():
            return {"type": "drain"}
        case Registered(heartbeat_s, lease_s, wrapup_s):
            return {"type": "registered", "heartbeat_s": heartbeat_s, "lease_s": lease_s, "wrapup_s": wrapup_s}
        case Ok():
            return {"type": "ok"}
        case Gone():
            return {"type": "gone"}
        case StartWorker(session):
            return {"type": "start", "session": session}


def _worker_fields(worker: Worker) -> dict[str, Any]:
    used = {name: value for name, value in (("cpu", worker.cpu), ("memory", worker.memory)) if value}
    return {"id": worker.id, "url": worker.url, "state": worker.state, "session": worker.session, **used}


def decode_to_gateway(text: str | bytes) -> ToGateway | None:
    """The host's message, or None for what makes no sense or is beyond the bounds."""
    m = json_object(text)
    if m is None:
        return None
    match m.get("type"):
        case "register":
            return _register(m)
        case "beat":
            return _beat(m)
        case "drain":
            return Drain()
    return None


def decode_to_host(text: str | bytes) -> ToHost | None:
    """The gateway's message, or None for what makes no sense."""
    m = json_object(text)
    if m is None:
        return None
    match m.get("type"):
        case "registered":
            times = seconds_of(m, "heartbeat_s", 2.0), seconds_of(m, "lease_s", 6.0), seconds_of(m, "wrapup_s", 0.0)
            return Registered(*times)
        case "ok":
            return Ok()
        case "gone":
            return Gone()
        case "drain":
            return Drain()
        case "start":
            return StartWorker(session) if (session := name_of(m, "session", MAX_NAME)) else None
    return None


def _register(m: dict[str, Any]) -> Register | None:
    host, service_host = str_of(m, "host"), name_of(m, "service_host", MAX_SERVICE)
    protocol, cap = m.get("protocol", "pcm"), int_of(m, "cap")
    if not NAME.fullmatch(host) or not service_host or protocol not in get_args(LinkProtocol) or not 0 < cap <= MAX_CAP:
        return None
    epoch, seq = count_of(m, "epoch", MAX_NUMBER), count_of(m, "seq", MAX_NUMBER)
    workers, running, link_key = _workers(m), _running(m), str_of(m, "link_key")
    if epoch is None or seq is None or workers is None or running is None or not LINK_KEY.fullmatch(link_key):
        return None
    return Register(
        host, epoch, service_host, protocol, cap, workers, running, link_key, seq, _milliseconds(m, "start_ms")
    )


def _beat(m: dict[str, Any]) -> Beat | None:
    workers, seq = _workers(m), count_of(m, "seq", MAX_NUMBER)
    if workers is None or seq is None:
        return None
    return Beat(workers, _milliseconds(m, "lag_ms"), _ends(m), seq, _milliseconds(m, "start_ms"))


def _milliseconds(m: dict[str, Any], key: str) -> int:
    """A measurement, for which a wrong one costs no message: at most a day."""
    return max(0, min(int_of(m, key), 86_400_000))


def _measured(m: dict[str, Any], key: str) -> int:
    """The same of what a worker uses: 0 for what cannot be."""
    value = int_of(m, key)
    return value if 0 < value <= MAX_NUMBER else 0


def _ends(m: dict[str, Any]) -> dict[WorkerEnd, int]:
    ends = m.get("ends")
    counts = ends if isinstance(ends, dict) else {}
    return {how: count for how in get_args(WorkerEnd) if (count := count_of(counts, how, MAX_NUMBER) or 0) > 0}


def _workers(m: dict[str, Any]) -> tuple[Worker, ...] | None:
    """The workers that make sense; None if there are too many, or a name or a URL is beyond its bounds."""
    found: list[Worker] = []
    listed = _list(m, "workers")
    if len(listed) > MAX_WORKERS:
        return None
    for w in listed:
        if not isinstance(w, dict) or not str_of(w, "id") or w.get("state") not in get_args(WorkerState):
            continue
        name, url, session = str_of(w, "id"), str_of(w, "url"), name_of(w, "session", MAX_NAME)
        if not NAME.fullmatch(name) or (url and not WORKER_URL.fullmatch(url)) or session is None:
            return None
        cpu, memory = (_measured(w, key) for key in ("cpu", "memory"))
        found.append(Worker(name, url, w["state"], session, cpu=cpu, memory=memory))
    return tuple(found)


def _running(m: dict[str, Any]) -> tuple[Running, ...] | None:
    """The sessions that make sense; None if there are too many, or a number or a name is out of bounds."""
    found: list[Running] = []
    listed = _list(m, "running")
    if len(listed) > MAX_WORKERS:
        return None
    for r in listed:
        if not isinstance(r, dict) or not str_of(r, "session"):
            continue
        session, worker = name_of(r, "session", MAX_NAME), str_of(r, "worker")
        fence = count_of(r, "fence", MAX_NUMBER)
        if session is None or (worker and not NAME.fullmatch(worker)) or fence is None:
            return None
        found.append(Running(session, fence, worker))
    return tuple(found)


def _list(m: dict[str, Any], key: str) -> list[Any]:
    value = m.get(key)
    return value if isinstance(value, list) else []
