"""Listening sockets, and the HTTP server on them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from gateway.errors import SettingsError


def bind(host: str, port: int, *, setting: str = "--host/--port") -> socket.socket:
    """A listening socket, port 0 meaning any. Raises SettingsError, naming `setting`, when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)  # from now on connections wait for us instead of being refused
    except (OSError, OverflowError) as error:
        sock.close()
        reason = error.strerror or str(error) if isinstance(error, OSError) else "no such port"
        raise SettingsError(setting, f"cannot listen on {host}:{port}: {reason}") from None
    sock.set_inheritable(True)
    return sock


def address(sock: socket.socket) -> str:
    """`host:port` as it goes into a URL."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HttpServer(uvicorn.Server):
    """uvicorn without its own signals: what a signal means to calls in progress is ours to say."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
