"""Status callbacks: what the carrier says happened to a call or its stream. Late, repeated, out of order; never trusted
to be complete.
"""

from __future__ import annotations

import structlog

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest
from gateway.errors import RegistryUnavailable
from gateway.pool.facts import FactEvent
from gateway.protocol import pcm
from gateway.protocol.codes import EndReason
from gateway.sessions.table import Sessions
from gateway.webhooks.receive import VerifiedWebhook, find_static, receive

log = structlog.get_logger(__name__)


async def status(sessions: Sessions, carrier: Carrier, request: HttpRequest) -> HttpAnswer:
    """`/webhooks/{carrier}/status` and `/stream`."""
    node = sessions.node
    visit = await receive(node, carrier, request, "status")
    if isinstance(visit, HttpAnswer):
        return visit
    await note_status(sessions, await find_static(node, visit))
    return carrier.answer_empty()


async def note_status(sessions: Sessions, visit: VerifiedWebhook) -> None:
    """Fold the news into the session's facts; an ended call ends its session here, if it lives on this node."""
    node = sessions.node
    webhook = visit.webhook
    log.info("status", carrier=visit.carrier.name, kind=webhook.kind, status=webhook.status, detail=webhook.detail)
    live = sessions.get(visit.session)
    if webhook.answered_by and live is not None:
        live.bridge.tell(pcm.Status(webhook.answered_by, {}))
    if webhook.status != "ended":
        return
    # Of a call that we have not heard of yet, too: the end may overtake the beginning, and must not find it open.
    event = FactEvent(carrier=visit.carrier.name, call_id=webhook.call_id, status="ended", ended=node.unix_time())
    try:
        await node.registry.merge(visit.session, event)
        if visit.facts is None or visit.facts.attempt == 0:  # it ended before its stream began: the slot is free again
            await node.registry.release(visit.session, 0)
    except RegistryUnavailable:
        pass
    sessions.preopened.discard(visit.session)
    if live is not None:
        live.end(EndReason.CALLER_HANGUP)
