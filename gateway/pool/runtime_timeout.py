"""A deadline for an answer from elsewhere; time in which this process did not run is not counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PARTS = 5
"""The deadline runs in this many parts. A part that ends late does not count; at most as many again are forgiven."""


@asynccontextmanager
async def runtime_timeout(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`: what takes longer than `seconds` raises TimeoutError.

    But only time in which our own event loop turned is counted. A process that was not scheduled for half a second, on
    a busy machine, finds the answer and the end of its patience waiting side by side; it must not say that the server
    is gone. The deadline runs in parts, and one that ends late counts as no part, at most `PARTS` times.
    """
    loop = asyncio.get_running_loop()
    part = seconds / PARTS
    left = forgiven = PARTS
    due = loop.time() + part
    timer: asyncio.TimerHandle

    def end_part() -> None:
        nonlocal left, forgiven, due, timer
        now = loop.time()
        if now - due > part and forgiven:  # late by more than a part: this process did not run
            forgiven -= 1
        else:
            left -= 1
        if not left:
            timeout.reschedule(now)
            return
        due = now + part
        timer = loop.call_at(due, end_part)

    async with asyncio.timeout(None) as timeout:
        timer = loop.call_at(due, end_part)
        try:
            yield
        finally:
            timer.cancel()
