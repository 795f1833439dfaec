"""Whether a session's carrier still sends media."""

from __future__ import annotations

import asyncio

from gateway.audio.format import FRAME_SECONDS
from gateway.sessions.session import Session

HEARD_WITHIN = 0.5
"""Seconds that the look takes at most: 25 frames."""


async def is_heard(session: Session) -> bool:
    """True if media of the carrier come in the second half of the next HEARD_WITHIN seconds: its stream is alive.

    In the first half they prove nothing: the last of a stream that has ended may still be on their way.
    """
    now = asyncio.get_running_loop().time
    stream, heard = session.stream, session.bridge.counts.from_carrier
    until = now() + HEARD_WITHIN
    while stream is not None and session.stream is stream and now() < until:
        if now() < until - HEARD_WITHIN / 2:
            heard = session.bridge.counts.from_carrier
        elif session.bridge.counts.from_carrier > heard:
            return True
        await asyncio.sleep(FRAME_SECONDS)
    return False
