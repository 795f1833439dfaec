"""Status callbacks: what the carrier says happened to a call or its stream. Late, repeated, out of order; never trusted
to be complete.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest
from gateway.carriers.rest_answers import outcome_of
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.pool.facts import FactEvent, call_alias
from gateway.protocol.codes import EndReason
from gateway.sessions.carrier_rest import cancel_by_rest
from gateway.sessions.node_messages import NodeMessage, tell
from gateway.sessions.table import Sessions
from gateway.webhooks.call_facts import caller_known
from gateway.webhooks.receive import VerifiedWebhook, find_static, receive

log = structlog.get_logger(__name__)

_WITHOUT_A_STREAM = {
    "completed": EndReason.CALLER_HANGUP,
    "busy": EndReason.BUSY,
    "no-answer": EndReason.NO_ANSWER,
    "failed": EndReason.FAILED,
    "canceled": EndReason.CANCELED,
}
"""Why a call that we placed had no conversation, by its outcome."""


async def status(sessions: Sessions, carrier: Carrier, request: HttpRequest) -> HttpAnswer:
    """`/webhooks/{carrier}/status` and `/stream`."""
    node = sessions.node
    visit = await receive(node, carrier, request, "status")
    if isinstance(visit, HttpAnswer):
        return visit
    await note_status(sessions, await find_static(node, visit))
    return carrier.answer_empty()


async def note_status(sessions: Sessions, visit: VerifiedWebhook) -> None:
    """Merge the news into the session's facts, and tell the session of it.

    A call that ended ends its session, on whichever node it lives.
    """
    node = sessions.node
    webhook = visit.webhook
    _log_status(node, visit)
    event = FactEvent(
        carrier=visit.carrier.name,
        call_id=webhook.call_id,
        answered_by=webhook.answered_by,
        caller=caller_known(webhook),
    )
    if visit.is_placed:
        event = _of_placed(visit, event, node.unix_time())
    ended = webhook.status == "ended"
    if ended:
        # Also for a call not heard of yet: its end may overtake its beginning, which must then find it ended.
        now, outcome = node.unix_time(), outcome_of(webhook.outcome)
        event = replace(event, status="ended", ended=now, call_ended=now, outcome=outcome)
        sessions.preopened.discard(visit.session)
    elif not (event.answered_by or event.caller or event.status):
        return
    running_on = visit.facts.node if visit.facts is not None else ""
    try:
        facts = await node.registry.merge(visit.session, event)
        running_on = facts.node
        if webhook.status == "ringing" and visit.is_placed and facts.over:  # hung up before its id was known
            node.spawn(cancel_by_rest(node, facts), f"cancel {visit.session}")
        if ended:
            await node.registry.release(visit.session, 0)  # a slot that no stream has taken is free again
    except RegistryUnavailable:
        pass  # the session is told all the same
    await _tell_session(sessions, visit, running_on)


def _of_placed(visit: VerifiedWebhook, event: FactEvent, now: float) -> FactEvent:
    """Add what the callback says of a call that we placed: that it rings, is answered, or why it was not.

    Its end reason is that of the session, if there has been a stream.
    """
    webhook, facts = visit.webhook, visit.facts
    assert facts is not None
    event = replace(
        event,
        account=visit.account,
        call_id="" if webhook.call_id == webhook.alias else webhook.call_id,  # Plivo's names the call itself later
        status="ringing" if webhook.status == "ringing" else "answered" if webhook.status == "answered" else "",
        answered=now if webhook.status == "answered" else 0.0,
        aliases=(call_alias(visit.carrier.name, visit.account, webhook.call_id),),
    )
    if webhook.status != "ended":
        return event
    reason = "" if facts.streams else _WITHOUT_A_STREAM.get(webhook.outcome, "")
    return replace(event, end_reason=reason)


def _log_status(node: Node, visit: VerifiedWebhook) -> None:
    """Log what the callback says, and nothing of what it does not."""
    webhook, facts = visit.webhook, visit.facts
    said = {"status": webhook.status, "detail": webhook.detail, "stream": webhook.stream, "dial": webhook.dial}
    known: dict[str, str | float] = {name: word for name, word in said.items() if word}
    if webhook.status == "ended" and facts is not None and facts.created:
        known["seconds"] = round(node.unix_time() - facts.created, 1)  # since the call was first heard of
    log.info("carrier status callback", carrier=visit.carrier.name, kind=webhook.kind, **known)


async def _tell_session(sessions: Sessions, visit: VerifiedWebhook, node_id: str) -> None:
    """Tell the session what the callback says.

    node_id: of the node that its stream runs on, "" if not known.
    """
    try:
        if visit.webhook.answered_by:
            await tell(sessions, node_id, NodeMessage("answered_by", visit.session, visit.webhook.answered_by))
        if visit.webhook.status == "ended":
            await tell(sessions, node_id, NodeMessage("end", visit.session, EndReason.CALLER_HANGUP))
    except RegistryUnavailable:
        pass  # the carrier ends the stream, too
