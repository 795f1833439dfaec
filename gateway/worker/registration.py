"""A worker host's connection to one gateway (`gateway.workers.v1`), made again when lost."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Protocol

from gateway.errors import LinkError, LinkRefused
from gateway.protocol import workers as wire
from gateway.protocol.codes import CloseCode
from gateway.sockets import Socket, connect
from gateway.worker.options import connect_url

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
JITTER = 0.1, 1.0
"""Seconds before the next attempt: soon, but not all hosts of a cluster at once."""
REFUSED_WAIT = 5.0
"""Seconds after a refusal: a wrong key does not get better quickly."""


class RegisteredHost(Protocol):
    """The host, as its registrations see it."""

    def register_message(self) -> wire.Register:
        """What the host is, and all its workers, as they are now."""

    def beat_message(self) -> wire.Beat:
        """All workers, as they are now."""

    def start_worker_for(self, session: str) -> None:
        """Start a worker for this session."""

    def set_wrapup_seconds(self, seconds: float) -> None:
        """A worker may take this long to end after its call."""

    def connection_changed(self) -> None:
        """Look at `connected` and `left`."""


class Registration:
    """One gateway.

    connected: it knows us.
    left: it has ended as it was meant to, after saying so.
    refused: why it will never take us, "" if it may.
    return_to_left: a gateway that has left is expected back.
    """

    def __init__(self, url: str, key: str, host: RegisteredHost, *, return_to_left: bool) -> None:
        self.url = connect_url(url)
        self.connected = False
        self.left = False
        self.refused = ""
        self._key = key
        self._host = host
        self._return_to_left = return_to_left
        self._loop = asyncio.get_running_loop()
        self._socket: Socket | None = None
        self._ended: asyncio.Future[None] | None = None
        self._was_known = False
        self._turned_away = False
        self._gateway_drains = False
        self._host_drains = False
        self._leaving = False
        self._lease = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._complained = ""

    async def run(self) -> None:
        """Stay registered: until cancelled, or until the gateway has left and that is for good."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            while True:
                self._ended = self._loop.create_future()
                wait = random.uniform(*JITTER)  # noqa: S311  no secret
                try:
                    await connect(
                        self.url,
                        self,
                        headers=headers,
                        subprotocol=wire.SUBPROTOCOL,
                        timeout=CONNECT_TIMEOUT,
                        max_size=wire.MAX_MESSAGE,
                        target=wire.PATH,
                    )
                    await self._ended
                    wait += REFUSED_WAIT if self._turned_away else 0.0
                    if self.left and not self._return_to_left:
                        return
                except LinkRefused as e:
                    self._complain(f"refused this host: {e.status}{_HINTS.get(e.status, '')}")
                    wait += REFUSED_WAIT if e.status < 500 else 0.0
                except LinkError as e:
                    self._complain(f"cannot be reached: {e}")
                await asyncio.sleep(wait)
        finally:
            self.close()

    def beat(self) -> None:
        """Send the workers' states now."""
        if self.connected and self._socket is not None:
            self._socket.send(wire.encode(self._host.beat_message()))

    def drain(self) -> None:
        """Tell the gateway: no new sessions. And each time that we register from now on."""
        self._host_drains = True
        if self._socket is not None:
            self._socket.send(wire.encode(wire.Drain()))

    def close(self) -> None:
        """Leave."""
        self._leaving = True
        self._stop_timer()
        if self._socket is not None:
            self._socket.close()

    # sockets.Handler

    def opened(self, socket: Socket) -> None:
        """Present the host."""
        self._socket, self._gateway_drains, self.left, self._turned_away = socket, False, False, False
        self._register(socket)
        self._timer = self._loop.call_later(CONNECT_TIMEOUT, self._unanswered)

    def received(self, data: bytes, text: bool) -> None:
        """Take a message of the gateway's."""
        match wire.decode_to_host(data) if text else None:
            case wire.Registered(heartbeat_s, lease_s, wrapup_s):
                self._registered(heartbeat_s, lease_s)
                if wrapup_s:
                    self._host.set_wrapup_seconds(wrapup_s)
            case wire.Gone():
                if self._socket is not None:
                    self._register(self._socket)
            case wire.StartWorker(session):
                self._host.start_worker_for(session)
            case wire.Drain():
                self._gateway_drains = True

    def closed(self, code: int, reason: str) -> None:
        """Note that the gateway is gone: after a `drain` and with 1000 it meant to.

        A host that it has never known and that it closes with a reason of its own (1008) is set up wrongly.
        """
        self._stop_timer()
        known, self._socket, self.connected = self.connected, None, False
        self.left = self._gateway_drains and code == CloseCode.NORMAL_CLOSURE
        if code == CloseCode.POLICY_VIOLATION and reason:
            self.refused, self._turned_away = "" if self._was_known else reason, not known
            self._complain(f"does not take this host: {reason}")
        elif not self.left and not self._leaving:
            why = f"{code}, {reason}" if reason else f"{code}"
            self._complain(f"is gone ({why})" if known else f"has not registered this host ({why})")
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        self._host.connection_changed()

    # Inside

    def _register(self, socket: Socket) -> None:
        socket.send(wire.encode(self._host.register_message()))
        if self._host_drains:  # a gateway that was away, or a registry that has forgotten, knows nothing of it
            socket.send(wire.encode(wire.Drain()))

    def _unanswered(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    def _registered(self, heartbeat: float, lease: float) -> None:
        log.info("registered with %s", self.url)
        self._complained = ""
        self._lease, self.connected, self._was_known, self.refused = lease, True, True, ""
        self._stop_timer()
        self._beat_every(heartbeat)
        self._host.connection_changed()

    def _beat_every(self, seconds: float) -> None:
        socket = self._socket
        if socket is None:
            return
        if self._loop.time() - socket.last_received > self._lease:
            socket.abort()  # each beat is answered: this one hears us no more, or cannot answer
            return
        self.beat()
        self._timer = self._loop.call_later(seconds, self._beat_every, seconds)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _complain(self, what: str) -> None:
        """Log each trouble once, not at each attempt."""
        if what != self._complained:
            self._complained = what
            log.warning("%s %s", self.url, what)


_HINTS = {401: ": the key is not among its `[workers] keys`", 403: ": not allowed", 404: ": no gateway there"}
