"""A day in seconds: an event loop whose time passes only when everybody waits, and sockets that are no sockets."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable

from gateway.sockets import Handler
from tests.media.conftest import FakeSocket


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and jumps to the next timer as soon as nothing is ready."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now


class _Jump(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and for nothing that time could bring")
            self._loop.now += timeout
        return ready


class OurEnd(FakeSocket):
    """The gateway's end of a connection. told: the peer hears what we send; peer_gone: that we have closed.

    The peer ends it with `lose(code)`; either way the handler hears of the end once, a moment later.
    """

    def __init__(
        self,
        handler: Handler,
        told: Callable[[str | bytes], None] = lambda _: None,
        peer_gone: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._handler: Handler | None = handler
        self._told = told
        self._peer_gone = peer_gone
        self.deaf = False
        """The peer answers no pings, and no closing handshake before it is given up."""
        self.last_received = self.last_pong = self._loop.time()

    @property
    def open(self) -> bool:
        return self._handler is not None

    def set_handler(self, handler: Handler) -> None:
        if self._handler is not None:
            self._handler = handler

    def send(self, data: str | bytes) -> None:
        if self.open and not self.deaf:
            self._told(data)

    def ping(self) -> None:
        if self.open and not self.deaf:
            self.last_pong = self._loop.time()

    def hear(self, data: str) -> None:
        """The peer says something."""
        self.last_received = self._loop.time()
        if self._handler is not None:
            self._handler.received(data.encode(), True)

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.open and self.closed is None:
            self.closed = code
            self._loop.call_later(2.0 if self.deaf else 0.001, self._end, 1006 if self.deaf else code)
            self._peer_gone(code)

    def abort(self) -> None:
        self.aborted = True
        if self.open:
            self._loop.call_soon(self._end, 1006)
            self._peer_gone(1006)

    def lose(self, code: int) -> None:
        """The peer is gone."""
        self._loop.call_soon(self._end, code)

    def _end(self, code: int) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.closed(code, "")
