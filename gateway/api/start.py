"""`POST /start`, in the shape of Pipecat's runner: a stream that is prepared for a call, or a call that is placed."""

from __future__ import annotations

import base64

import orjson

from gateway.api.dial import IDEMPOTENCY_KEY, dial, problem_of
from gateway.api.models import AgentStartRequest, Started, StartRequest
from gateway.api.operation import Asked, Reply
from gateway.api.parts import Api
from gateway.api.problems import Problem, wrong_field
from gateway.dialout.guards import check_body
from gateway.dialout.request import Dialled, DialRequest
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.node.tokens import WEBSOCKET, prepared_token
from gateway.pool.facts import FactEvent

TOO_MANY = Problem(
    429, "Too many prepared streams wait for their calls.", "too_many_prepared", headers={"retry-after": "30"}
)


async def start(api: Api, asked: Asked) -> Reply | Problem:
    """Prepare a stream that reaches the bot with this body, or call a number."""
    body: StartRequest = asked.body
    service = api.node.services.choose(body.service_host or "", "")
    if body.phone_number is None and service is None:
        detail = "there is no such service, and no default"
        return Problem(404, f"serviceHost: {detail}.", "unknown_service", (("serviceHost", detail),))
    return await begin(api, asked, body, service, body.service_host or "")


async def begin(
    api: Api, asked: Asked, wanted: AgentStartRequest, service: Service | None, named: str
) -> Reply | Problem:
    """Do either for this service. named: as the request names it, "" where a call's own number decides."""
    transport = _transport(api.node, wanted)
    if isinstance(transport, Problem):
        return transport
    if wanted.phone_number is not None:
        return await _dial(api, asked, wanted, transport, named)
    assert service is not None
    return await _prepare(api, wanted, transport, service)


def _transport(node: Node, wanted: AgentStartRequest) -> str | Problem:
    """Return the carrier, or WEBSOCKET. Pipecat's runner, too, answers 400 for what it does not serve."""
    name = wanted.transport or ("daily" if wanted.create_daily_room else next(iter(node.carriers), WEBSOCKET))
    served = (*node.carriers, WEBSOCKET)
    if name in served:
        return name
    detail = f"{name} is not served here, only {', '.join(served)}"
    return Problem(400, f"transport: {detail}.", "transport", (("transport", detail),))


async def _dial(api: Api, asked: Asked, body: AgentStartRequest, carrier: str, named: str) -> Reply | Problem:
    """Call this number, from the first of `[dialout] callers` if nothing else is said."""
    assert asked.key is not None and body.phone_number is not None
    if carrier == WEBSOCKET:
        return wrong_field("transport", "must be a carrier where a number is called")
    ours = body.from_number or (api.dialout.default_caller if api.dialout is not None else "")
    if not ours:
        return wrong_field("from", "is missing, and [dialout] callers names none")
    request = DialRequest(
        carrier=carrier,
        to=body.phone_number,
        from_number=ours,
        service_host=named,
        body=body.body,
        idempotency_key=asked.headers.get(IDEMPOTENCY_KEY, ""),
        key_name=asked.key.name,
    )
    result = await dial(api, request)
    if isinstance(result, Problem):
        return result
    started = Started(sessionId=result.session_id, callId=result.call_id if isinstance(result, Dialled) else None)
    return Reply(200, started, about={"session_id": result.session_id, "number": body.phone_number})


async def _prepare(api: Api, wanted: AgentStartRequest, transport: str, service: Service) -> Reply | Problem:
    """Make a session without a call, and the URL of its stream: whichever call, or client, comes first has it."""
    node = api.node
    if transport == WEBSOCKET and (service.protocol or node.protocols.get(service.host)) == "pcm":
        detail = f'a client speaks the bot\'s own wire, so the bots of {service.host} must have protocol = "relay"'
        return Problem(409, f"transport: {detail}.", "not_possible", (("transport", detail),))
    if refusal := check_body(node, service, wanted.body):
        return problem_of(refusal)
    now = node.unix_time()
    prepared = prepared_token(transport, service.host, int((now + api.prepared.seconds) * 1000) / 1000)
    session, token = prepared.session, node.signer.token(prepared)
    facts = FactEvent(carrier=transport, service=service.host, body=wanted.body, status="queued", created=now)
    if not await api.prepared.prepare(node, session, facts):
        return TOO_MANY
    path = f"/ws-client/{token}" if transport == WEBSOCKET else f"/ws/{transport}/{token}"
    started = Started(
        sessionId=session,
        wsUrl=f"{node.public_ws}{path}",
        token=token,
        body=_in_url(wanted.body) if transport == WEBSOCKET and wanted.body else None,
    )
    return Reply(200, started, about={"session_id": session})


def _in_url(body: dict[str, object]) -> str:
    return base64.b64encode(orjson.dumps(body)).decode()
