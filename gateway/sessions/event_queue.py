"""What waits for a session's task: bounded, as bots, carriers and programs may flood."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gateway.sessions.events import SessionEvent

MAX_QUEUED = 64
"""Events that may wait for the session's task before further commands of the bot are refused: it floods."""
MAX_WAITING = 4 * MAX_QUEUED
"""Events that may wait at all. Beyond that the carrier floods, and what it repeats has been said."""


class EventQueue(asyncio.Queue[SessionEvent]):
    """Keep events until the session's task reads them. Of too many the newest are dropped, and that is logged once."""

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        super().__init__(MAX_WAITING)
        self._log = log
        self._closed = self._flooded = False

    def post(self, event: SessionEvent) -> None:
        """Keep this event, unless the queue is closed."""
        if self._closed:
            return
        if not self.full():
            self.put_nowait(event)
        elif not self._flooded:  # said once, as there may be thousands
            self._flooded = True
            self._log.warning("events dropped: too many wait", first=type(event).__name__)

    async def next_by(self, deadline: float) -> SessionEvent | None:
        """Return the next event, or None when the deadline has passed, which is loop time."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self.get()
        except TimeoutError:
            return None

    def holds(self, wanted: Callable[[SessionEvent], bool]) -> bool:
        """True if an event of this kind waits. It stays where it is."""
        waiting = self._take_all()
        for event in waiting:
            self.put_nowait(event)
        return any(map(wanted, waiting))

    def close(self) -> list[SessionEvent]:
        """Keep no more, and return what waits."""
        self._closed = True
        return self._take_all()

    def _take_all(self) -> list[SessionEvent]:
        return [self.get_nowait() for _ in range(self.qsize())]
