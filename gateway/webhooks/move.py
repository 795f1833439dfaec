"""A running call that is led to `/voice` for another service: its session ends there, and another begins here.

It is led there by the carrier's REST API, or by a redirect in a flow.

The name in the URL decides, as it does for a call that rings. Without a name, or with that of the service that has the
call, the call stays where it is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import structlog

from gateway.carriers.base import HttpAnswer
from gateway.errors import RegistryUnavailable
from gateway.node.services import Service
from gateway.node.tokens import MAX_MOVES
from gateway.pool.facts import FactEvent, Facts, hung_up
from gateway.protocol.codes import EndReason
from gateway.sessions.node_messages import NodeMessage, tell
from gateway.sessions.table import Sessions
from gateway.webhooks.call_facts import caller_known, first_facts
from gateway.webhooks.receive import VerifiedWebhook

log = structlog.get_logger(__name__)


def is_move(visit: VerifiedWebhook) -> bool:
    """True if the URL names another service than the one that has the call."""
    named, facts = visit.webhook.own.service_host, visit.facts
    return bool(named and facts is not None and facts.service and named != facts.service)


async def move(sessions: Sessions, visit: VerifiedWebhook, service: Service) -> VerifiedWebhook | HttpAnswer:
    """End the call's session, and return the webhook as one of its next session.

    An answer instead, where the call is over or has been moved too often. Raises RegistryUnavailable.
    """
    node, old = sessions.node, visit.facts
    assert old is not None
    if not _can_be_moved(visit, old):
        return visit.carrier.answer_over()
    if old.moves >= MAX_MOVES:
        node.refuse("voice", "too_many_moves", carrier=visit.carrier.name)
        return visit.carrier.answer_over()
    root, moves = old.root or old.session, old.moves + 1
    moved = replace(visit, session=node.signer.moved_session_id(root, moves), facts=None)
    # The new session first: once the old one leads to it, it must be there.
    first = replace(
        first_facts(node, moved, service),
        root=root,
        moves=moves,
        caller={**old.caller, **caller_known(visit.webhook)},
        answered_by=visit.webhook.answered_by or old.answered_by,
    )
    await node.registry.merge(moved.session, first)
    await node.registry.merge(root, FactEvent(moves=moves))
    await node.registry.merge(old.session, hung_up(old, EndReason.TRANSFERRED, node.unix_time()))
    sessions.preopened.discard(old.session)
    # The call has been moved: what is left may fail. The carrier ends the old stream, too.
    with suppress(RegistryUnavailable):
        await tell(sessions, old.node, NodeMessage("end", old.session, EndReason.TRANSFERRED))
    with suppress(RegistryUnavailable):
        await node.registry.release(old.session, 0)  # a slot that no stream has taken yet; else its lease is over soon
    structlog.contextvars.bind_contextvars(session=moved.session)
    log.info("call moved to another service", old=old.session, session=moved.session, service=service.host)
    return moved


def _can_be_moved(visit: VerifiedWebhook, facts: Facts) -> bool:
    """False if there is no call any more.

    Its session may have ended without it: a bot that leads its call elsewhere by the carrier's REST API closes its
    link. A carrier that speaks of a call as ringing then repeats itself.
    """
    return not (facts.call_ended or (facts.over and visit.webhook.status == "ringing"))
