"""The client's end: `connect`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHeader, InvalidStatus, InvalidURI
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from gateway.errors import LinkError, LinkRefused, LinkTimeout
from gateway.sockets.base import MAX_SIZE, Handler, Socket, wire_log
from gateway.sockets.connection import Connection
from gateway.sockets.tls import client_tls_context


async def connect(
    url: str,
    handler: Handler,
    *,
    headers: Mapping[str, str],
    subprotocol: str | None = None,
    timeout: float,
    max_size: int = MAX_SIZE,
    target: str = "/ws",
    address: str = "",
) -> Socket:
    """Open a WebSocket; `handler.opened` has been called when this returns.

    url: `ws://…`, `wss://…`, or `unix:/path.sock`, where `target` is the path (and query) that is asked for.
    timeout: seconds until the handshake is done.
    address: where to connect to, instead of resolving the name in `url`, which the request and TLS still go by.
    Raises LinkRefused(status) for any answer but 101, LinkTimeout, and LinkError if nothing listens there or a header
    cannot be sent.
    """
    loop = asyncio.get_running_loop()
    is_unix = url.startswith("unix:")
    try:
        uri = parse_uri(f"ws://localhost{target}" if is_unix else url)
    except (InvalidURI, ValueError) as e:
        raise LinkError(f"not the address of a worker: {url}") from e
    offered = [Subprotocol(subprotocol)] if subprotocol else None
    conn = ClientProtocol(uri, subprotocols=offered, max_size=max_size, logger=wire_log)
    connection = ClientConnection(conn, handler, _request(conn, headers))
    connected = False
    try:
        async with asyncio.timeout(timeout):
            if is_unix:
                await loop.create_unix_connection(lambda: connection, url.removeprefix("unix:"))
            else:
                tls, name = (client_tls_context(), uri.host) if uri.secure else (None, None)
                goal = (address or uri.host, uri.port)
                await loop.create_connection(lambda: connection, *goal, ssl=tls, server_hostname=name)
            await connection.answered
            connected = True
    except TimeoutError:
        raise LinkTimeout(f"no answer within {timeout:g} s") from None
    except OSError as e:
        raise LinkError(f"cannot connect: {e.strerror or e}") from e
    except ValueError as e:  # a host that IDNA does not know, as in ws://bad..host
        raise LinkError(f"not the address of a worker: {url}") from e
    finally:
        if not connected:
            connection.answered.cancel()
            connection.abort()
    return connection


def _request(conn: ClientProtocol, headers: Mapping[str, str]) -> Request:
    """Make the handshake's request.

    Raises LinkError, which shows no value: one of them is a key.
    """
    request = conn.connect()
    try:
        for name, value in headers.items():
            request.headers[name] = value
    except InvalidHeader as e:
        raise LinkError(f"the header {e.name} has a character that cannot be sent") from None
    return request


class ClientConnection(Connection):
    """The client's end. Made by `connect`."""

    _conn: ClientProtocol
    _masked = True

    def __init__(self, conn: ClientProtocol, handler: Handler, request: Request) -> None:
        super().__init__()
        self._conn = conn
        self._waiting = handler
        self._request = request
        self.answered: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._conn.send_request(self._request)
        self._flush()

    def _parse(self, data: bytes) -> int:
        frames = super()._parse(data)
        if self._handler is None:
            self._check_failed()
        return frames

    def _lost(self) -> None:
        super()._lost()
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
