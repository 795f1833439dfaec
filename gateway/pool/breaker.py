"""Stops asking a registry that does not answer, for a moment."""

from __future__ import annotations

import math
from collections.abc import Callable

from gateway.errors import RegistryUnavailable
from gateway.pool.outage import Outage

REFUSE_SECONDS = 1.0
"""Seconds after a failure in which no question is asked: a webhook has no time for a server that is gone."""


class Breaker:
    """After a failure all questions are refused at once for `REFUSE_SECONDS` seconds, then one probe goes first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.outage = Outage()
        self._clock = clock
        self._open_until = -math.inf
        self._failed = False
        self._probing = False

    def check(self) -> None:
        """Raise RegistryUnavailable while no question may be asked."""
        if self._failed and (self._probing or self._clock() < self._open_until):
            raise RegistryUnavailable("the registry did not answer a moment ago")

    def begin(self) -> float:
        """`check`, and ask: return the time, for the next call, which must follow.

        That is `succeeded` or `misanswered` of an answer, `failed` of none, `gave_up` where there is no verdict.
        """
        self.check()
        self._probing = self._failed
        return self._clock()

    def failed(self, began: float) -> None:
        """There was no answer."""
        self.outage.missed(began)
        self._failed, self._probing = True, False
        self._open_until = self._clock() + REFUSE_SECONDS

    def misanswered(self, began: float) -> None:
        """The answer makes no sense: an outage, if it lasts. Others may ask: one damaged key may be the reason."""
        self.outage.missed(began)
        self._probing = False

    def succeeded(self) -> None:
        """There was an answer."""
        self._failed = self._probing = False
        self.outage.answered(self._clock())

    def gave_up(self) -> None:
        """No verdict: the asker was canceled, or gave up for another reason."""
        self._probing = False
