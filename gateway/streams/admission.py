"""Admits a stream that has started: checks that it is what it says, and finds or makes its session."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from gateway.carriers.parameters import NUMBER_HEADERS, OUR_PARAMETERS, SERVICE_HOST
from gateway.errors import RegistryUnavailable, UnsupportedCodec
from gateway.media.types import Stream
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.node.tokens import ON_HOLD, StreamToken
from gateway.pool.facts import Continuation, FactEvent, Facts, hung_up
from gateway.pool.registry import Claim
from gateway.protocol.codes import CloseCode, EndReason
from gateway.sessions.session import Session
from gateway.sessions.table import Sessions
from gateway.sessions.worker_search import ASK_AGAIN, ask_until_answered
from serializers.base import Start
from serializers.call_data import CallData
from serializers.numbers import e164_of_digits

log = structlog.get_logger(__name__)

GATEWAY_PARAMETERS = (*OUR_PARAMETERS, *NUMBER_HEADERS.values())
"""Custom parameters in `start` that our own answers have put there."""
SERVICE_PARAMETERS = (SERVICE_HOST, "_pipecatCloudServiceHost")
"""Custom parameters that name the service on a static stream; the second is Pipecat Cloud's."""
TOO_EARLY = frozenset({EndReason.STREAM_LOST, EndReason.NO_WORKER})
"""Ends of a session that a stream on its way undoes."""


@dataclass(frozen=True, slots=True)
class StreamGrant:
    """By what right a stream came in.

    token: of a token stream; None for a static stream, where `service` is what its URL names ("" for nothing).
    account: what the upgrade's signature proves, "" if it proves none.
    carriers: those whose stream key was shown, where the handshake is to tell the carrier.
    body: for the bot, from a static stream's URL.
    """

    carrier: str
    token: StreamToken | None = None
    service: str = ""
    account: str = ""
    carriers: frozenset[str] = frozenset()
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Denied:
    """The stream is closed with this code; reason: one word for metric and log."""

    reason: str
    code: CloseCode = CloseCode.POLICY_VIOLATION


@dataclass(slots=True)
class _AdmissionState:
    """Keep what one admission has asked of the registry: a question whose answer was lost may have been carried out.

    token_mark: what it sets a held caller's key to. confirm_lost: a confirm of its attempt was not answered.
    """

    token_mark: str = field(default_factory=lambda: secrets.token_hex(8))
    confirm_lost: bool = False


async def admit(sessions: Sessions, grant: StreamGrant, stream: Stream) -> Session | Denied:
    """Return the session of this stream, attached and running.

    A stream with our token waits for a registry that does not answer, at most `outage_grace`.
    """
    loop, start, node = asyncio.get_running_loop(), stream.start, sessions.node
    until = loop.time() + (node.limits.outage_grace if grant.token is not None else 0.0)
    if grant.token is None and grant.account and start.account_id and grant.account != start.account_id:
        return Denied("foreign_account")  # a token binds its stream to the call, in whichever account the number is
    if node.refusing and grant.token is None:
        return Denied("draining", CloseCode.GOING_AWAY)
    if node.overloaded and grant.token is None:  # a stream with a token was let in before
        return Denied("overloaded", CloseCode.GOING_AWAY)
    state = _AdmissionState()
    while True:
        try:
            if grant.token is not None:
                return await _admit_token_stream(sessions, grant.token, stream, state)
            return await _admit_static(sessions, grant, stream)
        except RegistryUnavailable:
            if loop.time() >= until:
                return Denied("registry_down", CloseCode.INTERNAL_ERROR)
        await asyncio.sleep(ASK_AGAIN)


async def _admit_token_stream(
    sessions: Sessions, token: StreamToken, stream: Stream, state: _AdmissionState
) -> Session | Denied:
    """Admit a token stream: one that our own answer asked for."""
    node = sessions.node
    service = node.services.get(token.service)
    if service is None:
        return Denied("unknown_service")
    known = await node.registry.find(token.session)
    if known is not None and _ended_for_good(known):
        return Denied("call_over")
    if token.prepared and known is not None:
        known = await node.registry.merge(token.session, _first_call(stream.start))
    if not _names_its_call(node, token, stream.start, known):
        return Denied("wrong_call")  # before the session's lock is taken
    async with node.session_lock(token.session):
        return await _admit_attempt(sessions, service, token, stream, known, state)


async def _admit_attempt(
    sessions: Sessions,
    service: Service,
    token: StreamToken,
    stream: Stream,
    known: Facts | None,
    state: _AdmissionState,
) -> Session | Denied:
    """Admit by the token's attempt: a held caller's (ON_HOLD), a claim to confirm, or one whose stream was lost."""
    node = sessions.node
    facts = known or Facts(
        session=token.session, carrier=token.carrier, call_id=stream.start.call_id, service=service.host
    )
    live = sessions.running(token.session)
    streaming = live is not None and live.bridge.streaming
    if token.attempt == ON_HOLD:
        key = token.used_key
        kept = max(node.leases.reserved, token.expires - node.unix_time())
        used = await node.registry.set_if_absent(key, kept, state.token_mark)
        # Used before, by a stream whose session is over. Our own mark is that of a try whose answer was lost.
        if streaming or (used.value != state.token_mark and live is None):
            return Denied("token_spent")
        return await _attach_to_session(
            sessions, service, stream, await _claim_now(node, service, token.session), facts
        )
    try:
        claim = await node.registry.confirm(token.session, token.attempt)
    except RegistryUnavailable:
        state.confirm_lost = True
        raise
    if isinstance(claim, Claim):
        return await _attach_to_session(sessions, service, stream, claim, facts)
    # Spent by ourselves, in a try whose answer was lost: no stream of this attempt has been admitted, on no node.
    spent_by_us = state.confirm_lost and live is None and facts.attempt < token.attempt
    # A carrier that reconnects by itself opens the same URL again: admitted if its earlier stream is gone.
    if claim.spent and (live is None or streaming) and not spent_by_us:
        return Denied("token_spent")
    return await _attach_to_session(sessions, service, stream, await _claim_now(node, service, token.session), facts)


def _ended_for_good(facts: Facts) -> bool:
    """True if no stream is to give the call a bot: it was hung up, or led elsewhere, since the token was given.

    A session that has ended for want of a stream, or of the worker that this one brings, was only too early.
    """
    return facts.over and (facts.call_ended > 0 or facts.end_reason not in TOO_EARLY)


def _first_call(start: Start) -> FactEvent:
    """Bind a prepared session to the call that comes first: of what is told later, the first stays."""
    call = start.call
    return FactEvent(
        call_id=start.call_id,
        account=start.account_id,
        direction=call.direction,
        from_number=call.from_number or "",
        to_number=call.to_number or "",
    )


def _names_its_call(node: Node, token: StreamToken, start: Start, facts: Facts | None) -> bool:
    """True if `start` names the call that the token was given for.

    As the webhook's facts say; where they are lost, as the session's id proves, which is an HMAC of the call's.
    """
    if facts is not None and facts.call_id:
        return facts.call_id == start.call_id
    if facts is not None and facts.direction == "outbound":
        return True  # a call of ours whose carrier was given its stream with the order: this is the first to name it
    return any(
        node.signer.owns(token.session, token.carrier, account, start.call_id) for account in (start.account_id, "")
    )


async def _admit_static(sessions: Sessions, grant: StreamGrant, stream: Stream) -> Session | Denied:
    """Admit a static stream, of a flow that never asked us: the slot is claimed only now."""
    node = sessions.node
    start = stream.start
    named = grant.service or _service_named(start.custom)
    service = node.services.choose(named, start.call.to_number or _number(grant.body, "to_number"))
    if service is None:
        return Denied("unknown_service")
    session = node.signer.static_session_id(grant.carrier, grant.account, start.call_id)
    async with node.session_lock(session):
        return await _admit_call(sessions, grant, service, session, stream)


async def _admit_call(
    sessions: Sessions, grant: StreamGrant, service: Service, session: str, stream: Stream
) -> Session | Denied:
    node, start, live = sessions.node, stream.start, sessions.running(session)
    if live is not None and live.bridge.streaming:
        return Denied("second_stream")
    event = FactEvent(
        carrier=grant.carrier,
        account=grant.account or start.account_id,
        call_id=start.call_id,
        service=service.host,
        direction=start.call.direction,
        from_number=start.call.from_number or _number(grant.body, "from_number"),
        to_number=start.call.to_number or _number(grant.body, "to_number"),
        body={**start.call.body, **grant.body},
        created=node.unix_time(),
    )
    facts = await node.registry.merge(session, event)
    # Last, as nothing would release it: a static worker whose claim runs out is not offered for hours.
    claim = await _claim_now(node, service, session)
    return await _attach_to_session(sessions, service, stream, claim, facts)


def _number(body: Mapping[str, Any], name: str) -> str:
    """Return the number that a body names: Plivo's `start` has none, so authors write them there."""
    value = body.get(name, body.get(NUMBER_HEADERS[name]))
    return e164_of_digits(value) if isinstance(value, str) else ""


def _service_named(custom: Mapping[str, Any]) -> str:
    for name in SERVICE_PARAMETERS:
        value = custom.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


async def _claim_now(node: Node, service: Service, session: str) -> Claim | None:
    """Return a confirmed claim for a stream that has none waiting; None: the pool is full, or another has the session.

    A worker that dies between the claim and its confirmation is passed over, as one that cannot be reached is.
    """
    for _ in range(node.limits.connect_tries):
        claimed = await node.registry.claim(service.host, session)
        if not isinstance(claimed, Claim):
            return None
        confirmed = await node.registry.confirm(session, claimed.attempt)
        if isinstance(confirmed, Claim):
            return confirmed
        if confirmed.spent:
            return None
    await node.registry.release(session, 0)  # else it is kept for no stream until its lease ends
    return None


async def _attach_to_session(
    sessions: Sessions, service: Service, stream: Stream, claim: Claim | None, facts: Facts
) -> Session | Denied:
    """Join the stream to its session. Without a claim the caller is held, if the service holds; one who was held before
    goes on waiting, in the same place.
    """
    node = sessions.node
    live = sessions.running(facts.session)  # now: it may have ended while the registry was asked
    if claim is None and live is None and service.when_full.kind != "hold":
        return Denied("full", CloseCode.NORMAL_CLOSURE)
    session = live or sessions.make(service, claim, facts)
    try:
        session.attach(stream, claim, call_data(stream.start, facts, service))
    except UnsupportedCodec as error:
        log.warning("unsupported codec", session=facts.session, error=str(error))
        if live is None:  # else the session ends itself
            await _end_unheard(node, session.facts, claim, EndReason.UNSUPPORTED_CODEC)
        return Denied("unsupported_codec", CloseCode.UNSUPPORTED_DATA)
    if live is None:
        sessions.serve(session)
    now = node.unix_time()
    event = FactEvent(
        status="streaming",
        attempt=claim.attempt if claim is not None else 0,
        answered=now,
        began=now,
        began_after=session.facts.ended_streams,
        streams=max(session.facts.streams, facts.streams) + 1,  # ours may be newer than what the registry told
        node=node.id,
        call_id=stream.start.call_id if not facts.call_id and facts.direction == "outbound" else "",
        continuation=_undone(session.facts),
    )
    node.spawn(_note_stream(session, event), f"facts {session.id}")
    return session


async def _note_stream(session: Session, event: FactEvent) -> None:
    """Write that the stream runs, and end the session if its call was ended while the stream was let in."""
    if not await session.remember(event):
        return
    if _ended_for_good(session.facts):
        reason = session.facts.end_reason
        session.end(EndReason(reason) if reason in set(EndReason) else EndReason.CALLER_HANGUP)
    elif session.facts.over and session.ended is None:  # that of the session before it was written meanwhile
        await session.remember(FactEvent(continuation=_undone(session.facts)))


def _undone(facts: Facts) -> Continuation:
    """Return what undoes the end of a session that was only too early, "" if there is no such end."""
    if not facts.over or _ended_for_good(facts):
        return Continuation()
    return Continuation("attach", "stream_lost", facts.continuation.seq + 1)


async def _end_unheard(node: Node, facts: Facts, claim: Claim | None, reason: EndReason) -> None:
    """End the call before a bot has heard of it.

    If the registry is away, the carrier's next stream finds the same again.
    """
    event = hung_up(facts, reason, node.unix_time())
    if claim is not None:
        release = partial(node.registry.release, facts.session, claim.fence)
        node.spawn(ask_until_answered(node, release), f"release {facts.session}")
    try:
        await node.registry.merge(facts.session, event)
    except RegistryUnavailable:
        log.warning("the end of the call was not kept: the registry is away", session=facts.session)


def call_data(start: Start, facts: Facts, service: Service) -> CallData:
    """The handshake's CallData, with what the webhook knew: the same for all carriers."""
    known_by_webhook = facts.created > 0  # else what stands in `start` is all that says who calls
    call = start.call.without_parameters(GATEWAY_PARAMETERS) if known_by_webhook else start.call
    return call.model_copy(
        update={
            "service_host": service.host,
            "direction": facts.direction or call.direction,
            "from_number": facts.from_number or call.from_number,
            "to_number": facts.to_number or call.to_number,
            "raw_from": facts.raw_from or call.raw_from,
            "raw_to": facts.raw_to or call.raw_to,
            "body": {**call.body, **facts.body},
            **facts.caller,
        }
    )
