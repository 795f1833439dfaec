"""The server's end: decides on an upgrade before it is answered. Runs behind uvicorn or on its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from gateway.sockets.base import HANDSHAKE_TIMEOUT, Accept, Decision, Refusal, Upgrade, wire_log
from gateway.sockets.connection import Connection

log = logging.getLogger(__name__)


def server_protocol(
    decide: Callable[[Upgrade], Decision], *, plain: Callable[[Upgrade], Refusal] | None = None
) -> type[ServerConnection]:
    """A class for uvicorn's `ws=`, `loop.create_server` and `loop.create_unix_server`.

    decide: called for each valid upgrade before it is answered; if it raises, the answer is 500.
    plain: answers GET requests that ask for no upgrade (standalone only: uvicorn keeps those); default 426.
    """

    class Door(ServerConnection):
        def __init__(self, config: object = None, server_state: Any = None, app_state: object = None) -> None:
            # The arguments are uvicorn's. Of its state only the set of connections matters to us.
            super().__init__(decide, plain, server_state.connections if server_state is not None else set())

    return Door


class ServerConnection(Connection):
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
            self._conn = ServerProtocol(state=OPEN, max_size=decision.max_size, logger=wire_log)
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
