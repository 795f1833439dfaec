"""How long a caller waits for a bot, as the record tells it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.pool.facts import FactEvent, Facts
from gateway.pool.registry import Claim


class BotWait:
    """Measure a session's waits for its bots.

    facts: what was known when the session began here.
    now: seconds, of a clock that only grows.
    """

    def __init__(self, facts: Facts, now: Callable[[], float]) -> None:
        self._hold_ms = facts.hold_ms
        self._now = now
        self._since = now()
        self._on_hold = self._cold = False

    def begin(self, claim: Claim | None, *, first: bool) -> None:
        """Measure from now on, as a worker is looked for.

        claim: what the stream brought.
        first: the session has had no bot yet: without a claim its caller is on hold.
        """
        self._since = self._now()
        self._on_hold = first and claim is None
        self._cold = claim is not None and claim.worker is None

    def note_queued(self) -> None:
        """Count the wait as one on hold: no slot is free."""
        self._on_hold = True

    def note_starting(self) -> None:
        """Count the wait as one for a worker that is being started."""
        self._cold = True

    def over(self, starts: int) -> FactEvent:
        """Return what is to be remembered now that a bot has the call. starts: of workers, with this one."""
        milliseconds = max(1, round(1000 * (self._now() - self._since)))
        if self._on_hold:
            self._hold_ms += milliseconds
        first = starts <= 1
        return FactEvent(
            starts=starts,
            hold_ms=self._hold_ms,
            bot_start_ms=milliseconds if first else 0,
            cold=self._cold and first,
        )
