"""`gateway.workers.v1`: what a worker host and the gateway say to each other.

The host connects to `/v1/workers/connect`, registers, and beats. Text messages are JSON objects with a `type`;
unknown types and fields are ignored by both sides. `decode_*` are total: None for what cannot be understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import orjson

from gateway.protocol.fields import int_of, json_object, seconds_of, str_of

SUBPROTOCOL = "gateway.workers.v1"
PATH = "/v1/workers/connect"
MAX_CAP = 4_000
"""Sessions at once on one host, so that what it says of its workers stays one message."""
MAX_MESSAGE = 1536 * 1024
"""Bytes of one message. A `register` with MAX_CAP busy workers is 1.2 MB, where their sockets' paths are as long as the
kernel allows.
"""

WorkerState: TypeAlias = Literal["starting", "ready", "busy", "done"]
"""starting: not yet offered. ready: may be claimed. busy: has a call. done: the call is over, it ends soon."""

LinkProtocol: TypeAlias = Literal["pcm", "relay"]


@dataclass(frozen=True, slots=True)
class Worker:
    """One process that runs the bot. url: `unix:/path.sock` on the gateway's own machine, else `ws://host:port`.

    session: whom it serves, or for whom it was started; "" for nobody yet.
    """

    id: str
    url: str
    state: WorkerState
    session: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A session that a worker of this host serves, with the highest fence it has seen."""

    session: str
    fence: int
    worker: str


# Host to gateway.


@dataclass(frozen=True, slots=True)
class Register:
    """A host presents itself. epoch: grows with each start of the host. cap: sessions at once. seq: as in `Beat`."""

    host: str
    epoch: int
    service_host: str
    protocol: LinkProtocol
    cap: int
    workers: tuple[Worker, ...]
    running: tuple[Running, ...]
    link_key: str
    seq: int = 0


WorkerEnd: TypeAlias = Literal["died_idle", "died_in_call", "unusable", "overstayed", "hung", "slow_start"]
"""How a worker ended that did not end in good order. unusable: it never got ready, or died young. overstayed: killed,
as it had not ended with its call. hung, slow_start: killed, as it did not answer, or was not ready in time."""


@dataclass(frozen=True, slots=True)
class Beat:
    """The host lives. workers: all of them, as they are now. lag_ms: of its event loop. ends: how many workers have
    ended how, since the host began.

    seq: grows with each message about the workers, whichever gateway it goes to. They are not equally quick, and what
    arrives by a slow one must not undo later news. 0: from a host that does not count.
    """

    workers: tuple[Worker, ...]
    lag_ms: int
    ends: Mapping[WorkerEnd, int] = field(default_factory=dict)
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Drain:
    """Either side: no new sessions, please; end when the running ones are done."""


# Gateway to host.


@dataclass(frozen=True, slots=True)
class Registered:
    """Welcome. heartbeat_s: beat this often. lease_s: after this long without a beat you are taken for dead.

    wrapup_s: a worker of yours may take this long to end after its call; 0 from a gateway that does not say.
    """

    heartbeat_s: float
    lease_s: float
    wrapup_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ok:
    """Answer to a beat."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Answer to a beat: we do not know you (any more); register again."""


@dataclass(frozen=True, slots=True)
class StartWorker:
    """A session holds a unit of your cap and no ready worker was left: start one for it at once."""

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
            }
        case Beat(workers, lag_ms, ends, seq):
            known = [_worker_fields(w) for w in workers]
            return {"type": "beat", "workers": known, "lag_ms": lag_ms, "ends": dict(ends), "seq": seq}
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
    return {"id": worker.id, "url": worker.url, "state": worker.state, "session": worker.session}


def decode_to_gateway(text: str | bytes) -> ToGateway | None:
    """What a host says, or None."""
    m = json_object(text)
    if m is None:
        return None
    match m.get("type"):
        case "register":
            return _register(m)
        case "beat":
            return Beat(_workers(m), int_of(m, "lag_ms"), _ends(m), int_of(m, "seq"))
        case "drain":
            return Drain()
    return None


def decode_to_host(text: str | bytes) -> ToHost | None:
    """What a gateway says, or None."""
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
            return StartWorker(session) if (session := str_of(m, "session")) else None
    return None


def _register(m: dict[str, Any]) -> Register | None:
    host, service_host = str_of(m, "host"), str_of(m, "service_host")
    protocol, cap = m.get("protocol", "pcm"), int_of(m, "cap")
    if not host or not service_host or protocol not in get_args(LinkProtocol) or not 0 < cap <= MAX_CAP:
        return None
    running = m.get("running")
    return Register(
        host=host,
        epoch=int_of(m, "epoch"),
        service_host=service_host,
        protocol=protocol,
        cap=cap,
        workers=_workers(m),
        running=tuple(
            Running(str_of(r, "session"), int_of(r, "fence"), str_of(r, "worker"))
            for r in (running if isinstance(running, list) else ())
            if isinstance(r, dict) and str_of(r, "session")
        ),
        link_key=str_of(m, "link_key"),
        seq=int_of(m, "seq"),
    )


def _ends(m: dict[str, Any]) -> dict[WorkerEnd, int]:
    ends = m.get("ends")
    counts = ends if isinstance(ends, dict) else {}
    return {how: count for how in get_args(WorkerEnd) if (count := int_of(counts, how)) > 0}


def _workers(m: dict[str, Any]) -> tuple[Worker, ...]:
    workers = m.get("workers")
    return tuple(
        Worker(str_of(w, "id"), str_of(w, "url"), w["state"], str_of(w, "session"))
        for w in (workers if isinstance(workers, list) else ())
        if isinstance(w, dict) and str_of(w, "id") and w.get("state") in get_args(WorkerState)
    )
