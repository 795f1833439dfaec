"""What a node makes of a registry that does not answer: it stops asking for a moment, and forgives afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable

from gateway.errors import RegistryUnavailable

OPEN = 1.0
"""Seconds after a failure during which nobody asks: a webhook must not spend its time on a server that is gone."""
MISSED = 1.0
"""Seconds without the registry that count as an outage: renewals may have been lost."""


class Outage:
    """Remembers the last outage. Times are seconds of any clock that only grows."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._over = -math.inf

    def missed(self, began: float) -> None:
        """A question asked at `began` was not answered."""
        if self._since is None:
            self._since = began

    def answered(self, now: float) -> None:
        """It answers (again)."""
        if self._since is not None and now - self._since >= MISSED:
            self._over = now
        self._since = None

    def forgot(self, now: float) -> None:
        """It answers, but has lost what it knew: as good as an outage that ended now."""
        self._over = now

    def back(self, now: float) -> float:
        """Seconds since the end of the last outage; infinite if there was none. What has expired is forgiven while
        this is less than one lease of its kind. 0 while one lasts: the question that ends it must forgive already.
        """
        if self._since is not None and now - self._since >= MISSED:
            return 0.0
        return now - self._over


class Breaker:
    """After a failure everybody is refused at once for `OPEN` seconds, then one probe goes first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.outage = Outage()
        self._clock = clock
        self._open_until = -math.inf
        self._failed = False
        self._probing = False

    def check(self) -> None:
        """Raises RegistryUnavailable while nobody is to ask."""
        if self._failed and (self._probing or self._clock() < self._open_until):
            raise RegistryUnavailable("the registry did not answer a moment ago")

    def begin(self) -> float:
        """`check`, and ask: returns the time, for `failed`. One of the three below must follow."""
        self.check()
        self._probing = self._failed
        return self._clock()

    def failed(self, began: float) -> None:
        """No answer."""
        self.outage.missed(began)
        self._failed, self._probing = True, False
        self._open_until = self._clock() + OPEN

    def succeeded(self) -> None:
        """An answer."""
        self._failed = self._probing = False
        self.outage.answered(self._clock())

    def gave_up(self) -> None:
        """Who asked did not wait for the answer."""
        self._probing = False
