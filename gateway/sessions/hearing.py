"""Whether a session's carrier still speaks."""

from __future__ import annotations

import asyncio

from gateway.audio.format import FRAME_SECONDS
from gateway.sessions.session import Session


async def is_heard(session: Session, within: float) -> bool:
    """True if media of the carrier come in the second half of the next `within` seconds: its stream is alive.

    In the first half they prove nothing: the last of a stream that has ended may still be on their way.
    """
    now = asyncio.get_running_loop().time
    stream, heard = session.stream, session.bridge.counts.from_carrier
    until = now() + within
    while session.stream is stream is not None and now() < until:
        if now() < until - within / 2:
            heard = session.bridge.counts.from_carrier
        elif session.bridge.counts.from_carrier > heard:
            return True
        await asyncio.sleep(FRAME_SECONDS)
    return False
