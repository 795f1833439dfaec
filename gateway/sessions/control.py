"""Hang up, transfer, press keys: what a program wants done with a call, wherever it runs.

A session that runs here takes it as an order (`orders`). It may run on another node, which is asked by its mailbox. A
call that has no stream, because it rings or its node is dead, is hung up by the carrier's REST API.

If a REST request of the user's own has moved the call away, its session has ended. There is nothing to hang up then,
and the carrier is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import structlog

from gateway.errors import RegistryUnavailable
from gateway.node.dial_policy import NotDialled
from gateway.node.node import Node
from gateway.node.tokens import STATIC_SESSION, WEBSOCKET
from gateway.pool.facts import Facts, hung_up
from gateway.protocol.codes import EndReason
from gateway.sessions.commands import no_transfer, number_to_dial
from gateway.sessions.events import AT_ONCE, OrderKind
from gateway.sessions.node_messages import (
    NotThere,
    OrderResult,
    Refused,
    Taken,
    Uncertain,
    Withdrawn,
    give_order,
    order_elsewhere,
)
from gateway.sessions.table import Sessions

log = structlog.get_logger(__name__)

NOT_ANSWERED = "the call has not been answered yet"
HAS_ENDED = "the call has ended"
NO_CARRIER = "this is a client of your own, and no carrier's call: it can only be hung up"
UNREACHABLE = "the call's stream is not connected at the moment"
NOT_DONE = "the node that has the call did not answer in time, and nothing was done: try again"
MAY_BE_DONE = "the node that has the call did not say in time what it did: look at the call before you try again"


@dataclass(frozen=True, slots=True)
class Done:
    """Accepted: it is done, or will be when the bot's last words have been heard. ended: the call had ended before.

    A transfer may fail then, as the registry is away: that is logged, and the call goes on with its bot.
    """

    ended: bool = False


@dataclass(frozen=True, slots=True)
class NotPossible:
    """The carrier cannot do it, or not in this state of the call. reason: a clause."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """No call is transferred to this number. reason: the rule, as a clause."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoNumber:
    """What was named is no number to transfer a call to. reason: a clause."""

    reason: str


@dataclass(frozen=True, slots=True)
class UnknownSession:
    """There is no such session, or it has been forgotten."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The node that has the call did not answer in time. reason: a clause, which says whether it may be done."""

    reason: str


Outcome: TypeAlias = Done | NotPossible | UnknownSession | NoAnswer


async def hang_up(sessions: Sessions, session_id: str, *, at_once: bool = False) -> Outcome:
    """End the call; one that has ended already is as good. at_once: without waiting for what the bot has said.

    Raises RegistryUnavailable.
    """
    if session_id in sessions.clients:
        sessions.clients[session_id].end(EndReason.API_HANGUP)
        return Done()
    facts, live = await _find(sessions, session_id), sessions.running(session_id)
    if facts is None:
        return UnknownSession()
    if _transferred(facts):  # the caller talks to the number that we dialled
        return await _hang_up_at_carrier(sessions, facts)
    if live is None and _has_ended(sessions, facts):
        return Done(ended=True)
    result = await _order(sessions, facts, "hangup", AT_ONCE if at_once else "")
    if isinstance(result, NotThere | Withdrawn):
        return await _hang_up_at_carrier(sessions, facts)
    return _outcome(result)


async def transfer(sessions: Sessions, session_id: str, to: str) -> Outcome | NotAllowed | NoNumber:
    """Hand the caller over to another number. Raises RegistryUnavailable."""
    facts = await _find(sessions, session_id)
    if facts is None:
        return UnknownSession()
    if facts.carrier == WEBSOCKET:
        return NotPossible(NO_CARRIER)
    if refusal := no_transfer(sessions.node, facts):
        return NotPossible(refusal)
    number = number_to_dial(sessions.node, to)
    if isinstance(number, NotDialled):
        return NotAllowed(number.reason) if number.never else NoNumber(number.reason)
    return await _in_stream(sessions, facts, "transfer", number)


async def press(sessions: Sessions, session_id: str, digits: str) -> Outcome:
    """Press keys. digits: what `protocol.pcm.keys_in` leaves. Raises RegistryUnavailable."""
    facts = await _find(sessions, session_id)
    return await _in_stream(sessions, facts, "digits", digits) if facts is not None else UnknownSession()


async def pause_recording(sessions: Sessions, session_id: str, *, pause: bool) -> Outcome:
    """Record silence from now on, or again what is said. Raises RegistryUnavailable."""
    facts = await _find(sessions, session_id)
    kind: OrderKind = "pause_recording" if pause else "resume_recording"
    return await _in_stream(sessions, facts, kind, "") if facts is not None else UnknownSession()


async def _find(sessions: Sessions, session_id: str) -> Facts | None:
    """Return what is known of the session of exactly this id: the registry finds calls by other names, too."""
    live = sessions.running(session_id)
    if live is not None:
        return live.facts
    facts = await sessions.node.registry.find(session_id)
    return facts if facts is not None and facts.session == session_id else None


async def _in_stream(sessions: Sessions, facts: Facts, kind: OrderKind, value: str) -> Outcome:
    """Give an order that a call without a stream cannot follow."""
    if facts.carrier == WEBSOCKET:
        return NotPossible(NO_CARRIER)
    if sessions.running(facts.session) is None:
        if _has_ended(sessions, facts):
            return NotPossible(HAS_ENDED)
        if not facts.node:
            return NotPossible(NOT_ANSWERED)
    return _outcome(await _order(sessions, facts, kind, value))


def _outcome(result: OrderResult) -> Outcome:
    """Say in our caller's words what came of an order."""
    match result:
        case Taken():
            return Done()
        case Refused(reason):
            return NotPossible(reason)
        case NotThere():
            return NotPossible(UNREACHABLE)
        case Withdrawn():
            return NoAnswer(NOT_DONE)
        case Uncertain():
            return NoAnswer(MAY_BE_DONE)


async def _order(sessions: Sessions, facts: Facts, kind: OrderKind, value: str) -> OrderResult:
    """Give the order to the session, here or on the node that its stream runs on."""
    node, live = sessions.node, sessions.running(facts.session)
    elsewhere = facts.node not in ("", node.id)
    if live is not None and (live.stream is not None or not elsewhere):
        return give_order(live, kind, value)
    return await order_elsewhere(node, facts.session, facts.node, kind, value) if elsewhere else NotThere()


def _transferred(facts: Facts) -> bool:
    """True while the caller talks, or is put through, to the number of a transfer of ours."""
    return facts.over and facts.continuation.kind == "dial" and not facts.call_ended


def _has_ended(sessions: Sessions, facts: Facts) -> bool:
    """True if nothing is left to end: the call is over, or its session is and no other has begun.

    One whose stream the carrier has ended is "ending": the caller has hung up, or the call was moved by a REST request
    of the user's own. A session that wraps up here may not have told the registry yet.
    """
    if facts.over:
        return True
    here = sessions.get(facts.session)
    wraps_up = here is not None and here.ended is not None and facts.node in ("", sessions.node.id)
    return (wraps_up or facts.wraps_up) and facts.continuation.kind != "attach"


async def _hang_up_at_carrier(sessions: Sessions, facts: Facts) -> Outcome:
    """End a call without a session that could: by REST, and by what the carrier is told when it asks what is next."""
    node = sessions.node
    rings = facts.direction == "outbound" and not (facts.answered or facts.streams)
    if refusal := await _ask_carrier(node, facts, rings=rings):
        return NotPossible(refusal)
    reason = EndReason.CANCELED if rings else EndReason.API_HANGUP
    await node.registry.merge(facts.session, hung_up(facts, reason, node.unix_time()))
    sessions.preopened.discard(facts.session)
    try:
        await node.registry.release(facts.session, 0)  # a slot that no stream has taken
    except RegistryUnavailable:
        pass  # its lease is over soon
    log.info("hung up without a stream", session=facts.session, carrier=facts.carrier, reason=reason)
    return Done()


async def _ask_carrier(node: Node, facts: Facts, *, rings: bool) -> str:
    """Ask the carrier to end the call, if it has it. Returns why that is not possible."""
    carrier = node.carriers.get(facts.carrier)
    if facts.status == "queued" and not facts.call_id:
        return ""  # the dialer looks whether it is over, before and after it places the call
    if carrier is None or (rings and not carrier.can.cancel_ringing):
        return "this carrier cannot end a call that has not been answered"
    if rings and not (facts.call_id or facts.order_id):
        return ""  # its id is not known yet: the call is cancelled when the carrier tells it
    if rings:
        request = carrier.cancel_call(facts.call_id, facts.order_id, facts.account)
    else:
        request = carrier.hang_up(facts.call_id, facts.account) if is_verified(node, facts) else None
    if request is None:
        return "this carrier cannot end a call that has no stream at the moment"
    asked = await node.http_client.ask(request, seconds=node.limits.rest_timeout)
    return "" if asked else "the carrier's REST API did not end the call: try again"


def is_verified(node: Node, facts: Facts) -> bool:
    """True if the carrier has named the call: any holder of a stream key can name any call in a static stream."""
    if not facts.session.startswith(STATIC_SESSION):
        return True
    own = node.signer.static_session_ids(facts.carrier, facts.account, facts.call_id)
    return facts.account != "" and facts.session in own
