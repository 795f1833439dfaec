"""When the next start of a worker may be tried, and how long one takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

BACKOFF_FIRST, BACKOFF_LAST = 0.2, 10.0
"""Seconds between two attempts while workers end before they are ready; doubled each time."""
REPEAT_LOG_SECONDS = 60.0
"""Seconds after which a reason that lasts is told again."""
START_TIMES_KEPT = 10
"""Starts of which the longest counts."""


class Backoff:
    """When to try again. Sessions that wait for a worker do not change it."""

    def __init__(self) -> None:
        self.failures = 0
        """Failed attempts since the last worker that stayed; those that were made together count once."""
        self._not_before = 0.0
        self._failed_at = 0.0
        self._told = ""
        self._told_at = 0.0

    def failed(self, began: float, now: float) -> float:
        """Note that an attempt that began then has failed; returns the seconds until the next."""
        if not self.failures or began >= self._failed_at:
            self._not_before = now + min(BACKOFF_LAST, BACKOFF_FIRST * 2.0 ** min(self.failures, 30))
            self._failed_at = now
            self.failures += 1
        return max(0.0, self._not_before - now)

    def succeeded(self) -> None:
        """Note that a worker has stayed: the next failure is the first again."""
        self.failures = 0
        self._not_before = 0.0
        self._told = ""

    def wait(self, now: float) -> float:
        """Seconds until the next attempt may be made, 0 if it may now."""
        return max(0.0, self._not_before - now)

    def should_tell(self, reason: str, now: float) -> bool:
        """True if this reason is new, or has not been told for REPEAT_LOG_SECONDS."""
        if reason == self._told and now - self._told_at < REPEAT_LOG_SECONDS:
            return False
        self._told, self._told_at = reason, now
        return True


class StartTimes:
    """How long a worker takes from the request for its process to its readiness."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=START_TIMES_KEPT)

    @property
    def known(self) -> bool:
        """True if a start has succeeded."""
        return bool(self._seconds)

    def add(self, seconds: float) -> None:
        """Note a start that has succeeded."""
        self._seconds.append(seconds)

    def longest(self, under_way: Iterable[float]) -> float:
        """Return the seconds that a start takes, 0 if unknown.

        It is the longest of the last, or one that is under way and takes longer.

        under_way: for so long, each.
        """
        return max((*self._seconds, *under_way), default=0.0)
