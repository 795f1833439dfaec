"""`/resume`: the stream has ended, and the carrier asks what is next. The session's continuation answers.

The first line that applies:

    the carrier comes | and                                                | it is told
    back from         |                                                    |
    ------------------+----------------------------------------------------+------------------------------------------
    any               | the registry does not answer                       | `when_down`, after `outage_grace`
    any               | the registry has lost the call, attached before    | hang up: else nothing would end a loop
    a forward         |                                                    | hang up
    a dial            | it was answered, or the carrier does not say       | hang up
    any               | the session's stream runs, here or elsewhere       | pause: it repeats itself
    a dial, keys      | that is still the continuation                     | attach again: the bot goes on
    any               | the call is over, and no dial is next              | hang up
    any               | the continuation is hangup, dial, digits           | that
    any               | the bot has left, and `after_bot` is "park"        | pause: the bot moves the call itself
    any               | else: the stream broke                             | attach again, on the node that was asked
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest
from gateway.errors import RegistryUnavailable
from gateway.node.services import Service
from gateway.pool.facts import TRANSFER_FAILED, Continuation, FactEvent, Facts, own_number
from gateway.pool.registry import Claim
from gateway.sessions.hearing import is_heard
from gateway.sessions.node_messages import is_heard_elsewhere
from gateway.sessions.table import Sessions
from gateway.sessions.worker_search import ASK_AGAIN
from gateway.webhooks.answers import (
    dial_failed,
    fall_back,
    hold_answer,
    stream_answer,
    unopened_rounds,
    webhook_url,
)
from gateway.webhooks.call_facts import caller_known
from gateway.webhooks.receive import VerifiedWebhook, choose_service, find_static, receive, refused

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 30
"""Streams of one session. A call whose every stream breaks at once would otherwise go round without end."""
MAX_UNOPENED = 4
"""Answers in a row whose stream was not opened; after so many the call is given up: the carrier cannot reach us."""


async def resume(sessions: Sessions, carrier: Carrier, request: HttpRequest) -> HttpAnswer:
    """`/webhooks/{carrier}/resume`.

    The caller was answered: a registry that does not answer is asked again for `outage_grace`. Carriers wait for
    an answer twice as long at least.
    """
    node, time = sessions.node, asyncio.get_running_loop().time
    until = time() + node.limits.outage_grace
    visit = await receive(node, carrier, request, "resume", until=until)
    if isinstance(visit, HttpAnswer):
        return visit
    visit = await find_static(node, visit, until)
    if visit.is_replay:
        return refused(node, carrier, "resume", "replayed")
    service = choose_service(node, visit)
    if service is None:
        node.refuse("resume", "unknown_service", carrier=carrier.name)
        return carrier.answer_hangup()
    while not visit.facts_unknown:
        try:
            return await _answer_resume(sessions, visit, service)  # what it asks for may be asked for twice
        except RegistryUnavailable:
            if time() >= until:
                break
        await asyncio.sleep(ASK_AGAIN)
    node.refuse("resume", "registry_down", carrier=carrier.name)
    return await fall_back(node, visit, service.when_down)


async def _answer_resume(sessions: Sessions, visit: VerifiedWebhook, service: Service) -> HttpAnswer:
    """Answer by the table above. Raises RegistryUnavailable."""
    node = sessions.node
    facts = visit.facts
    after = "dial" if dial_failed(visit) else visit.webhook.own.after
    if facts is None:
        # The registry has lost it. One that was attached before is given up: without facts nothing would end a loop.
        if visit.webhook.own.attempt > 1:
            return visit.carrier.answer_hangup()
        facts = Facts(session=visit.session)
    # The forward ended, or the dialled leg did: the call is over.
    if after == "forward" or (after == "dial" and visit.webhook.dial in ("completed", "")):
        return visit.carrier.answer_hangup()
    if await _is_streaming(sessions, visit, facts):
        log.warning(
            "carrier asked what is next while its stream still runs", session=visit.session, carrier=visit.carrier.name
        )
        return visit.carrier.answer_park()
    # Keys were sent, or the dial failed: back to the bot, unless its session has ended meanwhile and said what is next.
    if after and after == facts.continuation.kind:
        return await _attach(sessions, visit, service, facts, after)
    # The call is over, but for the number that it is to be led to.
    if facts.over and facts.continuation.kind != "dial":
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
    if facts.wraps_up and service.after_bot == "park":
        return visit.carrier.answer_park()
    return await _attach(sessions, visit, service, facts, after)


async def _attach(sessions: Sessions, visit: VerifiedWebhook, service: Service, facts: Facts, after: str) -> HttpAnswer:
    """Ask for another stream of the call. after: what the carrier comes back from."""
    node = sessions.node
    cause = {"dial": TRANSFER_FAILED, "digits": "digits"}.get(after, "stream_lost")
    if max(facts.attempt, visit.webhook.own.attempt) >= MAX_ATTEMPTS:
        node.refuse("resume", "too_many_attempts", carrier=visit.carrier.name)
        node.metrics.resumes[cause, "too_many_attempts"] += 1
        return visit.carrier.answer_hangup()
    unopened = unopened_rounds(visit, facts)
    if unopened >= MAX_UNOPENED:
        node.refuse("resume", "stream_never_opened", carrier=visit.carrier.name)
        node.metrics.resumes[cause, "stream_never_opened"] += 1
        return visit.carrier.answer_hangup()
    again = FactEvent(
        carrier=visit.carrier.name,
        account=visit.account,
        call_id=visit.webhook.call_id,
        service=service.host,
        caller=caller_known(visit.webhook),
        answered_by=visit.webhook.answered_by,
        unopened=unopened,
        unopened_since=facts.streams,
        continuation=Continuation("attach", cause, facts.continuation.seq + 1),
    )
    facts = await node.registry.merge(visit.session, again)
    claim = await node.registry.claim(service.host, visit.session)
    if (
        isinstance(claim, Claim)
        and claim.worker is not None
        and not claim.fresh
        and _is_leaving(sessions, visit, facts)
    ):
        # The bot was told that the caller had hung up. The caller had not: another worker takes the call.
        claim = await node.registry.claim(service.host, visit.session, avoid=(claim.worker.id,))
    if not isinstance(claim, Claim):
        if service.when_full.kind == "hold":
            node.metrics.resumes[cause, "held"] += 1
            return visit.carrier.answer_attach(hold_answer(node, visit, service, facts, node.unix_time()))
        node.refuse("resume", "full", carrier=visit.carrier.name)
        node.metrics.resumes[cause, "full"] += 1
        return await fall_back(node, visit, service.when_full)
    node.metrics.resumes[cause, "attached"] += 1
    log.info("attaching again", session=visit.session, carrier=visit.carrier.name, attempt=claim.attempt)
    return visit.carrier.answer_attach(stream_answer(node, visit, service, claim, facts))


async def _is_streaming(sessions: Sessions, visit: VerifiedWebhook, facts: Facts) -> bool:
    """True if the session's stream runs, and the carrier is not to leave it.

    On whichever node. A webhook that came twice gives two answers. The stream of one is refused, and its next verb
    leads here: it must not take the call from the stream that runs.
    """
    if facts.continuation.kind not in ("", "attach"):
        return False
    live, node = sessions.get(visit.session), sessions.node
    if live is not None and (live.stream is not None or facts.node in ("", node.id)):
        return live.ended is None and await is_heard(live)
    # A session that was ending and is attached again may run there.
    ending = facts.wraps_up and facts.continuation.kind != "attach"
    if ending or facts.over or facts.node in ("", node.id):
        return False
    return await is_heard_elsewhere(node, visit.session, facts.node)


def _is_leaving(sessions: Sessions, visit: VerifiedWebhook, facts: Facts) -> bool:
    """True if the session's bot has been told that the caller hung up."""
    live = sessions.get(visit.session)
    return live.ended is not None if live is not None else facts.wraps_up
