"""One 20 ms tick for all that lives by time: playout, handshakes, deadlines. Paced by absolute deadlines.

A tick that runs late is followed at once by the next one that is due, not by a longer wait: relative sleeps drift,
and a drifting pace starves the carrier's jitter buffer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)

TICK = 0.02
"""Seconds: one frame of audio."""


class Ticked(Protocol):
    """Something that lives by time."""

    def tick(self, now: float) -> None:
        """now: `loop.time()`."""


class Ticker:
    """Calls `tick(now)` of everything added, every 20 ms, until stopped."""

    def __init__(self) -> None:
        self._members: dict[Ticked, None] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.lag = 0.0
        """How late the last tick was, in seconds: the event loop's own lag."""

    def add(self, member: Ticked) -> None:
        self._members[member] = None

    def discard(self, member: Ticked) -> None:
        self._members.pop(member, None)

    def __len__(self) -> int:
        return len(self._members)

    def start(self) -> None:
        """Begin, in the running loop."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + TICK
        self._handle = loop.call_at(self._due, self._tick, loop)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self.lag = max(0.0, now - self._due)
        self._due += TICK
        if self._due < now - 1.0:  # suspended (SIGSTOP, a sleeping laptop): do not replay the lost ticks
            self._due = now + TICK
        self._handle = loop.call_at(self._due, self._tick, loop)  # first, so that a member can stop it
        for member in tuple(self._members):
            try:
                member.tick(now)
            except Exception:  # a bug of one session must not stop the clock of all
                log.exception("a tick raised; the member is taken off the clock")
                self.discard(member)
