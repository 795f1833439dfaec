"""uvicorn's HTTP protocol, which trusts every peer, with bounds for strangers.

As it is, the head of a request may be of any size and take for ever (its `h11_max_incomplete_event_size` is for h11
only, its keep-alive timeout runs between an answer and the next byte), and so may a body that comes when its request
has been answered. Bodies that are waited for are the application's to bound.

A connection that has been answered stays open for uvicorn's `timeout_keep_alive`: longer than a balancer keeps one
idle, so that the balancer closes it. If we did, its next request could be on its way already, and would be lost.

WebSockets come in by the same port: their handshakes are held to the same bounds, and then passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.sockets.headers import asks_for_websocket, combine


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one connection may cost."""

    head_bytes: int = 64 * 1024
    """Of a request line and its headers; carriers' have 1 to 3 KB. Between two of them a piece more may pass."""
    head_seconds: float = 5.0
    """From the first byte of a request to the end of its headers, as for WebSockets alone (`sockets.base`)."""
    first_seconds: float = 30.0
    """From the connection to the first byte of its first request. Balancers and browsers open some ahead of need."""
    idle: int = 500
    """Connections that wait for their next request. Beyond this the one that has waited for longest is closed: one
    answered request must not buy a stranger a place for `timeout_keep_alive`."""
    pipelined: int = 16
    """Requests that wait for the answers to those before them. Carriers and balancers send none."""


def http_protocol(refused: Callable[[str], None], limits: HttpLimits = HttpLimits()) -> type[HttpToolsProtocol]:
    """Make a class for uvicorn's `http=`.

    refused: told in a word why a connection is closed that has broken a bound.
    """
    idle: dict[HttpProtocol, None] = {}

    class BoundedProtocol(HttpProtocol):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._refused = refused
            self._limits = limits
            self._idle = idle

    return BoundedProtocol


class HttpProtocol(HttpToolsProtocol):
    """Made by `http_protocol`."""

    _refused: Callable[[str], None]
    _limits: HttpLimits
    _idle: dict[HttpProtocol, None]
    """Those of this server that wait for their next request; the first has waited for longest."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._clock: asyncio.TimerHandle | None = None
        self._in_body = False  # the headers of a request are complete, and it is not
        self._overhead = 0  # bytes since the last that were good for anything: a head, a part of a body
        self._over = False  # nothing is read any more: a WebSocket, or closed

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        # Nothing has been asked yet: any stranger can come so far.
        seconds = min(self._limits.first_seconds, self.timeout_keep_alive)
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        self._stop_clock()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._idle.pop(self, None)
        # In pieces, as there is no telling from one how much of it is a head.
        for at in range(0, len(data), self._limits.head_bytes):
            piece = data[at : at + self._limits.head_bytes]
            if not self._in_body:
                self._start_clock()
            self._overhead += len(piece)
            super().data_received(piece)
            if self._overhead > self._limits.head_bytes:
                self._too_large()
            elif len(self.pipeline) > self._limits.pipelined:
                self._close("pipelined")
            if self._over or self.transport.is_closing():
                return

    # Of the parser, and of uvicorn itself

    def on_message_begin(self) -> None:
        self._start_clock()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_clock()
        self._in_body, self._overhead = True, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_clock()
        self._in_body, self._overhead = False, 0
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # The end of a body whose request was answered long ago: uvicorn arms its timeout only behind an answer.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            self._wait_for_next()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body:  # its request is answered: the rest of the body is only to be got over with
            self._start_clock()
        if self.timeout_keep_alive_task is not None:
            self._wait_for_next()

    def _wait_for_next(self) -> None:
        self._idle[self] = None
        if len(self._idle) > self._limits.idle:
            next(iter(self._idle)).close_idle()

    def close_idle(self) -> None:
        """Close a connection that waits for its next request."""
        self._idle.pop(self, None)
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_handler()

    def handle_websocket_upgrade(self) -> None:
        self._stop_clock()
        self._idle.pop(self, None)
        self._unset_keepalive_if_required()
        self._over = True
        if self.cycle is not None and not self.cycle.response_complete:
            # The answers to what was asked before would go into the WebSocket. RFC 9112, section 9.3.2: a client that
            # pipelines must be ready for a connection that closes behind any answer.
            self._refused("pipelined")
            self.shutdown()
            return
        super().handle_websocket_upgrade()

    def _get_upgrade(self) -> bytes | None:
        """Read all lines of both headers: uvicorn's own reads the last one only."""
        lines = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers)
        return b"websocket" if asks_for_websocket(combine(lines)) else None

    # Bounds

    def _start_clock(self) -> None:
        if self._clock is None and not self.transport.is_closing():
            self._clock = self.loop.call_later(self._limits.head_seconds, self._too_slow)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        # Closed without a 408: a balancer could take it for the answer to what it asks at this very moment.
        self._clock = None
        self._refused("slow")
        self.shutdown()  # behind the answers to what has been asked before

    def _too_large(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self._close("too_large")

    def _close(self, reason: str) -> None:
        self._stop_clock()
        self._over = True
        self._refused(reason)
        self.transport.close()
