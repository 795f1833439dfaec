"""A server that means ill, or is ill: it says a little, and then a byte now and then, for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

EVERY = 0.02
"""Seconds between two bytes: each comes long before any timeout of a single read."""


@contextlib.asynccontextmanager
async def dribbling(begins: bytes, byte: bytes = b"x") -> AsyncIterator[int]:
    """Its port. begins: said at once."""
    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            writer.write(begins)
            while True:
                await asyncio.sleep(EVERY)
                writer.write(byte)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
