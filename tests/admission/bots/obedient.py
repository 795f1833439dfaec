"""Says everything back and notes who it is; misbehaves when it is told to.

By the call: `do` in its body is "stay" (does not end with its call). By the file `prewarm` beside this one: "exit".
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from gateway.worker import Audio, Call, Status

NOTES = Path(__file__).with_suffix(".jsonl")
ORDERS = Path(__file__).with_name("prewarm")


def prewarm() -> None:
    if ORDERS.exists() and ORDERS.read_text() == "exit":
        os._exit(3)


def note(call: Call, what: str, **more: Any) -> None:
    line = json.dumps({"call": call.data.call_id, "pid": os.getpid(), "what": what, **more}) + "\n"
    handle = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


async def bot(call: Call) -> None:
    note(call, "start", resumed=call.resumed, attempt=call.attempt, state=call.state.decode())
    call.save_state(f"left by {os.getpid()}".encode())
    async for event in call:
        if isinstance(event, Audio):
            await call.play(event.pcm)
        elif isinstance(event, Status):
            note(call, "status", status=event.status)
    note(call, "end")
    if call.data.body.get("do") == "stay":
        await asyncio.sleep(3600)
