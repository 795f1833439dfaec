"""The socket under links and streams: WebSockets as plain callbacks.

Thin asyncio shells around the sans-I/O protocols of the `websockets` package: no task and no queue per socket
or frame. The server shell (`server_protocol`) runs behind uvicorn's `ws=` and under `loop.create_server` or
`create_unix_server`; the client shell is `connect`. Whether a stranger may come in is decided before the
handshake is answered. Nothing here logs a path, a header or a payload: paths carry tokens.
"""

from __future__ import annotations

import asyncio
import logging
import socket as _socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN, SEND_EOF
from websockets.protocol import Protocol as WebSocket
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from gateway.errors import LinkError, LinkRefused, LinkTimeout
from gateway.protocol.ends import CloseCode

log = logging.getLogger(__name__)
_wire_log = logging.getLogger(f"{__name__}.wire")
_wire_log.setLevel(logging.WARNING)  # the library logs every frame and header at DEBUG: audio, digits, tokens

MAX_SIZE = 64 * 1024
"""Bytes of one incoming message, unless the decision says otherwise."""
CLOSE_TIMEOUT = 2.0
"""Seconds from starting the closing handshake to aborting the connection."""
HANDSHAKE_TIMEOUT = 5.0
"""Seconds that a client of a standalone server may take for its request."""
MAX_UNSENT = 8 * 1024 * 1024
"""Bytes that wait for a peer who does not read. Beyond this the connection is aborted: he is not coming back,
and answering his pings must not grow memory. 30 s of speech at 48 kHz, sent at once, are 2.9 MB."""
USER_TIMEOUT_MS = 5000
"""TCP gives up on a peer who acknowledges nothing for so long; the kernel alone would take 15 minutes."""
NOTSENT_LOWAT = 16 * 1024
SEND_BUFFER = 64 * 1024
"""Bytes. Small kernel buffers, so that `unsent` and pings say what the peer has really taken: with the
kernel's own choice a loopback socket swallows two minutes of audio."""


class Socket(Protocol):
    """One open WebSocket. All methods return at once and never raise for the peer's sake."""

    @property
    def unsent(self) -> int:
        """Bytes in the transport's write buffer."""

    @property
    def last_received(self) -> float:
        """`loop.time()` of the last bytes of any kind."""

    @property
    def last_pong(self) -> float:
        """`loop.time()` of the last pong; of the opening while there was none."""

    def send(self, data: str | bytes) -> None:
        """A text or binary message. Silently dropped once closing."""

    def ping(self) -> None:
        """Ask for a pong; see `last_pong`."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; the connection is aborted if it takes longer than CLOSE_TIMEOUT.

        Nothing is received any more. 1005 and 1006 send a close frame without a code.
        """

    def abort(self) -> None:
        """Drop the connection now."""


class Handler(Protocol):
    """Who is called, synchronously, in the loop. If a method raises, the socket is closed with 1011."""

    def opened(self, socket: Socket) -> None:
        """The handshake is done."""

    def received(self, data: bytes, text: bool) -> None:
        """A whole message. A text is not decoded: it may be invalid UTF-8, which is yours to judge."""

    def closed(self, code: int, reason: str) -> None:
        """No more will be received. Exactly once after `opened`.

        code: from the peer's close frame (1005 if it had none), or ours if the peer broke the protocol or a
        limit; 1006 when the connection was lost without one.
        """


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request to open a WebSocket.

    path: as sent, not unquoted. query: raw, without the "?". headers: lower-case names, the first value of
    each. peer: the other end's IP address, "" on a unix socket.
    """

    path: str
    query: str
    headers: Mapping[str, str]
    peer: str


@dataclass(frozen=True, slots=True)
class Accept:
    """Let it in. subprotocol: named in the answer if the client offered it. max_size: bytes of a message."""

    handler: Handler
    subprotocol: str | None = None
    max_size: int = MAX_SIZE


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer with this HTTP status instead of 101."""

    status: int
    body: str = ""


Decision: TypeAlias = Accept | Refusal


def server_protocol(
    decide: Callable[[Upgrade], Decision], *, plain: Callable[[Upgrade], Refusal] | None = None
) -> type[ServerShell]:
    """A class for uvicorn's `ws=`, `loop.create_server` and `loop.create_unix_server`.

    decide: called for each valid upgrade before it is answered; if it raises, the answer is 500.
    plain: answers GET requests that ask for no upgrade (standalone only: uvicorn keeps those); default 426.
    """

    class Shell(ServerShell):
        def __init__(self, config: object = None, server_state: Any = None, app_state: object = None) -> None:
            # The arguments are uvicorn's. Of its state only the set of connections matters to us.
            super().__init__(decide, plain, server_state.connections if server_state is not None else set())

    return Shell


async def connect(
    url: str,
    handler: Handler,
    *,
    headers: Mapping[str, str],
    subprotocol: str | None = None,
    timeout: float,
    max_size: int = MAX_SIZE,
    target: str = "/ws",
) -> Socket:
    """Open a WebSocket; `handler.opened` has been called when this returns.

    url: `ws://…`, `wss://…`, or `unix:/path.sock`, where `target` is the path (and query) that is asked for.
    timeout: seconds until the handshake is done.
    Raises LinkRefused(status) for any answer but 101, LinkTimeout, and LinkError if there is nobody.
    """
    loop = asyncio.get_running_loop()
    is_unix = url.startswith("unix:")
    try:
        uri = parse_uri(f"ws://localhost{target}" if is_unix else url)
    except (InvalidURI, ValueError) as e:
        raise LinkError(f"not the address of a worker: {url}") from e
    offered = [Subprotocol(subprotocol)] if subprotocol else None
    conn = ClientProtocol(uri, subprotocols=offered, max_size=max_size, logger=_wire_log)
    shell = ClientShell(conn, handler, headers)
    connected = False
    try:
        async with asyncio.timeout(timeout):
            if is_unix:
                await loop.create_unix_connection(lambda: shell, url.removeprefix("unix:"))
            else:
                ssl = _ssl_context() if uri.secure else None
                await loop.create_connection(lambda: shell, uri.host, uri.port, ssl=ssl)
            await shell.answered
            connected = True
    except TimeoutError:
        raise LinkTimeout(f"no answer within {timeout:g} s") from None
    except OSError as e:
        raise LinkError(f"cannot connect: {e.strerror or e}") from e
    finally:
        if not connected:
            shell.answered.cancel()
            shell.abort()
    return shell


def _ssl_context() -> Any:
    import ssl

    return ssl.create_default_context()


def tune(transport: asyncio.BaseTransport) -> None:
    """Set the options that keep audio prompt and dead peers short-lived. Best effort: none is essential."""
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


class _Shell(asyncio.Protocol):
    """What both sides share: bytes in and out, messages, the end."""

    _conn: WebSocket

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._handler: Handler | None = None  # set while it may be called
        self._parts: bytearray | None = None  # of a fragmented message; bytes, so that empty fragments cost nothing
        self._text = False
        self._closing = False  # we called close(): receive nothing more
        self._timer: asyncio.TimerHandle | None = None
        self.last_received = self.last_pong = self._loop.time()

    # Socket

    @property
    def unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, data: str | bytes) -> None:
        if self._conn.state is not OPEN:
            return
        if isinstance(data, str):
            self._conn.send_text(data.encode(errors="replace"))
        else:
            self._conn.send_binary(data)
        self._flush()

    def ping(self) -> None:
        if self._conn.state is OPEN:
            self._conn.send_ping(b"")
            self._flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self._conn.state is not OPEN:
            return
        self._closing = True
        if code in (CloseCode.NO_STATUS, CloseCode.ABNORMAL):
            self._conn.send_close()
        else:
            # RFC 6455 5.5: a control frame has at most 125 bytes, two of them for the code.
            self._conn.send_close(code, reason.encode()[:123].decode(errors="ignore"))
        self._flush()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        tune(transport)

    def data_received(self, data: bytes) -> None:
        self.last_received = self._loop.time()
        self._conn.receive_data(data)
        self._flush()
        for event in self._conn.events_received():
            self._event(event)
        if self._conn.parser_exc is not None and self._conn.close_sent is not None:
            self._finish(self._conn.close_sent)

    def eof_received(self) -> None:
        self._conn.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._conn.receive_eof()
        self._conn.data_to_send()
        self._finish(Close(CloseCode.ABNORMAL, ""))
        self._transport = None

    # Inside

    def _flush(self) -> None:
        """Write what the protocol has to say; half-close when it says so, and see that the peer follows."""
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
        data = event.data
        match event.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                self._text = event.opcode is Opcode.TEXT
                if event.fin:
                    self._deliver(bytes(data))
                else:
                    self._parts = bytearray(data)
            case Opcode.CONT:
                assert self._parts is not None  # the protocol has checked the order
                self._parts += data
                if event.fin:
                    whole, self._parts = bytes(self._parts), None
                    self._deliver(whole)
            case Opcode.PONG:
                self.last_pong = self.last_received
            case Opcode.CLOSE:
                self._finish(self._conn.close_rcvd or Close(CloseCode.NO_STATUS, ""))

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
        self.close(CloseCode.BOT_RAISED)


class ServerShell(_Shell):
    """The server's end. Made by `server_protocol`."""

    def __init__(
        self,
        decide: Callable[[Upgrade], Decision],
        plain: Callable[[Upgrade], Refusal] | None,
        connections: set[Any],
    ) -> None:
        super().__init__()
        self._decide = decide
        self._plain = plain
        self._connections = connections
        self._handshake = ServerProtocol(logger=_wire_log)
        self._conn = self._handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """uvicorn is going down: 1012, service restart."""
        if self._conn.state is OPEN:
            self.close(1012)
        elif self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._conn is not self._handshake:
            super().data_received(data)
            return
        self._handshake.receive_data(data)
        self._flush()
        # Whatever follows the request is dropped: nothing may be sent before our answer (RFC 6455 4.1).
        for event in self._handshake.events_received()[:1]:
            if isinstance(event, Request):
                self._answer(event)

    def _answer(self, request: Request) -> None:
        """Decide on the upgrade and answer it.

        The rest of the connection has a protocol of its own, as the size of messages is known only now.
        """
        handshake = self._handshake
        response = handshake.accept(request)
        decision: Decision | None = None
        try:
            if response.status_code == 101:
                decision = self._decide(self._upgrade(request))
            elif response.status_code == 426 and self._plain is not None:
                decision = self._plain(self._upgrade(request))
        except Exception:
            log.exception("could not decide on an upgrade")
            decision = Refusal(500)
        if isinstance(decision, Refusal):
            response = handshake.reject(decision.status, decision.body)
            if decision.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 11.6.1
        elif decision is not None and decision.subprotocol and decision.subprotocol in _offered(request):
            response.headers["Sec-WebSocket-Protocol"] = decision.subprotocol
        handshake.send_response(response)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()
        if isinstance(decision, Accept):
            self._conn = ServerProtocol(state=OPEN, max_size=decision.max_size, logger=_wire_log)
            self._open(decision.handler)

    def _upgrade(self, request: Request) -> Upgrade:
        path, _, query = request.path.partition("?")
        headers: dict[str, str] = {}
        for name, value in request.headers.raw_items():
            headers.setdefault(name.lower(), value)
        peername = self._transport.get_extra_info("peername") if self._transport is not None else None
        peer = peername[0] if isinstance(peername, tuple) and peername else ""
        return Upgrade(path, query, headers, str(peer))


def _offered(request: Request) -> set[str]:
    values = request.headers.get_all("Sec-WebSocket-Protocol")
    return {name.strip() for value in values for name in value.split(",")}


class ClientShell(_Shell):
    """The client's end. Made by `connect`."""

    _conn: ClientProtocol

    def __init__(self, conn: ClientProtocol, handler: Handler, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._conn = conn
        self._waiting = handler
        self._headers = headers
        self.answered: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        request = self._conn.connect()
        for name, value in self._headers.items():
            request.headers[name] = value
        self._conn.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._check_failed()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._check_failed()

    def _event(self, event: Request | Response | Frame) -> None:
        if isinstance(event, Response):
            if self._conn.handshake_exc is None:
                self._open(self._waiting)
                if not self.answered.done():
                    self.answered.set_result(None)
        else:
            super()._event(event)

    def _check_failed(self) -> None:
        if self.answered.done() or (self._conn.handshake_exc is None and self._transport is not None):
            return
        match self._conn.handshake_exc:
            case InvalidStatus(response=response):
                error: LinkError = LinkRefused(response.status_code, response.reason_phrase)
            case Exception(__cause__=EOFError()) | None:
                error = LinkError("the connection was closed before it was answered")
            case _:
                error = LinkRefused(0, "(not the answer of a WebSocket server)")
        self.answered.set_exception(error)
