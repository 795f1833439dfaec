"""What is asked of dial-out, and what comes of it. Values only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gateway.carriers.orders import MachineDetection


@dataclass(frozen=True, slots=True)
class DialRequest:
    """A call to be placed.

    carrier, service_host: "" for the only, or default, one. to, from_number: as people write them. body: for the bot.
    max_call_seconds: 0 for the service's. idempotency_key: "" for none. key_name: of the API key it was asked with.
    """

    carrier: str
    to: str = field(repr=False)
    from_number: str = field(repr=False)
    service_host: str = ""
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    machine_detection: MachineDetection = "off"
    max_call_seconds: int = 0
    idempotency_key: str = field(default="", repr=False)
    key_name: str = ""


@dataclass(frozen=True, slots=True)
class Dialled:
    """The carrier has the call, or may have it. call_id: None where it is not known yet; a webhook will tell it."""

    session_id: str
    call_id: str | None
    status: str


@dataclass(frozen=True, slots=True)
class DialQueued:
    """It waits behind the rate, and is dialled or reported."""

    session_id: str


@dataclass(frozen=True, slots=True)
class DialRefusal:
    """It is not dialled.

    status: of HTTP. code: a word, or the carrier's own. detail: a sentence for people. field: of the request, "" for
    none. retry_after: seconds until a retry makes sense, as surely nothing was dialled; None: do not retry.
    """

    status: int
    code: str
    detail: str
    field: str = ""
    retry_after: float | None = None


DialResult: TypeAlias = Dialled | DialQueued | DialRefusal
Begin: TypeAlias = Callable[[], Awaitable[bool]]
"""Asked once, before anything of a call is written or sent. False: it must not be dialled any more."""


def to_dict(result: DialResult) -> dict[str, Any]:
    """Write a result for JSON."""
    match result:
        case Dialled(session, call_id, status):
            return {"dialled": [session, call_id, status]}
        case DialQueued(session):
            return {"queued": [session]}
        case DialRefusal(status, code, detail, name, retry_after):
            return {"refused": [status, code, detail, name, retry_after]}


def from_dict(written: Mapping[str, Any]) -> DialResult | None:
    """Read what `to_dict` wrote; None for anything else."""
    match dict(written):
        case {"dialled": [str(session), str() | None as call_id, str(status)]}:
            return Dialled(session, call_id, status)
        case {"queued": [str(session)]}:
            return DialQueued(session)
        case {"refused": [int(status), str(code), str(detail), str(name), retry_after]}:
            seconds = float(retry_after) if isinstance(retry_after, int | float) else None
            return DialRefusal(status, code, detail, name, seconds)
    return None
