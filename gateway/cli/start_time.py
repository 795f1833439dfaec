"""How long a worker takes to start: the one number from which `min_warm` follows."""

from __future__ import annotations

import asyncio
import math
import socket
import tempfile
from pathlib import Path

from gateway.errors import BotError
from gateway.worker.process import WorkerReport, WorkerSpec
from gateway.worker.spawn import END_TIMEOUT, Spawner, load_bot

BASELINE = 1
"""Warm workers that even a bot that starts at once wants: the caller who comes now waits for nothing."""


def needed_warm(cps: float, start_seconds: float) -> int:
    """The `min_warm` for calls that come this fast: while a worker starts, those before it must suffice."""
    return max(BASELINE, math.ceil(cps * start_seconds))


async def measure_start(target: str, limit: float, python: str = "") -> float:
    """Seconds from asking for a worker of this bot until it is ready, its prewarm() included, the bot's module having
    been imported before, as in a worker host. python: of its own environment.

    Raises BotError if the bot cannot be used, TimeoutError if importing and starting it take longer than limit.
    """
    spawner: Spawner | None = None
    try:
        async with asyncio.timeout(limit):
            spawner = (await load_bot(target, "", lambda *_: None, lambda: None, python=python)).spawner
            return await _start_one(spawner)
    finally:
        if spawner is not None:
            await spawner.close(END_TIMEOUT)


async def _start_one(spawner: Spawner) -> float:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    # The worker takes its directory with it when it ends.
    with tempfile.TemporaryDirectory(prefix="gw-", ignore_cleanup_errors=True) as folder, ours:
        ours.setblocking(False)
        ours.send(WorkerSpec("check", f"unix:{Path(folder) / 'check.sock'}", "", "", "", 0.0, quiet=False).line())
        began = loop.time()
        failures: list[str] = []
        spawner.spawn(theirs, lambda _, failed: failures.append(failed))
        unread = b""
        while data := await loop.sock_recv(ours, 65536):
            *lines, unread = (unread + data).split(b"\n")
            for report in map(WorkerReport.read, lines):
                if report.failed:
                    raise BotError(report.failed)
                if report.state == "ready":
                    return loop.time() - began
    raise BotError("".join(failures) or "its worker ended before it was ready")
