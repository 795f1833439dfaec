"""Servers that stop listening without losing a connection that has just come."""

from __future__ import annotations

import asyncio


async def stop_listening(server: asyncio.Server) -> None:
    """Close it, and first let it give each connection that it has accepted its protocol.

    asyncio accepts in one turn of the loop and makes the transport in the next: closed between the two, the server
    fails to, and the connection stays open and belongs to nobody (CPython issue 109564).
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    for _ in range(3):
        await asyncio.sleep(0)
    server.close()
