"""One kept connection to a worker that is asked again and again how it is: an HTTP GET, and the status of its answer.

Not by an HTTP library: a thousand workers are asked all day, and a request of httpx costs ten times as much.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from gateway.sockets.tls import client_tls_context

MAX_ANSWER = 16 * 1024
"""Bytes of one answer. A longer one is no answer of a /readyz."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,5})\r\n", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    """One connection of a probe. What an older one still says is ignored."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._probe.opened(self, self.transport)

    def data_received(self, data: bytes) -> None:
        self._probe.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._probe.lost(self)


class Probe:
    """Asks one page. url: of the worker's WebSocket; the page is /readyz beside it. answered: is told each status, None
    for no answer in `seconds`. Never raises.
    """

    def __init__(self, url: str, seconds: float, answered: Callable[[int | None], None]) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "wss"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        host = parts.netloc.rpartition("@")[2].encode("ascii", "replace")
        self._request = b"GET /readyz HTTP/1.1\r\nhost: " + host + b"\r\naccept: */*\r\n\r\n"
        self._seconds = seconds
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._buffer = b""
        self._on_reused_connection = False
        """The question went out on a connection from before: its loss says nothing of the worker."""

    @property
    def asking(self) -> bool:
        """A question is out."""
        return self._timer is not None

    def ask(self) -> None:
        """Ask, unless a question is out."""
        if self._timer is not None:
            return
        self._timer = self._loop.call_later(self._seconds, self._finish, None)
        transport = self._connection.transport if self._connection is not None else None
        self._on_reused_connection = transport is not None
        if transport is not None:
            transport.write(self._request)
        else:
            self._open()

    def close(self) -> None:
        """Let go of the connection; nothing is told any more."""
        self._answered = lambda _: None
        self._finish(None)

    def _open(self) -> None:
        connection = self._connection = _Connection(self)
        self._opening = self._loop.create_task(self._connect(connection), name="probe")

    async def _connect(self, connection: _Connection) -> None:
        context = client_tls_context() if self._secure else None
        try:
            await self._loop.create_connection(lambda: connection, self._host, self._port, ssl=context)
        except (OSError, ValueError):  # ValueError: a name that no host can have
            if connection is self._connection:
                self._finish(None)

    # The connection's side.

    def opened(self, connection: _Connection, transport: asyncio.Transport) -> None:
        """Send the question that it was opened for."""
        if connection is self._connection:
            transport.write(self._request)
        else:  # too late
            transport.abort()

    def received(self, connection: _Connection, data: bytes) -> None:
        """Read an answer."""
        if connection is not self._connection:
            return
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            if len(head) > MAX_ANSWER:
                self._finish(None)
            return
        status, length = _STATUS.match(head), _LENGTH.search(head + b"\r\n")
        if status is None or self._timer is None:
            self._finish(None)
        elif length is None or _CLOSES.search(head):  # where its body ends is not worth finding out
            self._finish(int(status[1]), keep=False)
        elif len(body) >= int(length[1]):
            self._finish(int(status[1]), keep=True)
        elif int(length[1]) > MAX_ANSWER:
            self._finish(int(status[1]), keep=False)

    def lost(self, connection: _Connection) -> None:
        """Ask on a new one, if the worker closed a kept one as the question went out."""
        if connection is not self._connection:
            return
        self._connection, self._buffer = None, b""
        if self._timer is None:
            return
        if self._on_reused_connection:
            self._on_reused_connection = False
            self._open()
        else:
            self._finish(None)

    def _finish(self, status: int | None, *, keep: bool = False) -> None:
        """Tell the answer, if one is awaited."""
        asked, self._timer, self._buffer = self._timer, None, b""
        if not keep:
            connection, self._connection = self._connection, None
            if connection is not None and connection.transport is not None:
                connection.transport.abort()
            elif self._opening is not None:
                self._opening.cancel()
        self._opening = None
        if asked is not None:
            asked.cancel()
            self._answered(status)
