"""What both ends of a WebSocket share: bytes, whole messages, pings, the end.

A peer is read in shares, see `budget`: what exceeds a turn's share waits in `_unread` while reading is paused.
"""

from __future__ import annotations

import asyncio
import logging
import socket as _socket
import sys
from typing import cast

from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN, SEND_EOF
from websockets.protocol import Protocol as WebSocket

from gateway.protocol.codes import CloseCode
from gateway.sockets.base import (
    CLOSE_TIMEOUT,
    MAX_UNSENT,
    NOTSENT_LOWAT,
    SEND_BUFFER,
    USER_TIMEOUT_MS,
    Handler,
)
from gateway.sockets.budget import SLICE, SMALL_READ, TURN_BYTES, TURN_FRAMES, ReadBudget

log = logging.getLogger(__name__)


def tune(transport: asyncio.BaseTransport) -> None:
    """Set the socket options that keep audio prompt and dead peers short-lived.

    None is essential: what the system refuses is left.
    """
    sock: _socket.socket | None = transport.get_extra_info("socket")
    if sock is None:
        return
    options: list[tuple[int, int, int]] = [(_socket.SOL_SOCKET, _socket.SO_SNDBUF, SEND_BUFFER)]
    if sock.family in (_socket.AF_INET, _socket.AF_INET6):
        options.append((_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1))
        if sys.platform == "linux":
            options.append((_socket.IPPROTO_TCP, _socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS))
            options.append((_socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT))
    for level, option, value in options:
        try:
            sock.setsockopt(level, option, value)
        except OSError:  # the peer has reset the connection already, or a kernel without the option
            pass


_TCP_NOTSENT_LOWAT = 25
"""linux/tcp.h; the socket module has it from Python 3.12 on."""

TEXT, BINARY = Opcode.TEXT, Opcode.BINARY

FLOODING = "more messages than anyone needs"
"""The reason that a peer over its budget is closed with."""


class Connection(asyncio.Protocol):
    """What both sides share: bytes in and out, messages, the end."""

    _conn: WebSocket
    _masked = False
    """Whether our frames are: a client's must be (RFC 6455 5.1)."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._handler: Handler | None = None  # set while it may be called
        self._parts: bytearray | None = None  # of a fragmented message; bytes, so that empty fragments cost nothing
        self._text = False
        self._closing = False  # we called close(): receive nothing more
        self._timer: asyncio.TimerHandle | None = None
        self.last_received = self.last_pong = self._loop.time()
        self._budget = ReadBudget(self.last_received)
        self._unread = bytearray()  # received, and left for the next turns of the loop
        self._next_turn: asyncio.Handle | None = None  # set while reading is paused
        self._held = False

    # Socket

    @property
    def unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, data: str | bytes) -> None:
        transport = self._transport
        if self._conn.state is not OPEN or transport is None or transport.is_closing():
            return
        # Not by way of the protocol: it adds nothing to a whole message without extensions.
        frame = Frame(TEXT, data.encode(errors="replace")) if isinstance(data, str) else Frame(BINARY, data)
        transport.write(frame.serialize(mask=self._masked))
        if transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()

    def set_handler(self, handler: Handler) -> None:
        if self._handler is not None:
            self._handler = handler

    def hold_reading(self, held: bool) -> None:
        self._held = held
        if held and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        elif not held and self._next_turn is None:
            self._next_turn = self._loop.call_soon(self._resume)

    def ping(self) -> None:
        if self._conn.state is OPEN:
            self._conn.send_ping(b"")
            self._flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self._conn.state is not OPEN:
            return
        self._closing = True
        if code in (CloseCode.NO_STATUS_RECEIVED, CloseCode.ABNORMAL_CLOSURE):
            self._conn.send_close()
        else:
            # RFC 6455 5.5: a control frame has at most 125 bytes, two of them for the code.
            self._conn.send_close(code, reason.encode()[:123].decode(errors="ignore"))
        self._flush()

    def abort(self) -> None:
        self._unread.clear()
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        tune(transport)

    def data_received(self, data: bytes) -> None:
        self.last_received = now = self._loop.time()
        if len(data) > SMALL_READ or self._unread:
            self._unread += data
            self._read_share()
            return
        # The usual case: one message, of a peer who sends in real time.
        wait = self._budget.spend(self._parse(data), len(data), now)
        if wait:
            self._pause(wait)

    def eof_received(self) -> None:
        if not self._unread:  # else the loss of the connection, which follows, says it behind what is unread
            self._conn.receive_eof()
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        if self._held:
            self.hold_reading(False)
        elif not self._unread:  # else what came before the loss is delivered first, in its turns
            self._lost()

    # Reading in shares

    def _parse(self, data: bytes) -> int:
        """Handle these bytes; return how many frames they completed."""
        conn = self._conn
        conn.receive_data(data)
        if conn.writes or conn.state is not OPEN:  # seldom: mostly there is nothing to be said about what came in
            self._flush()
        events = conn.events_received()
        for event in events:
            self._event(event)
        if conn.parser_exc is not None and conn.close_sent is not None:
            self._finish(conn.close_sent)
        return len(events)

    def _read_share(self) -> None:
        """Handle a turn's share of what is unread, and leave the rest for the next turn."""
        frames = size = 0
        while self._unread and frames < TURN_FRAMES and size < TURN_BYTES and not self._held:
            piece = bytes(self._unread[:SLICE])
            del self._unread[:SLICE]
            size += len(piece)
            frames += self._parse(piece)
        wait = self._budget.spend(frames, size, self._loop.time())
        if self._unread or wait:
            self._pause(wait)
        elif self._transport is None:
            self._lost()

    def _pause(self, wait: float) -> None:
        """Read nothing until the next turn of the event loop.

        wait: seconds instead, for a peer that is over its budget; 0.0 for the next turn.
        """
        if self._budget.exhausted(self._loop.time()):
            self._close_flooding()
        if self._transport is None:
            if wait:  # what a lost peer has left over its budget is not worth the time of the others
                self._unread.clear()
            if not self._unread:
                self._lost()
                return
        elif not self._transport.is_closing():
            self._transport.pause_reading()
        if self._next_turn is None:
            later = self._loop.call_later(wait, self._resume) if wait else self._loop.call_soon(self._resume)
            self._next_turn = later

    def _resume(self) -> None:
        self._next_turn = None
        if self._held:
            return
        if self._unread:
            self._read_share()
        elif self._transport is None:
            self._lost()
        if self._next_turn is None and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _close_flooding(self) -> None:
        if self._conn.state is not OPEN:
            return
        log.warning("a peer sent more than its budget for too long; closing it")
        self._unread.clear()
        self.close(CloseCode.POLICY_VIOLATION, FLOODING)
        self._finish(Close(CloseCode.POLICY_VIOLATION, FLOODING))

    # Inside

    def _flush(self) -> None:
        """Write what the protocol has to say.

        Half-close when it says so, and see that the peer follows.
        """
        out = self._conn.data_to_send()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for chunk in out:
            if chunk is not SEND_EOF:
                transport.write(chunk)
            elif transport.can_write_eof():
                # Not close(): with unread bytes in the kernel that would be a reset, which can overtake our
                # close frame on its way (RFC 6455 7.1.1 asks for the same).
                transport.write_eof()
            else:
                transport.close()  # TLS has no half-close
        if out and transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()
        elif self._timer is None and self._conn.close_expected():
            self._timer = self._loop.call_later(CLOSE_TIMEOUT, transport.abort)

    def _event(self, event: Request | Response | Frame) -> None:
        if not isinstance(event, Frame):
            return
        data, opcode = event.data, event.opcode
        if opcode is TEXT or opcode is BINARY:  # first, and not in `match`, which looks each one up: the hot path
            self._text = opcode is TEXT
            if event.fin:
                self._deliver(bytes(data))
            else:
                self._parts = bytearray(data)
            return
        match opcode:
            case Opcode.CONT:
                assert self._parts is not None  # the protocol has checked the order
                self._parts += data
                if event.fin:
                    whole, self._parts = bytes(self._parts), None
                    self._deliver(whole)
            case Opcode.PONG:
                self.last_pong = self.last_received
            case Opcode.CLOSE:
                self._finish(self._conn.close_rcvd or Close(CloseCode.NO_STATUS_RECEIVED, ""))

    def _deliver(self, message: bytes) -> None:
        if self._handler is None or self._closing:
            return
        try:
            self._handler.received(message, self._text)
        except Exception:
            self._handler_raised()

    def _open(self, handler: Handler) -> None:
        self._handler = handler
        self.last_pong = self.last_received = self._loop.time()
        try:
            handler.opened(self)
        except Exception:
            self._handler_raised()

    def _lost(self) -> None:
        """The connection is gone, and all that came of it has been handled."""
        self._conn.receive_eof()
        self._conn.data_to_send()
        self._finish(Close(CloseCode.ABNORMAL_CLOSURE, ""))

    def _finish(self, close: Close) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            return
        try:
            handler.closed(close.code, close.reason)
        except Exception:
            log.exception("the handler of a socket raised when told of its end")

    def _handler_raised(self) -> None:
        log.exception("the handler of a socket raised; closing it")
        self.close(CloseCode.INTERNAL_ERROR)
