"""Answers every frame of the caller's with as much of a tone, which is its process's own: who is heard can be told.

It notes down what it is told, and leaves behind who it was, for the worker that goes on if this one dies.
"""

from __future__ import annotations

import math
import os
import struct

from noting import Notes
from tones import LOWEST, STEP, TONES

from gateway.worker import Audio, Call, Dtmf, Status

note = Notes(__file__)
LEVEL = 8000
RATE = 8000


def tone(pid: int) -> bytes:
    """One second of this process's tone; whole periods, so that it can be repeated.

    It begins off the zero crossing, or every second sample of 2000 Hz at 8000 would be silent.
    """
    hertz = LOWEST + STEP * (pid % TONES)
    samples = (round(LEVEL * math.sin(2 * math.pi * (hertz * i / RATE + 1 / 16))) for i in range(RATE))
    return struct.pack(f"<{RATE}h", *samples)


async def bot(call: Call) -> None:
    before = call.state.decode()
    note(call, "start", resumed=call.resumed, attempt=call.attempt, state=before, session=call.session_id)
    await call.save_state(f"{before}{os.getpid()},".encode())
    voice, at = tone(os.getpid()), 0
    async for event in call:
        if isinstance(event, Audio):
            size = len(event.pcm)
            await call.play((voice + voice)[at : at + size])
            at = (at + size) % len(voice)
        elif isinstance(event, Dtmf) and event.digit == "#":
            await call.hangup()
        elif isinstance(event, Status):
            note(call, "status", status=event.status)
    note(call, "end", reason=call.end_reason)
