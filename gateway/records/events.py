"""What is told of a call to the user's own systems: which events a row gives rise to, and their text. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import orjson

from gateway.records.base import rfc3339
from gateway.records.row import CallRow, final, record_of_row

EventType: TypeAlias = Literal["call.ringing", "call.answered", "call.ended", "call.recording"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
"""In the order in which one call's are told."""


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One row of the outbox. id: the same, whichever node writes it. seq: from 1, within its call."""

    id: str
    session_id: str
    seq: int
    type: EventType
    payload: str

    def columns(self, now: float) -> dict[str, Any]:
        """Return it as a row of the table `outbox`."""
        return {
            "event_id": self.id,
            "session_id": self.session_id,
            "seq": self.seq,
            "type": self.type,
            "payload": self.payload,
            "created": now,
        }


def new_events(
    before: CallRow, row: CallRow, told: Collection[str], wanted: Collection[str], now: float
) -> list[CallEvent]:
    """Return the events that the change of a row gives rise to, in their order.

    told: types that the outbox has of this call; it forgets in time, so what happened before is told no more either. Of
    a call whose end was told only its recording follows: what became known late is in that end's record.
    """
    due = [kind for kind in EVENT_TYPES if kind in wanted and kind not in told]
    due = [kind for kind in due if _happened(kind, row) and not _happened(kind, before)]
    if "call.ended" in told or final(before):
        due = [kind for kind in due if kind == "call.recording"]
    return [
        CallEvent(event_id(row.session_id, kind), row.session_id, len(told) + n, kind, payload(row, kind, now))
        for n, kind in enumerate(due, 1)
    ]


def event_id(session_id: str, kind: EventType) -> str:
    """Return what a receiver knows the event by, should it get it twice."""
    return "evt_" + hashlib.sha256(f"{session_id} {kind}".encode()).hexdigest()[:32]


def payload(row: CallRow, kind: EventType, now: float) -> str:
    """Return the JSON that is posted, in the form that Standard Webhooks recommends."""
    told = {"type": kind, "timestamp": rfc3339(now), "data": record_of_row(row).to_dict()}
    try:
        return orjson.dumps(told).decode()
    except TypeError:  # it takes no integers beyond 64 bits and no lone surrogates; a call's body may hold either
        return json.dumps(told)


def _happened(kind: EventType, row: CallRow) -> bool:
    match kind:
        case "call.ringing":
            # One of ours that its carrier refused has not rung.
            rang = row.progress not in ("", "queued", "ended") or row.outcome in ("no-answer", "busy")
            return rang or row.streams > 0 or row.direction == "inbound"
        case "call.answered":
            return row.answered > 0 or row.streams > 0
        case "call.ended":
            return final(row)
        case "call.recording":
            return bool(row.recording) and final(row)
