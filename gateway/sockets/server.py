"""The server's end of a WebSocket, which decides on an upgrade before it is answered.

It runs behind uvicorn or on its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Any

from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from gateway.sockets.base import HANDSHAKE_TIMEOUT, Accept, Decision, Refusal, Upgrade, wire_log
from gateway.sockets.connection import Connection
from gateway.sockets.headers import LIST_HEADERS, asks_for_websocket, combine, list_members

log = logging.getLogger(__name__)


def server_protocol(
    decide: Callable[[Upgrade], Decision],
    *,
    plain: Callable[[Upgrade], Refusal] | None = None,
    lists: Collection[str] = (),
    invalid: Callable[[int], None] = lambda _: None,
) -> type[ServerConnection]:
    """Make a protocol class for uvicorn's `ws=` or for the servers of asyncio.

    decide: called for each valid upgrade before it is answered; if it raises, the answer is 500.
    plain: answers GET requests that ask for no upgrade (standalone only: uvicorn keeps those); default 426.
    lists: names of headers, in lower case, that are lists beside those of HTTP itself.
    invalid: told the status with which a handshake is refused that breaks RFC 6455.
    """
    all_lists = LIST_HEADERS | frozenset(lists)

    class BoundConnection(ServerConnection):
        def __init__(self, config: object = None, server_state: Any = None, app_state: object = None) -> None:
            # The arguments are uvicorn's. Of its state only the set of connections matters to us.
            connections = server_state.connections if server_state is not None else set()
            super().__init__(decide, plain, connections, all_lists, invalid)

    return BoundConnection


class ServerConnection(Connection):
    """The server's end. Made by `server_protocol`."""

    def __init__(
        self,
        decide: Callable[[Upgrade], Decision],
        plain: Callable[[Upgrade], Refusal] | None,
        connections: set[Any],
        lists: Collection[str],
        invalid: Callable[[int], None],
    ) -> None:
        super().__init__()
        self._decide = decide
        self._plain = plain
        self._connections = connections
        self._lists = lists
        self._invalid = invalid
        self._handshake = ServerProtocol(logger=wire_log)
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
                return
        if self._handshake.handshake_exc is not None:  # no request at all, or more and longer headers than are read
            self._invalid(400)

    def _answer(self, request: Request) -> None:
        """Decide on the upgrade and answer it.

        The rest of the connection has a protocol of its own, as the size of messages is known only now.
        """
        handshake = self._handshake
        headers = combine(request.headers.raw_items(), self._lists)
        if asks_for_websocket(headers):  # the library refuses lists of several protocols, and empty lines
            for name, member in (("Connection", "Upgrade"), ("Upgrade", "websocket")):
                del request.headers[name]
                request.headers[name] = member
        response = handshake.accept(request)
        decision: Decision | None = None
        try:
            if response.status_code == 101:
                decision = self._decide(self._upgrade(request, headers))
            elif response.status_code == 426 and self._plain is not None:
                decision = self._plain(self._upgrade(request, headers))
            else:
                self._invalid(response.status_code)
        except Exception:
            log.exception("could not decide on an upgrade")
            decision = Refusal(500)
        if isinstance(decision, Refusal):
            response = handshake.reject(decision.status, decision.body)
            if decision.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 11.6.1
        elif (
            decision is not None
            and decision.subprotocol
            and decision.subprotocol in list_members(headers.get("sec-websocket-protocol", ""))
        ):
            response.headers["Sec-WebSocket-Protocol"] = decision.subprotocol
        handshake.send_response(response)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()
        if isinstance(decision, Accept):
            self._conn = ServerProtocol(state=OPEN, max_size=decision.max_size, logger=wire_log)
            self._open(decision.handler)

    def _upgrade(self, request: Request, headers: dict[str, str]) -> Upgrade:
        path, _, query = request.path.partition("?")
        peername = self._transport.get_extra_info("peername") if self._transport is not None else None
        peer = peername[0] if isinstance(peername, tuple) and peername else ""
        return Upgrade(path, query, headers, str(peer))
