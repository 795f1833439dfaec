"""The sockets under links and streams: WebSockets as plain callbacks.

Thin asyncio layers over the sans-I/O protocols of the `websockets` package: no task and no queue per socket or frame.
The server's end (`server_protocol`) runs behind uvicorn's `ws=` and under `loop.create_server` or `create_unix_server`;
the client's end is `connect`. A stranger's upgrade is decided before the handshake is answered. Nothing here logs a
path, a header or a payload: paths carry tokens.
"""

from __future__ import annotations

from gateway.sockets.base import (
    CLOSE_TIMEOUT,
    MAX_SIZE,
    MAX_UNSENT,
    Accept,
    Decision,
    Handler,
    Refusal,
    Socket,
    Upgrade,
)
from gateway.sockets.client import connect
from gateway.sockets.server import server_protocol

__all__ = [
    "CLOSE_TIMEOUT",
    "MAX_SIZE",
    "MAX_UNSENT",
    "Accept",
    "Decision",
    "Handler",
    "Refusal",
    "Socket",
    "Upgrade",
    "connect",
    "server_protocol",
]
