"""A WebSocket client that can misbehave.

The sans-I/O protocol of `websockets` in an asyncio transport.

No task and no queue per message, so that a hundred paced calls fit in one process; and the transport at hand, so that
a stream can be reset, starved or left half open.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0  # after the close frames, until TCP is closed for the server that does not
MAX_MESSAGE = 8 << 20


class Refused(Exception):
    """The handshake was not answered with 101.

    status: what it was answered with, 0 when not with HTTP at all.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the handshake was answered {status or reason}")
        self.status = status


class ClientSocket(asyncio.Protocol):
    """One connection.

    received   called with each whole message
    closed     becomes the close code and reason; 1006 when the connection was lost without a close frame
    """

    def __init__(self, url: str, headers: Mapping[str, str], received: Callable[[str | bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.received = received
        self.closed: asyncio.Future[tuple[int, str]] = loop.create_future()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._ws = ClientProtocol(parse_uri(url), max_size=MAX_MESSAGE)
        self._headers = headers
        self._parts: list[bytes] = []
        self._text = True
        self._transport: asyncio.Transport | None = None
        self._frozen = False
        self._closing = False

    @classmethod
    async def connect(
        cls,
        url: str,
        headers: Mapping[str, str],
        received: Callable[[str | bytes], None],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> ClientSocket:
        """Open a connection to `url` (ws or wss). Raises Refused."""
        uri = parse_uri(url)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                _, socket = await loop.create_connection(
                    lambda: cls(url, headers, received), uri.host, uri.port, ssl=tls if uri.secure else None
                )
                await socket._opened
        except TimeoutError:
            raise Refused(0, f"not within {OPEN_SECONDS:.0f} s") from None
        except OSError as error:
            raise Refused(0, str(error)) from None
        return socket

    # What the carrier does

    @property
    def is_open(self) -> bool:
        return self._ws.state is OPEN and not self._frozen

    def send_text(self, data: bytes) -> None:
        """Send one text message; what it holds is not checked."""
        if self.is_open:
            self._ws.send_text(data)
            self._flush()

    def send_binary(self, data: bytes) -> None:
        if self.is_open:
            self._ws.send_binary(data)
            self._flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.is_open:
            self._ws.send_close(code, reason)
            self._flush()

    def drop(self) -> None:
        """Reset the connection: no close frame."""
        if self._transport is not None:
            self._transport.abort()

    def freeze(self) -> None:
        """Neither read nor write any more, and keep the connection."""
        self._frozen = True
        self.pause(True)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if paused:
            transport.pause_reading()
        elif not self._frozen:
            transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        request = self._ws.connect()
        for name, value in self._headers.items():
            request.headers[name] = value
        self._ws.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._ws.receive_data(data)
        self._handle()

    def eof_received(self) -> None:
        self._ws.receive_eof()
        self._handle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ws.receive_eof()
        self._handle()
        if not self._opened.done():
            self._opened.set_exception(Refused(0, "the connection was closed"))
        if not self.closed.done():
            self.closed.set_result((self._ws.close_code or 1006, self._ws.close_reason or ""))

    # Inside

    def _handle(self) -> None:
        for event in self._ws.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            elif isinstance(event, Response):
                self._response(event)
        if self._ws.handshake_exc is not None and not self._opened.done():
            self._opened.set_exception(Refused(0, str(self._ws.handshake_exc)))
        self._flush()
        if self._ws.close_expected() and not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.drop)

    def _response(self, response: Response) -> None:
        error = self._ws.handshake_exc
        if error is None:
            self._opened.set_result(None)
            return
        status = response.status_code if isinstance(error, InvalidStatus) else 0
        self._opened.set_exception(Refused(status, str(error)))

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._text = frame.opcode is Opcode.TEXT
            self._parts = []
        elif frame.opcode is Opcode.CLOSE and not self.closed.done():
            # The stream is over here, not when TCP is.
            close = self._ws.close_rcvd
            assert close is not None
            self.closed.set_result((int(close.code), close.reason))
            return
        elif frame.opcode is not Opcode.CONT:
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            whole = b"".join(self._parts)
            self.received(whole.decode("utf-8", "replace") if self._text else whole)

    def _flush(self) -> None:
        transport = self._transport
        for data in self._ws.data_to_send():
            if transport is None or transport.is_closing() or self._frozen:
                continue
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()
