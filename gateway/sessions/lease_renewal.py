"""What a node does by the clock for its sessions: renew their claims, and tell a registry that has forgotten them.

Both go on for ever, whatever happens in one round: a node that stopped would lose its calls' slots after one lease.
"""

from __future__ import annotations

import asyncio
import random
import secrets

import structlog

from gateway.errors import RegistryUnavailable
from gateway.sessions.facts_sync import as_event
from gateway.sessions.session import Session
from gateway.sessions.table import Sessions
from gateway.sessions.worker_search import ASK_AGAIN, is_taken_over

log = structlog.get_logger(__name__)


async def renew_claims(sessions: Sessions) -> None:
    """Renew what the sessions hold, and end those that another node holds now; for ever.

    A claim that is lost and held by no node ends no call: its worker may have ended behind its last words, or the
    registry's clock was set. The call goes on, and its host's next report, or its own next claim, enters it again.
    """
    while True:
        await asyncio.sleep(_jittered(sessions.node.leases.renew))
        try:
            await _renew(sessions)
        except Exception:
            log.exception("claims not renewed: a bug; the next round may go better")


async def _renew(sessions: Sessions) -> None:
    registry = sessions.node.registry
    held = {session.id: session.claim.fence for session in sessions if session.claim is not None}
    if not held:
        return
    try:
        lost = await registry.renew(held)
    except RegistryUnavailable:
        log.warning("claims not renewed: the registry is away; running calls go on", calls=len(held))
        return
    for session_id in lost:
        session = sessions.get(session_id)
        if session is None or not _holds(session, held[session_id]):
            continue
        if await is_taken_over(sessions.node, session_id, held[session_id]) and _holds(session, held[session_id]):
            session.superseded()


def _holds(session: Session, fence: int) -> bool:
    """True if the session goes by the claim of this fence.

    One that searches has given it up; its next claim tells whether another node has the call.
    """
    return session.claim is not None and session.claim.fence == fence and not session.worker.searching


async def resend_after_registry_loss(sessions: Sessions) -> None:
    """Tell the registry what it lacks of the sessions; for ever.

    It lacks everything if our mark is gone: it was emptied. We look as often as hosts beat, as a node that dies before
    the registry is told takes the knowledge of its calls with it. Else it lacks the writes that it did not answer.
    """
    node, key, token = sessions.node, f"told:{secrets.token_hex(8)}", secrets.token_hex(8)
    while True:
        try:
            async with asyncio.timeout(_jittered(node.leases.beat)):
                await node.registry.registry_failed.wait()
        except TimeoutError:
            pass
        else:  # it was away, and may be back at any moment, empty
            node.registry.registry_failed.clear()
            await asyncio.sleep(ASK_AGAIN)
        try:
            if sessions:
                # Our token: set by this round, or by one that did not come to the telling or whose answer was lost.
                mark = await node.registry.set_if_absent(key, node.leases.facts, token)
                await _resend(sessions, emptied=mark.value == token)
                token = secrets.token_hex(8)
        except RegistryUnavailable:
            pass
        except Exception:
            log.exception("the registry was not told: a bug; the next round may go better")


async def _resend(sessions: Sessions, *, emptied: bool) -> None:
    """Tell the registry of all sessions, or of those with a write that it did not answer."""
    for session in sessions:
        if emptied or session.unsaved:
            # At once, so that no node finds half of it. What is not answered now is unsaved: told in the next round.
            await session.remember(as_event(session.facts))


def _jittered(seconds: float) -> float:
    """Return a little less than this, so that nodes do not all ask at the same moment."""
    return seconds * random.uniform(0.8, 1.0)  # noqa: S311 - jitter, not a secret
