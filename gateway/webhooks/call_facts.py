"""What a webhook says of its call, as events for the session's facts."""

from __future__ import annotations

from typing import Any

from gateway.carriers.base import Webhook
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import FactEvent, call_alias
from gateway.webhooks.receive import VerifiedWebhook


def first_facts(node: Node, visit: VerifiedWebhook, service: Service) -> FactEvent:
    """Return what a webhook at `/voice` says of its call."""
    webhook = visit.webhook
    answered = visit.is_placed and webhook.status != "ringing"  # else its stream says when
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
        caller=caller_known(webhook),
        answered_by=webhook.answered_by,
        # What was given with the order, however little, is all that a call of ours has.
        body={} if visit.is_placed else dict(webhook.custom_params),
        status="answered" if answered else "ringing",
        created=node.unix_time(),
        answered=node.unix_time() if answered else 0.0,
        aliases=(call_alias(visit.carrier.name, visit.account, webhook.call_id),),
    )


def caller_known(webhook: Webhook) -> dict[str, Any]:
    """Return what the webhook says of the caller, by the names of `CallData`."""
    known = {
        "caller_name": webhook.caller_name,
        "forwarded_from": webhook.forwarded_from,
        "stir": webhook.stir,
        "sip_headers": dict(webhook.sip_headers),
    }
    return {name: value for name, value in known.items() if value}
