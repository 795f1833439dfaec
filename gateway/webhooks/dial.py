"""The route at which a carrier asks whom to dial, where its answer at `/resume` could not say so: see `dial_route`."""

from __future__ import annotations

import asyncio

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest
from gateway.pool.facts import own_number
from gateway.sessions.table import Sessions
from gateway.webhooks.receive import choose_service, find_static, receive


async def whom_to_dial(sessions: Sessions, carrier: Carrier, request: HttpRequest) -> HttpAnswer:
    """`/webhooks/{carrier}/{dial_route}`: answer with the number of a transfer or a forward.

    Without a number the carrier's flow goes on, and attaches the call again.
    """
    if request.path.split("/")[3] != carrier.dial_route:  # it is another carrier's
        return HttpAnswer(content_type="text/plain; charset=utf-8", status=404)
    node = sessions.node
    until = asyncio.get_running_loop().time() + node.limits.outage_grace  # as at /resume: the caller was answered
    visit = await receive(node, carrier, request, carrier.dial_route, until=until)
    if isinstance(visit, HttpAnswer):
        return visit
    visit = await find_static(node, visit, until)
    facts, named = visit.facts, visit.webhook.own.service_host
    if facts is None and not visit.facts_unknown and named and node.services.get(named) is None:
        node.refuse(carrier.dial_route, "unknown_service", carrier=carrier.name)
        return carrier.answer_reject("rejected")
    to = facts.continuation.value if facts is not None and facts.continuation.kind == "dial" else ""
    if visit.facts_unknown and (service := choose_service(node, visit)) is not None:
        to = node.forward_number(carrier.name, service.when_down)  # what was kept cannot be read
    return carrier.answer_number(to, caller=own_number(facts) if facts is not None else "")
