"""A static relay worker in a process of its own, as simple as can be: it can be killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

SCRIPT = r"""
import asyncio, http, json, os
from websockets.asyncio.server import serve

async def bot(socket):
    async for message in socket:
        told = json.loads(message)
        if told["event"] == "start":
            said = {"event": "media", "streamSid": told["streamSid"], "media": {"payload": str(os.getpid())}}
            await socket.send(json.dumps(said))

def page(connection, request):
    if request.path == "/readyz":
        return connection.respond(http.HTTPStatus.OK, "ready\n")

async def main():
    async with serve(bot, "127.0.0.1", 0, process_request=page) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()

asyncio.run(main())
"""


@dataclass(frozen=True)
class RelayWorker:
    """A process, and where it listens."""

    process: asyncio.subprocess.Process
    url: str


@asynccontextmanager
async def relay_worker() -> AsyncIterator[RelayWorker]:
    """Start one; it says its process id to each caller, as media."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SCRIPT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    try:
        yield RelayWorker(process, f"ws://127.0.0.1:{port}/ws")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
