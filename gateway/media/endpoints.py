"""The two ends of a bridge: one step from a WebSocket to the bridge, with nothing above it entered for a frame.

The bridge writes to the other socket itself, so a frame's way is connection, endpoint, bridge, connection. One message
of audio in `TIMED_EVERY` is timed; all others pay nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.media.types import MediaPath
from gateway.protocol.codes import CloseCode
from gateway.sockets import Handler, Socket

TIMED_EVERY = 47
"""One message in so many is timed (in PCM, of audio): a prime, so that no rhythm of the traffic is met each time."""


class TransitTimer(Protocol):
    """Passes one message on, and keeps how long that took.

    direction: "inbound" or "outbound".
    """

    def __call__(
        self, direction: str, deliver: Callable[[bytes, bool, float], None], data: bytes, text: bool, now: float
    ) -> None: ...


class StreamEndpoint(Handler):
    """The carrier's end, from the end of the handshake on.

    on_closed: is told the close code, once.
    """

    def __init__(self, bridge: MediaPath, timer: TransitTimer, on_closed: Callable[[int], None]) -> None:
        self._timer = timer
        self._on_closed = on_closed
        self._time = asyncio.get_running_loop().time
        self.serve(bridge)

    def serve(self, bridge: MediaPath) -> None:
        """Deliver to this bridge from now on."""
        self._deliver = bridge.stream_received
        self._counts = bridge.counts

    def opened(self, socket: Socket) -> None:
        """Nothing to do: the socket was open before it came to this end."""

    def received(self, data: bytes, text: bool) -> None:
        if self._counts.from_carrier % TIMED_EVERY:
            self._deliver(data, text, self._time())
        else:
            self._timer("inbound", self._deliver, data, text, self._time())

    def closed(self, code: int, reason: str) -> None:
        self._on_closed(code)


class LinkEndpoint(Handler):
    """The worker's end.

    It is opened before there is a bridge, and bound to one when the call's stream has started.

    `closed`, by the socket: sets `gone`, and counts the link as lost. `lose`: counts it as lost while its socket may be
    open; `wait_closed` returns. `close` and `abort`: end the socket from here, and `closed` follows.
    """

    def __init__(self, timer: TransitTimer) -> None:
        self.socket: Socket | None = None
        """None until the WebSocket is open."""
        self.gone = asyncio.Event()
        """The connection is closed, on either side's word."""
        self.spoke = False
        """Whether the worker had said anything (audio; in relay, any message) when the link was lost. Set by `lose`."""
        self._spoken_before = 0
        self._bridge: MediaPath | None = None
        self._timer = timer
        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._code: asyncio.Future[int] = loop.create_future()

    @property
    def open(self) -> bool:
        return self.socket is not None and not self.gone.is_set()

    def bind(self, bridge: MediaPath) -> Socket | None:
        """Pass on what the worker says from now on, and return the socket.

        None: it is closed already. What the worker said before is dropped: there was no call yet.
        """
        if self.gone.is_set():
            return None
        self._bridge, self._spoken_before = bridge, bridge.counts.from_bot
        return self.socket

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes, text: bool) -> None:
        bridge = self._bridge
        if bridge is None:
            return
        if text or bridge.counts.from_bot % TIMED_EVERY:
            bridge.link_received(data, text, self._time())
        else:
            self._timer("outbound", bridge.link_received, data, text, self._time())

    def closed(self, code: int, reason: str) -> None:
        self.gone.set()
        self.lose(code)

    def lose(self, code: int = CloseCode.ABNORMAL_CLOSURE) -> None:
        """Count the link as closed.

        Without a code: the worker does not answer, as if the connection had broken.
        """
        if self._bridge is not None:
            self.spoke = self._bridge.counts.from_bot > self._spoken_before
            self._bridge = None
        if not self._code.done():
            self._code.set_result(code)

    async def wait_closed(self) -> int:
        """Return the close code, 1006 if the link broke or its worker does not answer."""
        return await asyncio.shield(self._code)

    def close(self, code: int = CloseCode.NORMAL_CLOSURE) -> None:
        """Close the WebSocket; nothing more is passed on."""
        self._bridge = None
        if self.socket is not None:
            self.socket.close(code)

    def abort(self) -> None:
        """Drop the connection now."""
        self._bridge = None
        if self.socket is not None:
            self.socket.abort()
