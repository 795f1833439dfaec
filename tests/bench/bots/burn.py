"""An echo; but for the caller whose number ends with 99 it computes for two seconds, and never lets go."""

from __future__ import annotations

import time

from gateway.worker import Audio, Call

SECONDS = 2.0


async def bot(call: Call) -> None:
    burns = str(call.data.from_number).endswith("99")
    heard = 0
    async for event in call:
        if not isinstance(event, Audio):
            continue
        heard += 1
        if burns and heard == 50:
            until = time.process_time() + SECONDS
            while time.process_time() < until:
                pass
        await call.play(event.pcm)
