"""What a node does by the clock for its sessions: renew their claims, and tell a registry that has forgotten them.

Both go on until they are cancelled, whatever happens in one round: a node that stopped would lose its calls' slots
after one lease.
"""

from __future__ import annotations

import asyncio
import random
import secrets

import structlog

from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.sessions.client_session import ClientSession
from gateway.sessions.facts_sync import as_event
from gateway.sessions.session import Session
from gateway.sessions.table import Sessions
from gateway.sessions.worker_search import ASK_AGAIN, is_superseded

log = structlog.get_logger(__name__)

ASK_AT_ONCE = 50
"""Lost claims that are looked at together. A pool may lose hundreds at once, and what is left must be renewed in time;
all at once they would keep the registry from answering callers."""


async def renew_claims(sessions: Sessions) -> None:
    """Renew the sessions' claims, and end the sessions that another node has by now; until cancelled.

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
    # Where two sessions have one id, the newer comes later in `sessions`, so that its fence is the one kept.
    renewing = {session.id: (session, session.claim.fence) for session in sessions if session.claim is not None}
    if not renewing:
        return
    try:
        lost = await registry.renew({session_id: fence for session_id, (_, fence) in renewing.items()})
    except RegistryUnavailable:
        log.warning("claims not renewed: the registry is away; running calls go on", calls=len(renewing))
        return
    claims = [renewing[session_id] for session_id in sorted(lost)]
    for begin in range(0, len(claims), ASK_AT_ONCE):
        some = claims[begin : begin + ASK_AT_ONCE]
        await asyncio.gather(*(_end_if_superseded(sessions.node, session, fence) for session, fence in some))


async def _end_if_superseded(node: Node, session: Session | ClientSession, fence: int) -> None:
    """End a session whose claim was not renewed, if another node holds the call."""
    if _goes_by(session, fence) and await is_superseded(node, session.id, fence) and _goes_by(session, fence):
        session.superseded()


def _goes_by(session: Session | ClientSession, fence: int) -> bool:
    """True if the session goes by the claim of this fence.

    One without a worker has given it up; its next claim tells whether another node has the call.
    """
    given_up = session.worker.without_worker if isinstance(session, Session) else session.searching
    return session.claim is not None and session.claim.fence == fence and not given_up


async def resend_after_registry_loss(sessions: Sessions) -> None:
    """Write session facts again that the registry has lost; until cancelled.

    A key of ours, set once, is gone if the registry was emptied: then all facts are written, and else those whose last
    write failed. We look as often as hosts beat, as a node that dies first takes the knowledge of its calls with it.
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
                # Our token: set by this round, or by one that did not come to the writing, or whose answer was lost.
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
