"""A call rings, or one of ours was answered: reserve a worker and tell the carrier where to stream."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest, Kind
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.node.services import Fallback, Service
from gateway.pool.facts import Continuation, FactEvent, Facts, hung_up, merge
from gateway.pool.registry import Claim, Full
from gateway.protocol.codes import EndReason
from gateway.sessions.table import Sessions
from gateway.webhooks.answers import dial_failed, fall_back, hold_answer, stream_answer
from gateway.webhooks.call_facts import first_facts
from gateway.webhooks.move import is_move, move
from gateway.webhooks.receive import VerifiedWebhook, choose_service, find_static, receive, refused
from gateway.webhooks.status import note_status


async def voice(sessions: Sessions, carrier: Carrier, request: HttpRequest) -> HttpAnswer:
    """`/webhooks/{carrier}/voice`."""
    node = sessions.node
    visit = await receive(node, carrier, request, "voice")
    if isinstance(visit, HttpAnswer):
        return visit
    if visit.webhook.kind is not Kind.VOICE:
        await note_status(sessions, await find_static(node, visit))  # a status callback that was sent here
        return carrier.answer_empty()
    if visit.is_replay:
        return refused(node, carrier, "voice", "replayed")
    moves = is_move(visit)
    service = node.services.get(visit.webhook.own.service_host) if moves else choose_service(node, visit)
    if service is None:
        node.refuse("voice", "unknown_service", carrier=carrier.name)
        return carrier.answer_over() if moves else carrier.answer_reject("rejected")
    first = first_facts(node, visit, service)
    try:
        if moves:
            moved = await move(sessions, visit, service)
            if isinstance(moved, HttpAnswer):
                return moved
            # The call has a new session by now, whatever else the registry does not answer.
            visit, first = moved, first_facts(node, moved, service)
        answer = await _reserve(sessions, visit, service, first)
    except RegistryUnavailable:
        node.refuse("voice", "registry_down", carrier=carrier.name)
        facts = visit.facts or merge(Facts(session=visit.session), first)
        return await _without_bot(sessions, visit, service.when_down, facts, EndReason.NO_WORKER)
    if service.record:
        node.wire.webhook(visit.session, first, service.record, request, answer)
    return answer


async def _reserve(sessions: Sessions, visit: VerifiedWebhook, service: Service, first: FactEvent) -> HttpAnswer:
    """Answer with a stream and a reserved worker, with hold, or with the service's fallback.

    first: what the webhook says of its call. Raises RegistryUnavailable.
    """
    node = sessions.node
    facts = await node.registry.merge(visit.session, first)
    if facts.over:
        return visit.carrier.answer_over()
    if node.refusing and not visit.is_placed:  # the callee has answered, and its worker waits
        node.refuse("voice", "draining", carrier=visit.carrier.name)
        return await _without_bot(sessions, visit, service.when_full, facts, EndReason.DRAINED)
    if node.overloaded and not visit.is_placed:  # counts as full, but holding would cost as much as serving
        node.refuse("voice", "overloaded", carrier=visit.carrier.name)
        return await _without_bot(sessions, visit, service.when_full, facts, EndReason.BUSY)
    claim = await node.registry.claim(service.host, visit.session)
    if not isinstance(claim, Claim):
        # A webhook that is repeated within one reservation gets the same hold token. A call that has had a stream comes
        # back, and waits from now on. A callee of ours waits from the answer on: `created` is when the order was made,
        # which may have waited behind the rate and has rung since.
        began = facts.answered if visit.is_placed else facts.created
        waiting_since = node.unix_time() if facts.streams or not began else began
        if service.when_full.kind == "hold" and node.unix_time() < waiting_since + node.leases.reserved:
            return visit.carrier.answer_stream(hold_answer(node, visit, service, facts, waiting_since))
        node.refuse("voice", "no_worker" if claim == Full(hosts=0) else "full", carrier=visit.carrier.name)
        if visit.is_placed:  # its end says no more than that it was answered
            await node.registry.merge(visit.session, FactEvent(end_reason=EndReason.NO_WORKER))
        reason = EndReason.NO_WORKER if claim == Full(hosts=0) else EndReason.BUSY
        return await _without_bot(sessions, visit, service.when_full, facts, reason)
    if _comes_too_late(node, service, claim):
        node.start_worker(claim.host, visit.session)  # for those who call later
        await node.registry.release(visit.session, claim.fence)
        node.refuse("voice", "slow_start", carrier=visit.carrier.name)
        return await _without_bot(sessions, visit, service.when_full, facts, EndReason.BUSY)
    if visit.is_placed and not facts.streams:
        claim = replace(claim, fresh=True)  # it was confirmed for the time of ringing: its worker has had no link yet
    node.spawn(sessions.preopened.preopen(claim, facts.body), f"preopen {visit.session}")
    return visit.carrier.answer_stream(stream_answer(node, visit, service, claim, facts))


async def _without_bot(
    sessions: Sessions, visit: VerifiedWebhook, fallback: Fallback, facts: Facts, reason: EndReason
) -> HttpAnswer:
    """Answer with the service's fallback. facts: what is known of the call. reason: how its record ends.

    Only its record says that the call is over: if its webhook is repeated and there is a slot by then, it gets that.
    """
    node = sessions.node
    to = "" if dial_failed(visit) else node.forward_number(visit.carrier.name, fallback)
    if not visit.is_placed:  # of one of ours the carrier tells the end
        end = hung_up(facts, EndReason.TRANSFERRED if to else reason, node.unix_time())
        dial = Continuation("dial", to, facts.continuation.seq + 1)
        _note_end(sessions, visit, merge(facts, replace(end, continuation=dial) if to else end))
    return await fall_back(node, visit, fallback, at_voice=True)


def _note_end(sessions: Sessions, visit: VerifiedWebhook, ended: Facts) -> None:
    """Note that the call ended here, unless its first webhook got it a stream: its end is that stream's.

    Of that nothing may be known yet, for as long as the stream's token is good. While the registry is away it counts as
    the first webhook: a record of a stream, where there is one, outlives this end.
    """
    node = sessions.node
    if ended.streams or ended.session in sessions:
        return
    if visit.facts is None:
        node.records.note(ended)
    else:
        asyncio.get_running_loop().call_later(
            node.leases.reserved,
            lambda: node.spawn(_note_unless_served(sessions, ended), f"end {ended.session}"),
        )


async def _note_unless_served(sessions: Sessions, ended: Facts) -> None:
    try:
        known = await sessions.node.registry.find(ended.session)
    except RegistryUnavailable:
        known = None
    if ended.session not in sessions and (known is None or not (known.streams or known.over)):
        sessions.node.records.note(ended)


def _comes_too_late(node: Node, service: Service, claim: Claim) -> bool:
    """True if the claim's worker starts later than a caller may be held.

    By what this bot's starts have taken. Nothing is known of a bot that has never started: its caller is answered.
    """
    return claim.worker is None and node.start_seconds.get(service.host, 0.0) > service.max_hold > 0
