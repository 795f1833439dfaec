"""Do by a continuation what a bot or an operator wants of a call and its stream has no message for.

A continuation is kept before the stream is closed, so that whichever node the carrier comes to then knows what is next.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from gateway.media.types import Stream
from gateway.node.dial_policy import NotDialled, as_dialled
from gateway.node.node import Node
from gateway.pool.facts import Continuation, ContinuationKind, FactEvent, Facts, merge

log = structlog.get_logger(__name__)

REGISTRY_AWAY = "the registry is away"
NO_STREAM = "there is no stream"
STATIC = "this stream belongs to a flow that does not ask us what is next: lead the call to /webhooks/<carrier>/voice"


class CommandedSession(Protocol):
    """What is needed of a session."""

    node: Node
    facts: Facts
    stream: Stream | None

    async def remember(self, event: FactEvent) -> bool:
        """Merge the event into the facts. False: only into ours, as the registry is away."""


async def write_continuation(session: CommandedSession, kind: ContinuationKind, value: str = "") -> str:
    """Keep what the carrier is to be told when its stream ends. Returns why not, "" if it is kept."""
    seq = session.facts.continuation.seq + 1
    if await session.remember(FactEvent(continuation=Continuation(kind, value, seq))):
        return ""
    log.warning("continuation not kept: the registry is away", continuation=kind)
    # Take it back, also from a registry that has done it and whose answer was lost: the next write tells it.
    session.facts = merge(session.facts, FactEvent(continuation=Continuation(seq=seq + 1)))
    return REGISTRY_AWAY


async def transfer(session: CommandedSession, to: str) -> str:
    """Lead the carrier to this number. Returns why not."""
    if refusal := no_transfer(session.node, session.facts) or no_way_back(session):
        return refusal
    number = number_to_dial(session.node, to)
    return number.reason if isinstance(number, NotDialled) else await write_continuation(session, "dial", number)


def no_transfer(node: Node, facts: Facts) -> str:
    """Return why this call can be transferred to no number at all, "" if it can."""
    carrier = node.carriers.get(facts.carrier)
    if carrier is None:
        return "the call's carrier is not set up any more"
    if not carrier.can.transfer:
        return carrier.can.transfer_why
    if facts.direction == "outbound" and not carrier.goes_on(facts.account):
        return "a call that was placed without a flow ends with its stream: set the carrier's flow_id"
    return ""


def no_way_back(session: CommandedSession) -> str:
    """Return why no continuation would be asked for when the session's stream ends, "" if one is.

    Nothing of ours stands behind a static stream, or a prepared one: its end is the call's.
    """
    return STATIC if session.stream is not None and not session.stream.resumes else ""


def number_to_dial(node: Node, to: str) -> str | NotDialled:
    """Return the number that a call may be transferred to, or why it is not."""
    number = as_dialled(to)
    if isinstance(number, NotDialled) or node.dial_allowed(number):
        return number
    return NotDialled("the number is not in [dialout] allow", never=True)


async def press(session: CommandedSession, digits: str) -> str:
    """Have the carrier's XML press these keys, where its stream has no message for them. Returns why not."""
    can = session.node.carriers[session.facts.carrier].can
    if not can.digits:
        return can.digits_why
    if session.stream is None:
        return NO_STREAM
    return no_way_back(session) or await write_continuation(session, "digits", digits)


def no_keys(session: CommandedSession, digits: str) -> str:
    """Return why no keys can be pressed in this call, "" if they can."""
    if session.stream is None:
        return NO_STREAM
    if session.stream.serializer.dtmf(digits) is not None:
        return ""
    can = session.node.carriers[session.facts.carrier].can
    return no_way_back(session) if can.digits else can.digits_why
