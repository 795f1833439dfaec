"""One bot for four carriers: reads who calls, plays, marks, clears, sends digits, hangs up; as the digits ask."""

from __future__ import annotations

import asyncio

import numpy as np
from noting import Notes

from gateway.worker import Audio, Call, Dtmf, Mark, Status

note = Notes(__file__)


def staircase(rate: int, seconds: int) -> np.ndarray:
    """A tone that grows louder every second, so that a lost or doubled second shows."""
    at = np.arange(rate * seconds)
    level = 2000 + 600 * (at // rate)
    return (level * np.sin(2 * np.pi * 400 * at / rate)).astype(np.int16)


async def bot(call: Call) -> None:
    data = call.data
    note(
        call, "start", sender=data.from_number, to=data.to_number, body=data.body, encoding=data.encoding,
        rate=data.sample_rate, carrier=data.carrier, wire_from=data["from"], attempt=call.attempt,
    )  # fmt: skip
    rate = 0
    tasks = []
    async for event in call:
        if isinstance(event, Audio):
            if rate == 0:
                rate = event.sample_rate
                note(call, "audio", rate=rate, bytes=len(event.pcm))
        elif isinstance(event, Mark):
            note(call, "mark", name=event.name, played=event.played)
        elif isinstance(event, Status):
            note(call, "status", status=event.status)
        elif isinstance(event, Dtmf):
            note(call, "dtmf", digit=event.digit)
            if event.digit == "1":  # something short, with marks around it
                await call.mark("before")
                await call.play(staircase(rate, 1))
                await call.mark("after")
            elif event.digit == "2":  # 30 s at once
                await call.play(staircase(rate, 30))
                await call.mark("end")
                note(call, "played")
            elif event.digit == "3":  # the same, cut after one second
                tasks.append(asyncio.create_task(cut(call, rate)))
            elif event.digit == "4":  # speech of another rate, as bytes
                await call.play(staircase(22050, 1).tobytes(), sample_rate=22050)
                await call.mark("other rate")
            elif event.digit == "5":
                await call.send_dtmf("12#")
            elif event.digit == "#":
                await call.play(staircase(rate, 1))
                await call.hangup("done")
    note(call, "end")


async def cut(call: Call, rate: int) -> None:
    await call.mark("m0")
    await call.play(staircase(rate, 30))
    await call.mark("m30")
    await asyncio.sleep(1)
    note(call, "clear")
    await call.clear()
    await call.mark("m-after")
