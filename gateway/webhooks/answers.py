"""What a carrier is told: connect to a stream of ours, or what it gets instead when there is no bot."""

from __future__ import annotations

from gateway.carriers.base import HttpAnswer, StreamAnswer
from gateway.carriers.parameters import OwnParameters
from gateway.node.node import Node
from gateway.node.services import Fallback, Service
from gateway.node.tokens import ON_HOLD, StreamToken
from gateway.pool.facts import Facts, own_number
from gateway.pool.registry import Claim
from gateway.webhooks.receive import VerifiedWebhook

MAX_PARAMETERS = 20


def webhook_url(node: Node, visit: VerifiedWebhook, route: str, said: OwnParameters) -> str:
    """The absolute URL of one of our webhooks, as the carrier that visits us must be given it."""
    carrier = visit.carrier
    url = node.url(f"/webhooks/{carrier.name}/{route}?{said.query()}")
    return carrier.callback_url(url, visit.account)


def stream_answer(node: Node, visit: VerifiedWebhook, service: Service, claim: Claim, facts: Facts) -> StreamAnswer:
    """The stream for this claim. A pure function of the claim and the request: no clock, its expiry is the token's."""
    token = StreamToken(claim.session, visit.carrier.name, service.host, claim.attempt, claim.expires)
    return _answer(node, visit, service, token, facts)


def attempt_of(visit: VerifiedWebhook) -> int:
    """The stream that the carrier comes from, by the URL that we gave it: known even if the registry has forgotten."""
    return visit.webhook.own.attempt


def unopened_rounds(visit: VerifiedWebhook, facts: Facts) -> int:
    """Return how often the carrier has come back by now without having opened the stream that it was given."""
    own = visit.webhook.own
    return own.rounds + 1 if own.attempt and own.opened == facts.attempt else 0


def hold_answer(node: Node, visit: VerifiedWebhook, service: Service, facts: Facts, since: float) -> StreamAnswer:
    """A stream in which the caller waits for a slot. A pure function of since when he is to wait, in whole ms."""
    expires = int((since + node.leases.reserved) * 1000) / 1000
    token = StreamToken(visit.session, visit.carrier.name, service.host, ON_HOLD, expires)
    return _answer(node, visit, service, token, facts)


def _answer(node: Node, visit: VerifiedWebhook, service: Service, token: StreamToken, facts: Facts) -> StreamAnswer:
    name, session = token.carrier, token.session
    resume = OwnParameters(
        session=session,
        attempt=max(token.attempt, attempt_of(visit) + 1),
        opened=facts.attempt,
        rounds=unopened_rounds(visit, facts),
    )
    return StreamAnswer(
        url=f"{node.public_ws}/ws/{name}/{node.signer.token(token)}",
        resume_url=webhook_url(node, visit, "resume", resume),
        status_url=webhook_url(node, visit, "stream", OwnParameters(session=session)),
        parameters=_parameters(facts),
        media=service.media,
    )


UNSENT = frozenset({"key", "token", "session"})
"""Entries of the body that no carrier's log and no handshake gets: in both they would be taken for the gateway's."""


def _parameters(facts: Facts) -> list[tuple[str, str]]:
    """From, to and the scalar entries of the body: what bots that read the handshake expect there."""
    parameters = [("from_number", facts.from_number), ("to_number", facts.to_number)]
    for name, value in facts.body.items():
        if name in UNSENT:
            continue
        if isinstance(value, bool):
            parameters.append((name, "true" if value else "false"))
        elif isinstance(value, (str, int, float)):
            parameters.append((name, str(value)))
    return [(name, value) for name, value in parameters if value][:MAX_PARAMETERS]


def fall_back(node: Node, visit: VerifiedWebhook, fallback: Fallback, *, at_voice: bool = False) -> HttpAnswer:
    """What a caller gets when there is no bot. at_voice: he rings, and can be refused unanswered (and unpaid)."""
    carrier = visit.carrier
    if fallback.kind == "forward" and carrier.can.transfer and node.dial_allowed(fallback.to):
        action = webhook_url(node, visit, "resume", OwnParameters(session=visit.session, after="forward"))
        webhook = visit.webhook
        leg = Facts(direction=webhook.direction, from_number=webhook.from_number, to_number=webhook.to_number)
        return carrier.answer_dial(fallback.to, caller=own_number(visit.facts or leg), action_url=action)
    if not at_voice:
        return carrier.answer_hangup()
    return carrier.answer_over() if visit.webhook.status == "answered" else carrier.answer_reject("busy")
