"""What is known of a session, and the one way in which it grows: `merge(facts, event) -> facts`.

`merge` is pure and indifferent to order: carriers repeat, delay and reorder their callbacks, and nodes write at
once. Status goes by rank, first values are kept, counters take the greater; so any order gives the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

ContinuationKind: TypeAlias = Literal["", "attach", "digits", "dial", "hangup"]

Status: TypeAlias = Literal["", "queued", "ringing", "answered", "streaming", "ending", "ended"]
_STATUS_RANK = {status: rank for rank, status in enumerate(get_args(Status))}
_RANK_OF_KIND = {kind: rank for rank, kind in enumerate(get_args(ContinuationKind))}


@dataclass(frozen=True, slots=True)
class Continuation:
    """What the carrier is told when the stream has ended. seq: grows, the newest wins."""

    kind: ContinuationKind = ""
    value: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What may be known of a session. Numbers are E.164 where they are telephone numbers; times are unix seconds."""

    carrier: str = ""
    account: str = ""
    call_id: str = ""
    service: str = ""
    direction: str = ""
    from_number: str = ""
    to_number: str = ""
    raw_from: str = ""
    raw_to: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    caller: Mapping[str, Any] = field(default_factory=dict)
    """What the carrier knows of the caller, by the names of `CallData`: caller_name, stir and so on."""
    status: Status = ""
    end_reason: str = ""
    attempt: int = 0
    """The newest stream attempt that was confirmed."""
    starts: int = 0
    """How often a worker was started for this session."""
    state: bytes = b""
    state_seq: int = 0
    continuation: Continuation = Continuation()
    created: float = 0.0
    answered: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(_Known):
    """All that is known of one session."""

    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactEvent(_Known):
    """Something learned of a session. Only what is set is folded in; aliases are further names to find it by."""

    aliases: tuple[str, ...] = ()


_FIRST_KEPT = (
    "carrier", "account", "call_id", "service", "direction", "from_number", "to_number", "raw_from", "raw_to",
    "body", "caller", "end_reason",
)  # fmt: skip
_GREATER = ("attempt", "starts")
_EARLIEST = ("created", "answered", "ended")


def merge(facts: Facts, event: FactEvent) -> Facts:
    """The facts with the event folded in."""
    changes: dict[str, Any] = {}
    for name in _FIRST_KEPT:
        if not getattr(facts, name) and getattr(event, name):
            changes[name] = getattr(event, name)
    for name in _GREATER:
        changes[name] = max(getattr(facts, name), getattr(event, name))
    for name in _EARLIEST:
        changes[name] = min(filter(None, (getattr(facts, name), getattr(event, name))), default=0.0)
    if _STATUS_RANK[event.status] > _STATUS_RANK[facts.status]:
        changes["status"] = event.status
    if (event.state_seq, event.state) > (facts.state_seq, facts.state):
        changes["state"], changes["state_seq"] = event.state, event.state_seq
    if _order(event.continuation) > _order(facts.continuation):
        changes["continuation"] = event.continuation
    return replace(facts, **changes)


def _order(continuation: Continuation) -> tuple[int, int, str]:
    return (continuation.seq, _RANK_OF_KIND[continuation.kind], continuation.value)


def to_dict(facts: Facts) -> dict[str, Any]:
    """A plain dict, for JSON."""
    return asdict(facts)


def own_number(facts: Facts) -> str:
    """Return our number in this call, "" if it has none that is a telephone number.

    It is the caller id of a call that we pass on: on a call of ours that is whom it comes from.
    """
    number = facts.from_number if facts.direction == "outbound" else facts.to_number
    return number if number.startswith("+") else ""


def call_alias(carrier: str, account: str, call_id: str) -> str:
    """The alias by which a session is found from the carrier's call id."""
    return f"{carrier}:{account}:{call_id}"
