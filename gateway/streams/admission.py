"""A stream has started: is it who it says, and which session is it for?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.errors import RegistryUnavailable, UnsupportedCodec
from gateway.media.types import Stream
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.node.tokens import ON_HOLD, StreamToken
from gateway.pool.facts import Continuation, FactEvent, Facts
from gateway.pool.registry import Claim
from gateway.protocol.codes import CloseCode, EndReason
from gateway.sessions.session import Session
from gateway.sessions.table import Sessions
from gateway.sessions.worker_search import ASK_AGAIN
from serializers.base import Start
from serializers.call_data import CallData

log = structlog.get_logger(__name__)

OUR_PARAMETERS = frozenset({"from_number", "to_number"})
"""Those that our own answer adds for bots that read the handshake; on a static stream they are its author's."""
SERVICE_PARAMETERS = ("serviceHost", "_pipecatCloudServiceHost")
"""Custom parameters that name the service on a static stream; the second is Pipecat Cloud's."""


@dataclass(frozen=True, slots=True)
class StreamGrant:
    """By what right a stream came in.

    token: ours, from our own XML; None for a static stream, where `service` is what its URL names ("" for nothing).
    account: whom the upgrade's signature proves, "" if it proves nobody.
    carriers: those whose stream key was shown, where the handshake is to tell the carrier.
    """

    carrier: str
    token: StreamToken | None = None
    service: str = ""
    account: str = ""
    carriers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Denied:
    """The stream is closed with this code; reason: one word for metric and log."""

    reason: str
    code: CloseCode = CloseCode.POLICY_VIOLATION


async def admit(sessions: Sessions, ticket: StreamGrant, stream: Stream) -> Session | Denied:
    """The session of this stream, attached and running. One that our own answer asked for waits for a registry that is
    away, as long as a caller may.
    """
    loop, start, node = asyncio.get_running_loop(), stream.start, sessions.node
    until = loop.time() + (node.limits.outage_grace if ticket.token is not None else 0.0)
    if ticket.token is None and ticket.account and start.account_id and ticket.account != start.account_id:
        return Denied("foreign_account")  # where it is ours, the token is bound to the call, whoever owns its number
    if node.refusing and ticket.token is None:
        return Denied("draining", CloseCode.GOING_AWAY)
    if node.overloaded and ticket.token is None:  # nobody new; who has a token was let in before
        return Denied("overloaded", CloseCode.GOING_AWAY)
    while True:
        try:
            if ticket.token is not None:
                return await _admit_ours(sessions, ticket.token, stream)
            return await _admit_static(sessions, ticket, stream)
        except RegistryUnavailable:
            if loop.time() >= until:
                return Denied("registry_down", CloseCode.INTERNAL_ERROR)
        await asyncio.sleep(ASK_AGAIN)


async def _admit_ours(sessions: Sessions, token: StreamToken, stream: Stream) -> Session | Denied:
    """A stream that our own answer asked for."""
    node = sessions.node
    service = node.services.get(token.service)
    if service is None:
        return Denied("unknown_service")
    known = await node.registry.find(token.session)
    if not _names_its_call(node, token, stream.start, known):
        return Denied("wrong_call")  # before it can keep anybody waiting
    async with node.session_lock(token.session):
        return await _admit_attempt(sessions, service, token, stream, known)


async def _admit_attempt(
    sessions: Sessions, service: Service, token: StreamToken, stream: Stream, known: Facts | None
) -> Session | Denied:
    node = sessions.node
    facts = known or Facts(
        session=token.session, carrier=token.carrier, call_id=stream.start.call_id, service=service.host
    )
    live = _live(sessions, token.session)
    streaming = live is not None and live.bridge.streaming
    if token.attempt == ON_HOLD:
        key = f"hold:{token.session}:{token.expires}"
        first = (await node.registry.once(key, node.leases.reserved)).first
        if streaming or (not first and live is None):
            return Denied("token_spent")
        return await _join(sessions, service, stream, await _claim(node, service, token.session), facts)
    claim = await node.registry.confirm(token.session, token.attempt)
    if isinstance(claim, Claim):
        return await _join(sessions, service, stream, claim, facts)
    # A carrier that reconnects by itself dials the same URL again: welcome, if its stream is gone.
    if claim.spent and (live is None or streaming):
        return Denied("token_spent")
    return await _join(sessions, service, stream, await _claim(node, service, token.session), facts)


def _names_its_call(node: Node, token: StreamToken, start: Start, facts: Facts | None) -> bool:
    """By what the webhook said; if the registry has forgotten it, by the session's id, which is made of the call's."""
    if facts is not None and facts.call_id:
        return facts.call_id == start.call_id
    return any(
        node.signer.owns(token.session, token.carrier, account, start.call_id) for account in (start.account_id, "")
    )


async def _admit_static(sessions: Sessions, ticket: StreamGrant, stream: Stream) -> Session | Denied:
    """A stream of a flow that never asked us: the slot is claimed only now."""
    node = sessions.node
    start = stream.start
    named = ticket.service or _service_named(start.custom)
    service = node.services.choose(named, start.call.to_number or "")
    if service is None:
        return Denied("unknown_service")
    session = node.signer.static_session_id(ticket.carrier, ticket.account, start.call_id)
    async with node.session_lock(session):
        return await _admit_call(sessions, ticket, service, session, stream)


async def _admit_call(
    sessions: Sessions, ticket: StreamGrant, service: Service, session: str, stream: Stream
) -> Session | Denied:
    node, start, live = sessions.node, stream.start, _live(sessions, session)
    if live is not None and live.bridge.streaming:
        return Denied("second_stream")
    claim = await _claim(node, service, session)
    event = FactEvent(
        carrier=ticket.carrier,
        account=ticket.account or start.account_id,
        call_id=start.call_id,
        service=service.host,
        direction=start.call.direction,
        from_number=start.call.from_number or "",
        to_number=start.call.to_number or "",
        body=dict(start.call.body),
        created=node.unix_time(),
    )
    facts = await node.registry.merge(session, event)
    return await _join(sessions, service, stream, claim, facts)


def _service_named(custom: Mapping[str, Any]) -> str:
    for name in SERVICE_PARAMETERS:
        value = custom.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def _live(sessions: Sessions, session: str) -> Session | None:
    live = sessions.get(session)
    return live if live is not None and live.ended is None else None


async def _claim(node: Node, service: Service, session: str) -> Claim | None:
    """A confirmed claim for a stream that has none waiting; None: the pool is full."""
    claimed = await node.registry.claim(service.host, session)
    if not isinstance(claimed, Claim):
        return None
    confirmed = await node.registry.confirm(session, claimed.attempt)
    return confirmed if isinstance(confirmed, Claim) else None


async def _join(
    sessions: Sessions, service: Service, stream: Stream, claim: Claim | None, facts: Facts
) -> Session | Denied:
    """Join the stream to its session. Without a claim the caller is held, if his service holds; who was held before
    goes on waiting, in his place.
    """
    node = sessions.node
    live = _live(sessions, facts.session)  # now: it may have ended while the registry was asked
    if claim is None and live is None and service.when_full.kind != "hold":
        return Denied("full", CloseCode.NORMAL_CLOSURE)
    session = live or sessions.make(service, claim, facts)
    try:
        session.attach(stream, claim, call_data(stream.start, facts, service))
    except UnsupportedCodec as error:
        log.warning("unsupported codec", session=facts.session, error=str(error))
        await _end_unheard(node, facts.session, claim, EndReason.UNSUPPORTED_CODEC)
        return Denied("unsupported_codec", CloseCode.UNSUPPORTED_DATA)
    if live is None:
        sessions.serve(session)
    node.spawn(_note_start(node, session.id, claim.attempt if claim is not None else 0), f"facts {session.id}")
    return session


async def _note_start(node: Node, session: str, attempt: int) -> None:
    event = FactEvent(status="streaming", attempt=attempt, answered=node.unix_time())
    try:
        await node.registry.merge(session, event)
    except RegistryUnavailable:
        pass


async def _end_unheard(node: Node, session: str, claim: Claim | None, reason: EndReason) -> None:
    """The call is over before a bot heard of it."""
    event = FactEvent(
        status="ended", end_reason=reason, ended=node.unix_time(), continuation=Continuation("hangup", seq=1000)
    )
    await node.registry.merge(session, event)
    if claim is not None:
        await node.registry.release(session, claim.fence)


def call_data(start: Start, facts: Facts, service: Service) -> CallData:
    """The handshake's CallData, with what the webhook knew: the same for all carriers."""
    call = start.call
    body = {k: v for k, v in call.body.items() if not (facts.created and k in OUR_PARAMETERS)}
    return call.model_copy(
        update={
            "service_host": service.host,
            "direction": facts.direction or call.direction,
            "from_number": facts.from_number or call.from_number,
            "to_number": facts.to_number or call.to_number,
            "raw_from": facts.raw_from or call.raw_from,
            "raw_to": facts.raw_to or call.raw_to,
            "body": {**body, **facts.body},
            **facts.caller,
        }
    )
