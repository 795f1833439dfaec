"""Receive every webhook: verify it, read it once, and refuse repeated nonces but for a carrier's own retry.

What is left is a `VerifiedWebhook`.
Signatures without a nonce do not expire: a route that starts or goes on with a call must refuse what `is_replay`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import structlog

from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest, Kind, Refused, Webhook
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.node.urls import SIGNED_URL_HINT, loggable_webhook
from gateway.pool.facts import Facts, call_alias
from gateway.sessions.worker_search import ASK_AGAIN

NONCE_MEMORY = 24 * 3600.0
"""Seconds that a signature's nonce is remembered: Plivo's has no timestamp, so memory is all that bounds a replay."""
NONCE_REPEAT = 60.0
"""Seconds in which the same signed bytes may come again: the carrier's own retry."""
REPLAY_MEMORY = 7 * 24 * 3600.0
"""Seconds that a request at /voice or /resume is remembered. Twilio's and Plivo's signatures do not expire: shown again
when the facts of its call have expired, such a request would start a call that does not exist."""
REMEMBERED = frozenset({"voice", "resume"})


@dataclass(frozen=True, slots=True)
class VerifiedWebhook:
    """A webhook that is to be believed.

    session: of the call that it is about. facts_unknown: the registry did not say what is known of it. seen_before: it
    has come before, so long ago that the facts of its call may have expired since.
    """

    carrier: Carrier
    webhook: Webhook
    account: str
    session: str
    facts: Facts | None
    facts_unknown: bool = False
    seen_before: bool = False

    @property
    def is_placed(self) -> bool:
        """True if we placed the call: its callee is asked to talk to the bot, not a caller to wait for one."""
        return self.facts is not None and self.facts.direction == "outbound" and self.facts.root == ""

    @property
    def is_replay(self) -> bool:
        """True if it has come before and is of a call that is not known any more.

        A carrier's own retry comes while the call is known.
        """
        return self.seen_before and self.facts is None


async def receive(
    node: Node, carrier: Carrier, request: HttpRequest, where: str, *, until: float = 0.0
) -> VerifiedWebhook | HttpAnswer:
    """Verify and parse the request, and find its session. Returns an answer where nothing is left to do.

    until: a registry that is away is asked again up to then, loop time.
    """
    verified = carrier.verify(request, now=node.unix_time())
    if isinstance(verified, Refused):
        return refused(node, carrier, where, verified.reason, details=_checked(node, carrier, request, verified.reason))
    if verified.nonce is not None and not await _fresh(node, carrier, verified.nonce):
        return refused(node, carrier, where, "replayed")
    webhook = carrier.parse(request)
    if isinstance(webhook, Refused):
        return refused(node, carrier, where, webhook.reason, status=400)
    if webhook.kind is Kind.FOREIGN or not webhook.call_id:
        if webhook.note:
            node.note_ignored(where, "foreign", carrier=carrier.name, note=webhook.note)
        return carrier.answer_empty()

    async def look() -> VerifiedWebhook:
        visit = await _find(node, carrier, verified.account, webhook)
        if where in REMEMBERED and not visit.facts_unknown:
            visit = await _note_request(node, visit, carrier.fingerprint(request))
        return visit

    visit = await _until_known(look, until)
    structlog.contextvars.bind_contextvars(session=visit.session)
    return visit


def refused(
    node: Node,
    carrier: Carrier,
    where: str,
    reason: str,
    *,
    status: int = 403,
    details: Mapping[str, str] = MappingProxyType({}),
) -> HttpAnswer:
    """Answer what is not to be believed (403) or understood (400): nothing is echoed.

    details: for the log.
    """
    node.refuse(where, reason, carrier=carrier.name, **details)
    return HttpAnswer(status=status, content_type="text/plain; charset=utf-8")


def _checked(node: Node, carrier: Carrier, request: HttpRequest, reason: str) -> dict[str, str]:
    """Say which URL a wrong signature was checked against.

    Most often it is another than the carrier's console has.
    """
    if reason != "bad_signature" or not carrier.can.url_signed:
        return {}
    return {
        "checked_url": loggable_webhook(node.public_url, request.path, request.query),
        "hint": SIGNED_URL_HINT,
    }


async def _fresh(node: Node, carrier: Carrier, nonce: tuple[str, str]) -> bool:
    value, digest = nonce
    try:
        key = _key("nonce", carrier, value.encode(errors="replace"))
        seen = await node.registry.set_if_absent(key, NONCE_MEMORY, digest)
    except RegistryUnavailable:
        return True  # the signature is good; a replay could only repeat what was asked before
    return seen.first or (seen.value == digest and seen.age <= NONCE_REPEAT)


async def _note_request(node: Node, visit: VerifiedWebhook, fingerprint: bytes) -> VerifiedWebhook:
    """Remember the request, and say whether it has come before. See REPLAY_MEMORY."""
    try:
        seen = await node.registry.set_if_absent(_key("request", visit.carrier, fingerprint), REPLAY_MEMORY)
    except RegistryUnavailable:
        # A call that is known is served all the same: only of one that is not could this be a replay.
        return visit if visit.facts is not None else replace(visit, facts_unknown=True)
    # Younger ones are the carrier's retry, and the facts still know the call.
    return replace(visit, seen_before=not seen.first and seen.age >= node.leases.ended)


def _key(kind: str, carrier: Carrier, data: bytes) -> str:
    """Return the key under which the registry remembers what a request brought."""
    return f"{kind}:{carrier.name}:{hashlib.sha256(data).hexdigest()[:32]}"


def choose_service(node: Node, visit: VerifiedWebhook) -> Service | None:
    """Choose by the session's own history, else by the URL, the number, the default."""
    if visit.facts is not None and visit.facts.service:
        return node.services.get(visit.facts.service)
    return node.services.choose(visit.webhook.own.service_host, visit.webhook.to_number)


async def _until_known(look: Callable[[], Awaitable[VerifiedWebhook]], until: float) -> VerifiedWebhook:
    """Look for the facts, and again while the registry is away. until: loop time."""
    time = asyncio.get_running_loop().time
    visit = await look()
    while visit.facts_unknown and time() < until:
        await asyncio.sleep(ASK_AGAIN)
        visit = await look()
    return visit


async def find_static(node: Node, visit: VerifiedWebhook, until: float = 0.0) -> VerifiedWebhook:
    """Return the webhook with the facts of a static stream's session, if it has any.

    Only where nothing but its stream has named the call so far. Do not use it to serve a call at /voice: a stream that
    a key has opened proves nothing about the call that it names. until: as in `receive`.
    """
    if visit.facts is not None or visit.facts_unknown:
        return visit
    return await _until_known(lambda: _find_static(node, visit), until)


async def _find_static(node: Node, visit: VerifiedWebhook) -> VerifiedWebhook:
    name, call_id = visit.carrier.name, visit.webhook.call_id
    accounts = dict.fromkeys((visit.account, ""))  # the upgrade was signed, or opened by a key
    for session in (one for account in accounts for one in node.signer.static_session_ids(name, account, call_id)):
        try:
            facts = await node.registry.find(session)
        except RegistryUnavailable:
            return replace(visit, facts_unknown=True)
        if facts is not None:
            structlog.contextvars.bind_contextvars(session=session)
            return replace(visit, session=session, facts=facts)
    return visit


async def _find(node: Node, carrier: Carrier, account: str, webhook: Webhook) -> VerifiedWebhook:
    """Find the session by the call's id.

    Never by what the URL says, which not every carrier signs; but of a call that we placed, whose id only its webhooks
    may tell: a MAC of ours in the URL proves its session then.
    """
    session = node.signer.session_id(carrier.name, account, webhook.call_id)
    own = webhook.own
    placed = own.session if node.signer.placed(own.session, carrier.name, own.mac) else ""
    try:
        facts = await node.registry.find(placed) if placed else None
        if facts is not None and facts.call_id not in ("", webhook.call_id) and webhook.call_id != webhook.alias:
            placed, facts = "", None  # the URL of one call is shown with the signed body of another
        if facts is None:
            facts = await node.registry.find(session)
        for call_id in (webhook.call_id, webhook.alias):
            if facts is None and call_id:
                facts = await node.registry.find(call_alias(carrier.name, account, call_id))
        if facts is None and placed:
            session = placed  # a call of ours that the registry has forgotten
        if facts is not None and facts.moved:  # the call is with another service by now
            session = node.signer.moved_session_id(facts.session, facts.moves)
            facts = await node.registry.find(session)
    except RegistryUnavailable:
        return VerifiedWebhook(carrier, webhook, account, session, None, facts_unknown=True)
    return VerifiedWebhook(carrier, webhook, account, facts.session if facts is not None else session, facts)
