"""The door of every webhook: believed, read once, and not a replay. What comes through is a `VerifiedWebhook`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import structlog

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest, Kind, Refused, Webhook
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.pool.facts import Facts, call_alias

NONCE_MEMORY = 24 * 3600.0
"""Seconds that a signature's nonce is remembered: Plivo's has no timestamp, so memory is all that bounds a replay."""
NONCE_REPEAT = 60.0
"""Seconds in which the same signed bytes may come again: the carrier's own retry."""


@dataclass(frozen=True, slots=True)
class VerifiedWebhook:
    """A webhook that is to be believed. session: of the call that it is about. away: the registry did not say what is
    known of it.
    """

    carrier: Carrier
    webhook: Webhook
    account: str
    session: str
    facts: Facts | None
    away: bool = False


async def receive(node: Node, carrier: Carrier, request: HttpRequest, where: str) -> VerifiedWebhook | HttpAnswer:
    """Verify, parse, and find the session; or the answer that ends it here."""
    verified = carrier.verify(request, now=node.unix_time())
    if isinstance(verified, Refused):
        return refused(node, carrier, where, verified.reason)
    if verified.nonce is not None and not await _fresh(node, carrier, verified.nonce):
        return refused(node, carrier, where, "replayed")
    webhook = carrier.parse(request)
    if isinstance(webhook, Refused):
        return refused(node, carrier, where, webhook.reason, status=400)
    if webhook.kind is Kind.FOREIGN or not webhook.call_id:
        if webhook.note:
            node.refuse(where, "foreign", carrier=carrier.name, note=webhook.note)
        return carrier.answer_empty()
    visit = await _find(node, carrier, verified.account, webhook)
    structlog.contextvars.bind_contextvars(session=visit.session)
    return visit


def refused(node: Node, carrier: Carrier, where: str, reason: str, *, status: int = 403) -> HttpAnswer:
    """The answer to what is not to be believed (403) or understood (400): nothing is echoed."""
    node.refuse(where, reason, carrier=carrier.name)
    return HttpAnswer(status=status, content_type="text/plain; charset=utf-8")


async def _fresh(node: Node, carrier: Carrier, nonce: tuple[str, str]) -> bool:
    value, digest = nonce
    try:
        key = f"nonce:{carrier.name}:{hashlib.sha256(value.encode(errors='replace')).hexdigest()[:32]}"
        seen = await node.registry.once(key, NONCE_MEMORY, digest)
    except RegistryUnavailable:
        return True  # the signature is good; a replay could only repeat what was asked before
    return seen.first or (seen.value == digest and seen.age <= NONCE_REPEAT)


async def find_static(node: Node, webhook: VerifiedWebhook) -> VerifiedWebhook:
    """The same webhook with the facts of a static stream's session, if only its stream has named the call so far.

    Never asked at /voice: what a stream that was opened by a key says of a call is no reason to believe that it is one.
    """
    if webhook.facts is not None or webhook.away:
        return webhook
    name, call_id = webhook.carrier.name, webhook.webhook.call_id
    for account in dict.fromkeys((webhook.account, "")):  # the upgrade was signed, or opened by a key
        session = node.signer.static_session_id(name, account, call_id)
        try:
            facts = await node.registry.find(session)
        except RegistryUnavailable:
            return replace(webhook, away=True)
        if facts is not None:
            return replace(webhook, session=session, facts=facts)
    return webhook


async def _find(node: Node, carrier: Carrier, account: str, webhook: Webhook) -> VerifiedWebhook:
    """The session by the call's id: never by what the URL says, which not every carrier signs."""
    session = node.signer.session_id(carrier.name, account, webhook.call_id)
    try:
        facts = await node.registry.find(session)
        if facts is None:
            facts = await node.registry.find(call_alias(carrier.name, account, webhook.call_id))
    except RegistryUnavailable:
        return VerifiedWebhook(carrier, webhook, account, session, None, away=True)
    return VerifiedWebhook(carrier, webhook, account, facts.session if facts is not None else session, facts)
