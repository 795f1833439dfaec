"""What is kept of a call, and the one way in which it grows: `join(row, row) -> row`.

Several nodes write the same call, late, twice and in any order; so a row is joined like a set: the greater of two
values, the earlier of two times, the newer of two things that are numbered. `join` is commutative, associative and
idempotent, and what a reader is shown (`record_of_row`) is a function of the row alone.

What "ended" may mean:

    session_done    the session has ended, and no stream has begun another since; its call may go on
    presumed_over   no news came of the call for so long that upkeep closed its row
    call_is_over    the call is over, by its carrier, by its session without a transfer, or presumed so
    final           it is over, and nothing more is to come
    Facts.over      no bot is to have the call any more: unlike `call_is_over`, also while a transfer goes on
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any, get_args

from gateway.pool.facts import ContinuationKind, Facts, Outcome, Status
from gateway.protocol.codes import EndReason
from gateway.records.base import Record

MASK = "***"
"""What stands for a number that was forgotten."""
FROM, TO = 1, 2
"""Bits of `CallRow.forgotten`."""
MAX_BODY = 128 * 1024
"""Characters of JSON. The API takes half of it; a larger one came from a carrier's webhook, and is left out."""
MAX_TEXT = 512
"""Characters of any other text: a number, an id, a path."""
MAX_NUMBER = 2**53

_PROGRESS = {status: rank for rank, status in enumerate(get_args(Status))}
_OUTCOMES = {outcome: rank for rank, outcome in enumerate(get_args(Outcome))}
_KINDS = {kind: rank for rank, kind in enumerate(get_args(ContinuationKind))}
_REASON_OF_OUTCOME = {
    "busy": EndReason.BUSY,
    "no-answer": EndReason.NO_ANSWER,
    "canceled": EndReason.CANCELED,
    "failed": EndReason.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """One session: the columns of the table `calls` but for those that are derived. Times are unix seconds, 0: none."""

    session_id: str = ""
    call_id: str = ""
    carrier: str = ""
    account: str = ""
    direction: str = ""
    from_number: str = ""
    to_number: str = ""
    service_host: str = ""
    progress: str = ""
    """`Facts.status`."""
    end_reason: str = ""
    outcome: str = ""
    created: float = 0.0
    answered: float = 0.0
    ended: float = 0.0
    call_ended: float = 0.0
    ended_streams: int = 0
    hold_ms: int = 0
    bot_start_ms: int = 0
    cold: bool = False
    starts: int = 0
    streams: int = 0
    moves: int = 0
    node: str = ""
    root: str = ""
    next_kind: str = ""
    """Kind of the continuation."""
    next_seq: int = 0
    answered_by: str = ""
    recording: str = ""
    body: str = ""
    """JSON, "" for an empty one."""
    closed_streams: int = 0
    """`streams` + 1 when the row was presumed over (`close`); a later stream makes that void."""
    closed_at: float = 0.0
    alive_at: float = 0.0
    """When its node last contradicted that it was over (`reopen`): what was closed as of before is not."""
    forgotten: int = 0
    """Which numbers are masked, now and in whatever is joined later: FROM, TO, both."""
    updated: float = 0.0
    """When it was last written."""


_COLUMNS = tuple(field.name for field in fields(CallRow))
_TEXTS = (
    "session_id", "call_id", "carrier", "account", "direction", "from_number", "to_number", "service_host", "root",
    "answered_by", "recording", "body",
)  # fmt: skip
_GREATER = ("hold_ms", "cold", "starts", "moves", "alive_at", "updated")
_EARLIEST = ("created", "answered", "call_ended", "bot_start_ms")


def row_of(facts: Facts) -> CallRow:
    """Return what is kept of these facts."""
    return CallRow(
        session_id=facts.session,
        call_id=_text(facts.call_id),
        carrier=_text(facts.carrier),
        account=_text(facts.account),
        direction=_text(facts.direction),
        from_number=_text(facts.from_number),
        to_number=_text(facts.to_number),
        node=_text(facts.node),
        root=_text(facts.root),
        answered_by=_text(facts.answered_by),
        service_host=_text(facts.service),
        progress=facts.status,
        end_reason=_text(facts.end_reason),
        outcome=facts.outcome,
        created=facts.created,
        answered=facts.answered,
        ended=facts.ended,
        call_ended=facts.call_ended,
        ended_streams=facts.ended_streams,
        hold_ms=min(facts.hold_ms, MAX_NUMBER),
        bot_start_ms=min(facts.bot_start_ms, MAX_NUMBER),
        cold=facts.cold,
        starts=facts.starts,
        streams=facts.streams,
        moves=facts.moves,
        next_kind=facts.continuation.kind,
        next_seq=facts.continuation.seq,
        recording=_text(facts.recording),
        body=_json(facts.body),
    )


def join(one: CallRow, other: CallRow) -> CallRow:
    """Return what both rows of a session know together."""
    found: dict[str, Any] = {name: _lesser_of_known(getattr(one, name), getattr(other, name)) for name in _TEXTS}
    for name in _GREATER:
        found[name] = max(getattr(one, name), getattr(other, name))
    for name in _EARLIEST:
        found[name] = _lesser_of_known(getattr(one, name), getattr(other, name))
    found["progress"] = max(one.progress, other.progress, key=lambda word: _PROGRESS.get(word, -1))
    found["outcome"] = max(one.outcome, other.outcome, key=lambda word: _OUTCOMES.get(word, -1))
    found["streams"], found["node"] = max((one.streams, one.node), (other.streams, other.node))
    newest = max(one, other, key=lambda row: (row.next_seq, _KINDS.get(row.next_kind, -1)))
    found["next_seq"], found["next_kind"] = newest.next_seq, newest.next_kind
    found |= _later_end(one, other)
    closed = max(one, other, key=lambda row: (row.closed_streams, row.closed_at))
    found["closed_streams"], found["closed_at"] = closed.closed_streams, closed.closed_at
    found["forgotten"] = one.forgotten | other.forgotten
    return masked(CallRow(**found))


def join_all(rows: Iterable[CallRow]) -> CallRow:
    """Return what all rows of a session know together."""
    return reduce(join, rows, CallRow())


def _later_end(one: CallRow, other: CallRow) -> dict[str, Any]:
    """The end behind the newest stream: a call that was attached again ends once more."""
    if not _tells_end(one) or not _tells_end(other) or one.ended_streams != other.ended_streams:
        last = max(one, other, key=lambda row: (_tells_end(row), row.ended_streams))
        return {"ended": last.ended, "end_reason": last.end_reason, "ended_streams": last.ended_streams}
    return {
        "ended": _lesser_of_known(one.ended, other.ended),
        "end_reason": _lesser_of_known(one.end_reason, other.end_reason),
        "ended_streams": one.ended_streams,
    }


def _tells_end(row: CallRow) -> bool:
    return bool(row.ended or row.end_reason)


def _lesser_of_known(one: Any, other: Any) -> Any:
    """The lesser of two values; what is empty, or 0, is none.

    Not the one that came first, as in `facts.merge`: a join must not depend on the order. Where two webhooks disagree,
    the record may say the other one.
    """
    return min(one, other) if one and other else one or other


def masked(row: CallRow) -> CallRow:
    """Return it without what was forgotten."""
    if not row.forgotten:
        return row
    return replace(
        row,
        from_number=MASK if row.forgotten & FROM else row.from_number,
        to_number=MASK if row.forgotten & TO else row.to_number,
        body="",
        recording="",
    )


def close(row: CallRow, at: float) -> CallRow:
    """Return what ends this row for want of news of its call. at: the last that is known of it, unix time."""
    return CallRow(session_id=row.session_id, closed_streams=row.streams + 1, closed_at=max(at, row.alive_at))


def reopen(row: CallRow, at: float) -> CallRow:
    """Return what opens a row again whose call lives. at: now, by the clock that it was closed by."""
    return CallRow(session_id=row.session_id, alive_at=at)


# What a row says.


def session_done(row: CallRow) -> bool:
    """True if its session has ended, and no stream has begun another since."""
    return row.ended > 0 and row.ended_streams >= row.streams


def presumed_over(row: CallRow) -> bool:
    """True if it was closed for want of news (`close`), and there has been none since."""
    return row.closed_at > 0 and row.closed_at >= row.alive_at and row.closed_streams > row.streams


def call_is_over(row: CallRow) -> bool:
    """True if the call is over, as far as is known."""
    done = row.progress == "ended" and session_done(row) and row.next_kind not in ("attach", "dial")
    return row.call_ended > 0 or done or presumed_over(row)


def final(row: CallRow) -> bool:
    """True if it is over and nothing more is to come: a carrier may tell the end before the session has ended."""
    return call_is_over(row) and (session_done(row) or not row.streams or presumed_over(row))


def status_of(row: CallRow) -> str:
    """Return the record's status, see `Record`."""
    if call_is_over(row):
        return "ended"
    if session_done(row) and row.next_kind != "attach":
        return "ending"
    if row.streams or row.answered:
        return "answered"
    return "queued" if row.progress == "queued" else "ringing"


def record_of_row(row: CallRow) -> Record:
    """Return the record that a row is read as."""
    ends = call_is_over(row)
    return Record(
        session_id=row.session_id,
        call_id=row.call_id,
        carrier=row.carrier,
        direction=row.direction,
        from_number=row.from_number,
        to_number=row.to_number,
        service_host=row.service_host,
        status=status_of(row),
        end_reason=_reason(row) if ends or session_done(row) else "",
        created_at=row.created or None,
        answered_at=row.answered or None,
        ended_at=_ended_at(row) if ends else None,
        hold_ms=row.hold_ms,
        bot_start_ms=row.bot_start_ms or None,
        cold=row.cold,
        attempts=row.starts,
        streams=row.streams,
        machine=row.answered_by,
        recording=row.recording,
        body=_read_body(row.body),
    )


def _ended_at(row: CallRow) -> float:
    """Return when it ended, never before its answer: clocks of carriers and nodes differ, and a killed gateway's last
    beat may be older than its last call."""
    return max(row.call_ended or (row.ended if session_done(row) else 0.0) or row.closed_at, row.answered)


def record_of(facts: Facts) -> Record:
    """Return the record that these facts are read as. Pure."""
    return record_of_row(row_of(facts))


def _reason(row: CallRow) -> str:
    if row.end_reason and (session_done(row) or not row.streams):
        return row.end_reason
    if row.streams:  # it ended without its session: that one's node is dead, or has not said it yet
        if not final(row):
            return ""
        # By its carrier's word it is over: its stream went with the node, and none came after it.
        by_carrier = _REASON_OF_OUTCOME.get(row.outcome, EndReason.STREAM_LOST)
        return by_carrier if row.call_ended else EndReason.UNKNOWN_END
    if row.call_ended:
        return _REASON_OF_OUTCOME.get(row.outcome, EndReason.CALLER_HANGUP)
    return _REASON_OF_OUTCOME.get(row.outcome, EndReason.UNKNOWN_END)


def _text(value: str) -> str:
    """PostgreSQL takes no NUL and no lone surrogate."""
    return value[:MAX_TEXT].replace("\0", "").encode("utf-8", "replace").decode()


def _json(body: Any) -> str:
    if not body:
        return ""
    try:
        text = json.dumps(body, default=str, skipkeys=True, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return ""
    return text if len(text) <= MAX_BODY else ""


def _read_body(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
