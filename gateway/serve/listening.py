"""Listening sockets, and the HTTP server on them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from gateway.errors import BindError


def bind(host: str, port: int, *, setting: str = "--host/--port", mend: str = "") -> socket.socket:
    """Return a listening socket. Port 0 means any.

    Raises BindError when it cannot be had; setting: what has named it; mend: what to do about it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # unnamed, asyncio sets no TCP_NODELAY
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)  # from now on connections wait for us instead of being refused
    except (OSError, OverflowError, ValueError) as error:
        sock.close()
        reason = (error.strerror if isinstance(error, OSError) else None) or "no such host or port"
        problem = f"cannot listen on {host}:{port}: {reason}"
        raise BindError(setting, f"{problem}; {mend}" if mend else problem) from None
    return sock


def address(sock: socket.socket) -> str:
    """`host:port` as it goes into a URL."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HttpServer(uvicorn.Server):
    """uvicorn without its own handling of signals.

    What a signal means to calls in progress is ours to say.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
