"""A gateway in a process of its own, for commands that need one to call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.errors import UserError

READY_SECONDS = 30.0
STOP_SECONDS = 10.0


@contextlib.asynccontextmanager
async def gateway_child(settings: str) -> AsyncIterator[str]:
    """Run `gateway serve` with these settings on a free loopback port; gives its URL once it is ready.

    Raises UserError with its last words if it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        config = Path(folder) / "gateway.toml"
        config.write_text(settings)
        config.chmod(0o600)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "gateway", "serve", "--config", str(config), "--port", "0",
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said: deque[str] = deque(maxlen=20)
        try:
            async with asyncio.timeout(READY_SECONDS):
                url = await _ready(child, said)
        except TimeoutError:
            child.kill()
            raise UserError(f"the gateway was not ready in {READY_SECONDS:.0f} s: {' | '.join(said)}") from None
        reader = asyncio.create_task(_keep_reading(child, said))
        try:
            yield url
        finally:
            await _stop(child)
            await reader


async def _ready(child: asyncio.subprocess.Process, said: deque[str]) -> str:
    assert child.stderr is not None
    while line := (await child.stderr.readline()).decode(errors="replace").strip():
        said.append(line)
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("event") == "ready":
            return str(event["public_url"])
    await child.wait()
    raise UserError(f"the gateway did not start: {' | '.join(said)}")


async def _keep_reading(child: asyncio.subprocess.Process, said: deque[str]) -> None:
    """A pipe that nobody reads would stop the gateway at its 64th kilobyte of log."""
    assert child.stderr is not None
    while line := await child.stderr.readline():
        said.append(line.decode(errors="replace").strip())


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
