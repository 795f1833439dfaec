"""What a carrier is told: connect to a stream of ours, or what it gets instead when there is no bot."""

from __future__ import annotations

from dataclasses import replace

import structlog

from gateway.carriers.base import HttpAnswer, StreamAnswer
from gateway.carriers.parameters import OUR_PARAMETERS, OwnParameters
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.node.services import Fallback, Service
from gateway.node.tokens import ON_HOLD, StreamToken
from gateway.pool.facts import Continuation, FactEvent, Facts, own_number
from gateway.pool.registry import Claim
from gateway.webhooks.receive import VerifiedWebhook

log = structlog.get_logger(__name__)

MAX_PARAMETERS = 20
"""Entries that a stream's `start` repeats, so that no body of a /start makes a carrier's XML too long."""
UNSENT = frozenset({"key", "token", "session"})
"""Entries of the body that no carrier's log and no handshake gets: in both they would be taken for the gateway's."""


def webhook_url(node: Node, visit: VerifiedWebhook, route: str, said: OwnParameters) -> str:
    """Return the URL of one of our webhooks, as this carrier must be given it."""
    carrier = visit.carrier
    if visit.is_placed:
        said = replace(said, mac=node.signer.call_mac(said.session, carrier.name))
    url = node.url(f"/webhooks/{carrier.name}/{route}?{said.query()}")
    return carrier.callback_url(url, visit.account)


def stream_answer(node: Node, visit: VerifiedWebhook, service: Service, claim: Claim, facts: Facts) -> StreamAnswer:
    """Ask for the stream of this claim.

    A pure function of the claim, the request and the facts: no clock, its expiry is the token's.
    """
    token = StreamToken(claim.session, visit.carrier.name, service.host, claim.attempt, claim.expires)
    return _answer(node, visit, service, token, facts)


def unopened_rounds(visit: VerifiedWebhook, facts: Facts) -> int:
    """Return how often the carrier has come back without having opened its stream.

    The URL that it was given says so; where that is drawn in a flow, which has no place for a count, the facts do.
    """
    own = visit.webhook.own
    if own.attempt:
        return own.rounds + 1 if own.opened == facts.streams else 0
    return facts.unopened + 1 if facts.unopened_since == facts.streams else 0


def hold_answer(node: Node, visit: VerifiedWebhook, service: Service, facts: Facts, since: float) -> StreamAnswer:
    """Ask for a stream in which the caller waits for a slot.

    since: from when on they wait, unix time. The answer is a pure function of it, in whole milliseconds.
    """
    expires = int((since + node.leases.reserved) * 1000) / 1000
    token = StreamToken(visit.session, visit.carrier.name, service.host, ON_HOLD, expires)
    return _answer(node, visit, service, token, facts)


def _answer(node: Node, visit: VerifiedWebhook, service: Service, token: StreamToken, facts: Facts) -> StreamAnswer:
    name, session = token.carrier, token.session
    resume = OwnParameters(
        session=session,
        # A held caller's token has attempt 0: count on from the URL.
        attempt=max(token.attempt, visit.webhook.own.attempt + 1),
        opened=facts.streams,
        # A flow's own URL has no place for a count: the facts keep it.
        rounds=unopened_rounds(visit, facts) if visit.webhook.own.attempt else 0,
    )
    return StreamAnswer(
        url=f"{node.public_ws}/ws/{name}/{node.signer.token(token)}",
        resume_url=webhook_url(node, visit, "resume", resume),
        status_url=webhook_url(node, visit, "stream", OwnParameters(session=session)),
        parameters=_parameters(facts),
        media=service.media,
    )


def _parameters(facts: Facts) -> list[tuple[str, str]]:
    """List what bots that read the handshake expect there.

    From, to and the scalar entries of the body.
    """
    parameters = [(name, getattr(facts, name)) for name in OUR_PARAMETERS]
    for name, value in facts.body.items():
        if name in UNSENT:
            continue
        if isinstance(value, bool):
            parameters.append((name, "true" if value else "false"))
        elif isinstance(value, (str, int, float)):
            parameters.append((name, str(value)))
    return [(name, value) for name, value in parameters if value][:MAX_PARAMETERS]


async def fall_back(node: Node, visit: VerifiedWebhook, fallback: Fallback, *, at_voice: bool = False) -> HttpAnswer:
    """Answer a caller for whom there is no bot.

    at_voice: the call still rings, so it can be refused unanswered and unpaid.
    """
    carrier = visit.carrier
    to = node.forward_number(visit.carrier.name, fallback)
    if to and not dial_failed(visit):
        await _keep_number(node, visit, to)
        action = webhook_url(node, visit, "resume", OwnParameters(session=visit.session, after="forward"))
        webhook = visit.webhook
        leg = Facts(direction=webhook.direction, from_number=webhook.from_number, to_number=webhook.to_number)
        return carrier.answer_dial(to, caller=own_number(visit.facts or leg), action_url=action)
    if not at_voice:
        return carrier.answer_hangup()
    return carrier.answer_over() if visit.webhook.status == "answered" else carrier.answer_reject("busy")


def dial_failed(visit: VerifiedWebhook) -> bool:
    """True if the number that this carrier asked for was dialled in vain.

    Of carriers with a `dial_route`; others say so at the URL that they were given for it. Without the registry the
    carrier's word must do.
    """
    if not visit.carrier.dial_route or visit.webhook.dial in ("", "completed"):
        return False
    return visit.facts_unknown or (visit.facts is not None and visit.facts.continuation.kind == "dial")


async def _keep_number(node: Node, visit: VerifiedWebhook, to: str) -> None:
    """Keep the number for the request that will ask for it.

    Where the registry does not answer, that request uses `when_down`.
    """
    if not visit.carrier.dial_route:
        return
    seq = visit.facts.continuation.seq + 1 if visit.facts is not None else 1
    try:
        await node.registry.merge(visit.session, FactEvent(continuation=Continuation("dial", to, seq)))
    except RegistryUnavailable:
        log.warning("forward not kept: the registry is away", session=visit.session, carrier=visit.carrier.name)
