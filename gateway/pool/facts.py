"""What is known of a session, and the one way in which it grows: `merge(facts, event) -> facts`.

`merge` is pure. Carriers repeat, delay and reorder their callbacks, and nodes write at once; so status, counters,
times, outcome, state and continuation come out the same in any order. Of the other fields the first value stays, so
that a repeated or late callback changes nothing: events that differ in one of these give what came first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

ContinuationKind: TypeAlias = Literal["", "attach", "digits", "dial", "hangup"]

Status: TypeAlias = Literal["", "queued", "ringing", "answered", "streaming", "ending", "ended"]
_STATUS_RANK = {status: rank for rank, status in enumerate(get_args(Status))}
Outcome: TypeAlias = Literal["", "failed", "canceled", "no-answer", "busy", "completed"]
_OUTCOME_RANK = {outcome: rank for rank, outcome in enumerate(get_args(Outcome))}
_RANK_OF_KIND = {kind: rank for rank, kind in enumerate(get_args(ContinuationKind))}


@dataclass(frozen=True, slots=True)
class Continuation:
    """What the carrier is told when the stream has ended. seq: grows, the newest wins.

    value: of "dial" the number, of "digits" the keys, of "attach" the cause; else "".
    """

    kind: ContinuationKind = ""
    value: str = ""
    seq: int = 0


TRANSFER_FAILED = "transfer_failed"
"""The cause of an "attach" after a dial that failed: the next bot is told so."""


@dataclass(frozen=True, slots=True)
class ToldStream:
    """Which stream's `start` a relayed bot has had, on which worker. seq: grows, the newest wins."""

    worker: str = ""
    stream_id: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What may be known of a session. Times are unix seconds."""

    carrier: str = ""
    account: str = ""
    call_id: str = ""
    order_id: str = ""
    """What the carrier calls the order of a call of ours, where that is not the call's id (Plivo's request_uuid): until
    the call is answered it can be cancelled by that."""
    service: str = ""
    direction: str = ""
    """"inbound" or "outbound"."""
    from_number: str = ""
    to_number: str = ""
    """As E.164 where they can be; else as the carrier wrote them: a SIP name, a short code."""
    raw_from: str = ""
    raw_to: str = ""
    """As the carrier wrote them."""
    body: Mapping[str, Any] = field(default_factory=dict)
    caller: Mapping[str, Any] = field(default_factory=dict)
    """What the carrier knows of the caller, by the names of `CallData`: caller_name, stir and so on. Several webhooks
    may tell it, each a part."""
    answered_by: str = ""
    """Who picked up: "human", "machine" or "" (not known)."""
    status: Status = ""
    """The furthest that a session of the call has come: of one that runs again see `Facts.over` and `wraps_up`. For the
    call itself see `call_ended`."""
    end_reason: str = ""
    """An `EndReason`."""
    outcome: Outcome = ""
    """How the call ended, by what its carrier says, in the same words for all carriers."""
    attempt: int = 0
    """The newest stream attempt that was confirmed."""
    starts: int = 0
    """How often a worker was started for this session."""
    streams: int = 0
    """How many streams have started."""
    node: str = ""
    """The node that the newest of them runs on, see `Node.id`."""
    hold_ms: int = 0
    """How long the caller has waited on hold for a bot, until the newest stream that did."""
    bot_start_ms: int = 0
    """From the first stream's start to the first bot's `start`; at least 1 once there was one."""
    cold: bool = False
    """True if the first bot's worker was not ready when the stream started: it was still being started."""
    recording: str = ""
    """The file that both sides are recorded in; set once there is one."""
    recording_switches: int = 0
    """How often the recording was paused, or resumed: odd while it is paused."""
    max_seconds: int = 0
    """What was asked for this call as its longest; 0: the service's limit."""
    unopened: int = 0
    """How often the carrier has come back without a stream, since `unopened_since`."""
    unopened_since: int = 0
    """What `streams` was then."""
    state: bytes = b""
    state_seq: int = 0
    told_stream: ToldStream = ToldStream()
    continuation: Continuation = Continuation()
    created: float = 0.0
    answered: float = 0.0
    ended: float = 0.0
    ended_streams: int = 0
    """What `streams` was when the session ended with `end_reason`: of two ends the one behind more streams counts, as a
    session that is attached again ends once more."""
    began: float = 0.0
    """When the newest of its sessions had its first stream, on whichever node: a transfer in vain, or a call that comes
    back to /voice, begins another."""
    began_after: int = 0
    """What `ended_streams` was then, which numbers the sessions."""
    call_ended: float = 0.0
    """When the carrier said that the call is over; `ended` is when its session was."""
    root: str = ""
    """Of a session that goes on with a call for another service: the call's first session. "" in that one."""
    moves: int = 0
    """0 unless the call was moved to another service. In a session with a `root`: how many moves led to it. In the
    first session: how many there were, which names the session that has the call now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(_Known):
    """All that is known of one session."""

    session: str = ""

    @property
    def moved(self) -> bool:
        """True for the first session of a call that another session has now."""
        return self.moves > 0 and not self.root

    @property
    def over(self) -> bool:
        """True when no bot is to have the call any more: it ended, or its session did and was not attached again. The
        call itself may go on, as while it is transferred: whether it does is `call_is_over` of its record's row.

        A call that got a bot again, as after a transfer whose dial failed, is not over, though its status stays
        "ended". A hangup ends it in any case: who wrote that may not have known of the newest stream.
        """
        if self.call_ended or self.status != "ended":
            return self.call_ended > 0
        return self.continuation.kind == "hangup" or (self._stands and self.continuation.kind != "attach")

    @property
    def wraps_up(self) -> bool:
        """True when the session's bot is told that it is over, and the carrier has the last word: the caller has hung
        up, or the call was moved by a REST request of the user's own. False once a stream has given it a bot again.
        """
        return self.status == "ending" and self._stands

    @property
    def running_since(self) -> float:
        """When the session began that runs, or is handed over; 0: none does, or it is not known."""
        if not self.began:  # of a node of an older version, which said less
            return self.answered if self.status == "streaming" else 0.0
        return self.began if not self._stands and self.began_after == self.ended_streams else 0.0

    @property
    def _stands(self) -> bool:
        """True if no stream has come since the session ended, where it has: an end lasts until then."""
        return self.streams <= self.ended_streams

    @property
    def recording_paused(self) -> bool:
        """True while nothing is to be recorded, on whichever node the call is."""
        return self.recording_switches % 2 == 1

    @property
    def may_expire_early(self) -> bool:
        """True when it can be forgotten soon. What leads to a call that goes on is kept with it."""
        return self.over and not self.moved


@dataclass(frozen=True, slots=True, kw_only=True)
class FactEvent(_Known):
    """Something learned of a session. Only what is set is folded in; aliases are further names to find it by."""

    aliases: tuple[str, ...] = ()


_FIRST_KEPT = (
    "carrier", "account", "call_id", "order_id", "service", "direction", "from_number", "to_number", "raw_from",
    "raw_to", "body", "answered_by", "root", "recording", "max_seconds", "bot_start_ms",
)  # fmt: skip
_GREATER = ("attempt", "starts", "moves", "hold_ms", "cold", "recording_switches")
_EARLIEST = ("created", "answered", "call_ended")


def merge(facts: Facts, event: FactEvent) -> Facts:
    """Return the facts with the event folded in."""
    changes: dict[str, Any] = {}
    for name in _FIRST_KEPT:
        if not getattr(facts, name) and getattr(event, name):
            changes[name] = getattr(event, name)
    for name in _GREATER:
        changes[name] = max(getattr(facts, name), getattr(event, name))
    for name in _EARLIEST:
        changes[name] = _earlier(getattr(facts, name), getattr(event, name))
    if event.began and (not facts.began or event.began_after > facts.began_after):
        changes["began"], changes["began_after"] = event.began, event.began_after
    elif event.began_after == facts.began_after:
        changes["began"] = _earlier(facts.began, event.began)
    if event.ended or event.end_reason:
        changes |= _last_end(facts, event)
    if _STATUS_RANK[event.status] > _STATUS_RANK[facts.status]:
        changes["status"] = event.status
    if _OUTCOME_RANK[event.outcome] > _OUTCOME_RANK[facts.outcome]:
        changes["outcome"] = event.outcome
    if event.caller:
        changes["caller"] = {**event.caller, **facts.caller}
    if (event.state_seq, event.state) > (facts.state_seq, facts.state):
        changes["state"], changes["state_seq"] = event.state, event.state_seq
    changes["told_stream"] = max(facts.told_stream, event.told_stream, key=_order_of_told)
    if (event.streams, event.node) > (facts.streams, facts.node):
        changes["streams"], changes["node"] = event.streams, event.node
    if (event.unopened_since, event.unopened) > (facts.unopened_since, facts.unopened):
        changes["unopened_since"], changes["unopened"] = event.unopened_since, event.unopened
    if _order(event.continuation) > _order(facts.continuation):
        changes["continuation"] = event.continuation
    return replace(facts, **changes)


def _last_end(facts: Facts, event: FactEvent) -> dict[str, Any]:
    """Of two ends the one behind more streams; of two behind the same, the first reason and the earlier time."""
    known = facts.ended or facts.end_reason
    if known and event.ended_streams < facts.ended_streams:
        return {}
    if not known or event.ended_streams > facts.ended_streams:
        return {"ended": event.ended, "end_reason": event.end_reason, "ended_streams": event.ended_streams}
    return {"ended": _earlier(facts.ended, event.ended), "end_reason": facts.end_reason or event.end_reason}


def _earlier(one: float, other: float) -> float:
    """The earlier of two times; 0 is none."""
    return min(one, other) if one and other else one or other


def _order(continuation: Continuation) -> tuple[int, int, str]:
    return (continuation.seq, _RANK_OF_KIND[continuation.kind], continuation.value)


def _order_of_told(told: ToldStream) -> tuple[int, str, str]:
    return (told.seq, told.worker, told.stream_id)


def hung_up(facts: Facts, reason: str, now: float) -> FactEvent:
    """Return the event that ends this session, with a hangup for its carrier. reason: an EndReason. now: unix time."""
    hangup = Continuation("hangup", seq=facts.continuation.seq + 1)
    return FactEvent(status="ended", end_reason=reason, ended=now, ended_streams=facts.streams, continuation=hangup)


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
