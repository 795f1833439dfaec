"""When the registry was away, and for how long it has been back."""

from __future__ import annotations

import math

OUTAGE_AFTER = 1.0
"""Seconds without the registry from which on it is an outage: renewals may have been lost."""


class Outage:
    """Remembers the last outage. Times are seconds of any clock that only grows."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._over = -math.inf

    def missed(self, began: float) -> None:
        """Note that a question asked at `began` was not answered."""
        if self._since is None:
            self._since = began

    def answered(self, now: float) -> None:
        """Note that it answers, perhaps again."""
        if self._since is not None and now - self._since >= OUTAGE_AFTER:
            self._over = now
        self._since = None

    def forgot(self, now: float) -> None:
        """Note that it answers, but has lost what it knew: as good as an outage that ended now."""
        self._over = now

    def seconds_since_outage(self, now: float) -> float:
        """Return the seconds since the end of the last outage; infinite if there was none.

        There is grace while this is less than one lease. 0 during an outage: the request that finds the registry back
        must grant the grace already.
        """
        if self._since is not None and now - self._since >= OUTAGE_AFTER:
            return 0.0
        return now - self._over
