"""A call rings, or one of ours was answered: reserve a worker and tell the carrier where to stream."""

from __future__ import annotations

from typing import Any

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest, Kind, Webhook
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import FactEvent, call_alias
from gateway.pool.registry import Claim, Full
from gateway.sessions.table import Sessions
from gateway.webhooks.answers import fall_back, hold_answer, stream_answer
from gateway.webhooks.receive import VerifiedWebhook, receive
from gateway.webhooks.status import note_status


async def voice(sessions: Sessions, carrier: Carrier, request: HttpRequest) -> HttpAnswer:
    """`/webhooks/{carrier}/voice`."""
    node = sessions.node
    visit = await receive(node, carrier, request, "voice")
    if isinstance(visit, HttpAnswer):
        return visit
    if visit.webhook.kind is not Kind.VOICE:
        await note_status(sessions, visit)  # a status callback that was configured to come here
        return carrier.answer_empty()
    service = choose_service(node, visit)
    if service is None:
        node.refuse("voice", "unknown_service", carrier=carrier.name)
        return carrier.answer_reject("rejected")
    try:
        return await _reserve(sessions, visit, service)
    except RegistryUnavailable:
        node.refuse("voice", "registry_down", carrier=carrier.name)
        return fall_back(node, visit, service.when_down, at_voice=True)


def choose_service(node: Node, visit: VerifiedWebhook) -> Service | None:
    """By the session's own history, else by the URL, the dialled number, the default."""
    if visit.facts is not None and visit.facts.service:
        return node.services.get(visit.facts.service)
    return node.services.choose(visit.webhook.own.service_host, visit.webhook.to_number)


async def _reserve(sessions: Sessions, visit: VerifiedWebhook, service: Service) -> HttpAnswer:
    node = sessions.node
    facts = await node.registry.merge(visit.session, _heard(node, visit, service))
    if facts.status == "ended":
        return visit.carrier.answer_over()
    if node.refusing:
        node.refuse("voice", "draining", carrier=visit.carrier.name)
        return fall_back(node, visit, service.when_full, at_voice=True)
    if node.overloaded:  # counts as full, but holding would cost as much as serving
        node.refuse("voice", "overloaded", carrier=visit.carrier.name)
        return fall_back(node, visit, service.when_full, at_voice=True)
    claim = await node.registry.claim(service.host, visit.session)
    if not isinstance(claim, Claim):
        if service.when_full.kind == "hold" and node.unix_time() < facts.created + node.leases.reserved:
            return visit.carrier.answer_stream(hold_answer(node, visit, service, facts, facts.created))
        node.refuse("voice", "no_worker" if claim == Full(hosts=0) else "full", carrier=visit.carrier.name)
        return fall_back(node, visit, service.when_full, at_voice=True)
    node.spawn(sessions.preopened.preopen(claim, facts.body), f"preopen {visit.session}")
    return visit.carrier.answer_stream(stream_answer(node, visit, service, claim, facts))


def _heard(node: Node, visit: VerifiedWebhook, service: Service) -> FactEvent:
    webhook = visit.webhook
    return FactEvent(
        carrier=visit.carrier.name,
        account=visit.account,
        call_id=webhook.call_id,
        service=service.host,
        direction=webhook.direction,
        from_number=webhook.from_number,
        to_number=webhook.to_number,
        raw_from=webhook.raw_from,
        raw_to=webhook.raw_to,
        caller=_caller(webhook),
        body=dict(webhook.custom_params),
        status="ringing",
        created=node.unix_time(),
        aliases=(call_alias(visit.carrier.name, visit.account, webhook.call_id),),
    )


def _caller(webhook: Webhook) -> dict[str, Any]:
    """What the carrier knows of the caller, beside the number."""
    known = {
        "caller_name": webhook.caller_name,
        "forwarded_from": webhook.forwarded_from,
        "stir": webhook.stir,
        "sip_headers": dict(webhook.sip_headers),
    }
    return {name: value for name, value in known.items() if value}
