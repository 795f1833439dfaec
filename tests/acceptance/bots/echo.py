"""Says everything back, and notes down who it is and what it is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gateway.worker import Audio, Call, Dtmf, Mark, Status

NOTES = Path(__file__).with_suffix(".jsonl")


def note(call: Call, what: str, **more: Any) -> None:
    line = json.dumps({"call": call.data.call_id, "pid": os.getpid(), "what": what, **more}) + "\n"
    handle = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


async def bot(call: Call) -> None:
    note(
        call, "start", sender=call.data.from_number, to=call.data.to_number, body=call.data.body, resumed=call.resumed,
        attempt=call.attempt, session=call.session_id, carrier=call.data.carrier, service=call.data.service_host,
        encoding=call.data.encoding, rate=call.data.sample_rate, stream=call.data.stream_id,
        direction=call.data.direction,
    )  # fmt: skip
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
