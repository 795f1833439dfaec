"""`/resume`: the stream has ended, and the carrier asks what is next. The session's continuation answers.

Without one the call lives and its stream broke: it is attached again, on whichever node the carrier came to.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest
from gateway.errors import RegistryUnavailable
from gateway.node.services import Service
from gateway.pool.facts import Continuation, FactEvent, Facts, own_number
from gateway.pool.registry import Claim
from gateway.protocol.codes import EndReason
from gateway.sessions.table import Sessions
from gateway.webhooks.answers import attempt_of, fall_back, hold_answer, stream_answer, unopened_rounds, webhook_url
from gateway.webhooks.receive import VerifiedWebhook, find_static, receive
from gateway.webhooks.voice import choose_service

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 30
"""Streams of one session. A call whose every stream breaks at once would otherwise go round for ever."""
HEARD_WITHIN = 0.5
"""Seconds in which a stream that runs brings media: 25 messages are due."""
MAX_UNOPENED = 4
"""As many documents in a row whose streams did not open, and the call is given up: the carrier cannot reach us."""


async def resume(sessions: Sessions, carrier: Carrier, request: HttpRequest) -> HttpAnswer:
    """`/webhooks/{carrier}/resume`."""
    node = sessions.node
    visit = await receive(node, carrier, request, "resume")
    if isinstance(visit, HttpAnswer):
        return visit
    visit = await find_static(node, visit)
    service = choose_service(node, visit)
    if service is None:
        node.refuse("resume", "unknown_service", carrier=carrier.name)
        return carrier.answer_hangup()
    try:
        return await _continue(sessions, visit, service)
    except RegistryUnavailable:
        node.refuse("resume", "registry_down", carrier=carrier.name)
        return fall_back(node, visit, service.when_down)


async def connect(sessions: Sessions, carrier: Carrier, request: HttpRequest) -> HttpAnswer:
    """`/webhooks/exotel/connect`: a flow's Connect applet asks whom to dial. Nobody, unless the bot has said so."""
    node = sessions.node
    visit = await receive(node, carrier, request, "connect")
    if isinstance(visit, HttpAnswer):
        return visit
    visit = await find_static(node, visit)
    facts = visit.facts
    to = facts.continuation.value if facts is not None and facts.continuation.kind == "dial" else ""
    return carrier.answer_connect(to, caller=own_number(facts) if facts is not None else "")


async def _continue(sessions: Sessions, visit: VerifiedWebhook, service: Service) -> HttpAnswer:
    node = sessions.node
    facts, after = visit.facts, visit.webhook.own.after
    if visit.away:
        raise RegistryUnavailable("what is to become of the call is not known")
    if facts is None:
        # We know nothing of it: the registry was emptied. Once it is attached; a second time it is a loop.
        if attempt_of(visit) > 1:
            return visit.carrier.answer_hangup()
        facts = Facts(session=visit.session)
    if after == "forward" or (after == "dial" and visit.webhook.dial in ("completed", "")):
        return visit.carrier.answer_hangup()
    if await _is_streaming(sessions, visit, facts):
        log.warning("resume of a stream that runs", session=visit.session, carrier=visit.carrier.name)
        return visit.carrier.answer_park()
    if after in ("dial", "digits"):
        return await _attach(sessions, visit, service, facts)
    if facts.status == "ended" and not _goes_on(facts):
        return visit.carrier.answer_hangup()
    match facts.continuation:
        case Continuation("hangup"):
            return visit.carrier.answer_hangup()
        case Continuation("dial", to):
            action = webhook_url(node, visit, "resume", replace(visit.webhook.own, session=visit.session, after="dial"))
            return visit.carrier.answer_dial(to, caller=own_number(facts), action_url=action)
        case Continuation("digits", digits):
            back = webhook_url(node, visit, "resume", replace(visit.webhook.own, session=visit.session, after="digits"))
            return visit.carrier.answer_digits(digits, resume_url=back)
    if facts.status == "ending" and service.after_bot == "park":
        return visit.carrier.answer_park()
    return await _attach(sessions, visit, service, facts)


async def _attach(sessions: Sessions, visit: VerifiedWebhook, service: Service, facts: Facts) -> HttpAnswer:
    node = sessions.node
    cause = {"dial": "transfer_failed", "digits": "digits"}.get(visit.webhook.own.after, "stream_lost")
    if max(facts.attempt, attempt_of(visit)) >= MAX_ATTEMPTS:
        node.refuse("resume", "too_many_attempts", carrier=visit.carrier.name)
        node.metrics.resumes[cause, "too_many_attempts"] += 1
        return visit.carrier.answer_hangup()
    if unopened_rounds(visit, facts) >= MAX_UNOPENED:
        node.refuse("resume", "stream_never_opened", carrier=visit.carrier.name)
        node.metrics.resumes[cause, "stream_never_opened"] += 1
        return visit.carrier.answer_hangup()
    again = FactEvent(
        carrier=visit.carrier.name,
        account=visit.account,
        call_id=visit.webhook.call_id,
        service=service.host,
        continuation=Continuation("attach", cause, facts.continuation.seq + 1),
    )
    facts = await node.registry.merge(visit.session, again)
    claim = await node.registry.claim(service.host, visit.session)
    if (
        isinstance(claim, Claim)
        and not claim.fresh
        and claim.worker is not None
        and _is_leaving(sessions, visit, facts)
    ):
        # The bot was told that the caller had hung up. He had not: he gets a new one.
        claim = await node.registry.claim(service.host, visit.session, avoid=(claim.worker.id,))
    if not isinstance(claim, Claim):
        if service.when_full.kind == "hold":
            node.metrics.resumes[cause, "held"] += 1
            return visit.carrier.answer_attach(hold_answer(node, visit, service, facts, node.unix_time()))
        node.refuse("resume", "full", carrier=visit.carrier.name)
        node.metrics.resumes[cause, "full"] += 1
        return fall_back(node, visit, service.when_full)
    node.metrics.resumes[cause, "attached"] += 1
    log.info("attaching again", session=visit.session, carrier=visit.carrier.name, attempt=claim.attempt)
    return visit.carrier.answer_attach(stream_answer(node, visit, service, claim, facts))


async def _is_streaming(sessions: Sessions, visit: VerifiedWebhook, facts: Facts) -> bool:
    """True if the session's stream runs on this node, and we have not told the carrier to leave it.

    A webhook that came twice gives two documents. The stream of one is refused, and its next verb leads here: it must
    not take the call from the stream that runs.
    """
    live = sessions.get(visit.session)
    if live is None or live.ended is not None or facts.continuation.kind not in ("", "attach"):
        return False
    return await live.is_heard(HEARD_WITHIN)


def _goes_on(facts: Facts) -> bool:
    """The session has ended and the call has not: it is to be transferred, or that has failed."""
    kind = facts.continuation.kind
    return kind == "dial" or (kind == "attach" and facts.end_reason == EndReason.TRANSFERRED)


def _is_leaving(sessions: Sessions, visit: VerifiedWebhook, facts: Facts) -> bool:
    live = sessions.get(visit.session)
    return live.ended is not None if live is not None else facts.status == "ending"
