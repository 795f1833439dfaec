"""What a node does by the clock for its sessions: renew their claims, and tell a registry that has forgotten them.

Both go on for ever, whatever happens in one round: a node that stopped would lose its calls' slots after one lease.
"""

from __future__ import annotations

import asyncio
import random
import secrets

import structlog

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import FactEvent
from gateway.sessions.table import Sessions
from gateway.sessions.worker_search import ASK_AGAIN

log = structlog.get_logger(__name__)


async def renew_claims(sessions: Sessions) -> None:
    """Renew what the sessions hold, and end those that another node holds now; for ever."""
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
    # A claim of our own that is on its way has taken nothing from us.
    for name in lost - registry.claims_in_flight.keys():
        session = sessions.get(name)
        if session is None or session.claim is None or session.claim.fence != held[name]:
            continue
        # A session that looks for a worker has given this claim up itself, and learns by the next who has the call.
        if not session.worker.searching:
            session.superseded()


async def resend_after_registry_loss(sessions: Sessions) -> None:
    """Tell the registry of the sessions again whenever it has forgotten all it knew; for ever.

    It has if it does not know our mark. It is told as soon as the hosts tell it of their workers: before the next node
    dies, of whose calls no other node could tell it.
    """
    node, mark = sessions.node, f"told:{secrets.token_hex(8)}"
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
            if sessions and (await node.registry.once(mark, node.leases.facts)).first:
                for session in sessions:
                    await session.remember(FactEvent())
        except RegistryUnavailable:
            pass
        except Exception:
            log.exception("the registry was not told: a bug; the next round may go better")


def _jittered(seconds: float) -> float:
    """Return a little less than this, so that nodes do not all ask at the same moment."""
    return seconds * random.uniform(0.8, 1.0)  # noqa: S311 - jitter, not a secret
