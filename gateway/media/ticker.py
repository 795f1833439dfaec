"""One 20 ms tick for all that lives by time: playout, handshakes, deadlines. Paced by absolute deadlines.

A tick that runs late is followed at once by the next one that is due, not by a longer wait: relative sleeps drift,
and a drifting pace starves the carrier's jitter buffer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

TICK = 0.02
"""Seconds: one frame of audio."""


MAX_FAILURES = 50
"""Ticks in a row, a second, that may fail before its owner is told."""
LOG_EVERY = 1.0
"""Seconds between two log lines of failed ticks."""


class Tickable(Protocol):
    """Something that lives by time."""

    def tick(self, now: float) -> None:
        """now: `loop.time()`."""


class Ticker:
    """Calls `tick(now)` of everything added, every 20 ms, until stopped."""

    def __init__(self) -> None:
        self._members: dict[Tickable, Callable[[], None] | None] = {}
        self._failing: dict[Tickable, int] = {}  # failed ticks in a row
        self._log_at = 0.0
        self._not_logged = 0
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.lag = 0.0
        """How late the last tick was, in seconds: the event loop's own lag."""

    def add(self, member: Tickable, on_failing: Callable[[], None] | None = None) -> None:
        """Call the member's `tick` from now on, also if one raises.

        on_failing: called, once in a row, when MAX_FAILURES in a row have raised: the member does not live any more.
        """
        self._members[member] = on_failing

    def discard(self, member: Tickable) -> None:
        self._members.pop(member, None)
        self._failing.pop(member, None)

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
            except Exception:  # a bug of one session must not stop the clock of all, nor of this one
                self._note_failure(member, now)
            else:
                if self._failing:
                    self._failing.pop(member, None)

    def _note_failure(self, member: Tickable, now: float) -> None:
        """Log the exception that is being handled, unless another was just logged; tell of a member that only fails."""
        if now >= self._log_at:
            log.exception("a tick raised: a bug; %d more since the last such line", self._not_logged)
            self._log_at, self._not_logged = now + LOG_EVERY, 0
        else:
            self._not_logged += 1
        if member not in self._members:  # it has left the clock in the same tick
            return
        failures = self._failing[member] = self._failing.get(member, 0) + 1
        on_failing = self._members[member]
        if failures == MAX_FAILURES and on_failing is not None:
            on_failing()
