"""Says everything back, and notes down who it is and what it is told; misbehaves when it is told to.

By the call: `do` in its body is "stay" (does not end with its call). By the file `prewarm` beside this one: "exit".
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from noting import Notes

from gateway.worker import Audio, Call, Dtmf, Mark, Status

ORDERS = Path(__file__).with_name("prewarm")
note = Notes(__file__)


def prewarm() -> None:
    if ORDERS.exists() and ORDERS.read_text() == "exit":
        os._exit(3)


async def bot(call: Call) -> None:
    data = call.data
    note(
        call, "start", sender=data.from_number, to=data.to_number, body=data.body, resumed=call.resumed,
        attempt=call.attempt, session=call.session_id, carrier=data.carrier, service=data.service_host,
        encoding=data.encoding, rate=data.sample_rate, stream=data.stream_id, direction=data.direction,
        state=call.state.decode(),
    )  # fmt: skip
    await call.save_state(f"left by {os.getpid()}".encode())
    async for event in call:
        if isinstance(event, Audio):
            await call.play(event.pcm)
        elif isinstance(event, Dtmf):
            note(call, "dtmf", digit=event.digit)
            if event.digit == "#":
                await call.hangup()
        elif isinstance(event, Mark):
            note(call, "mark", name=event.name, played=event.played)
        elif isinstance(event, Status):
            note(call, "status", status=event.status)
    note(call, "end")
    if data.body.get("do") == "stay":
        await asyncio.sleep(3600)
