"""Attempt numbers and the last fence of a session, which outlive its claims; in memory."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from gateway.pool.memory.expiry import ExpiryQueue


@dataclass(slots=True)
class AttemptCounts:
    """Counts of one session: attempts given out, the newest that was confirmed, and its fence.

    released: that fence was released, or its worker is avoided. What its host still says of it is of a bot that
    outstays its call.
    """

    given: int = 0
    confirmed: int = 0
    fence: int = 0
    released: bool = False


class Attempts:
    """The counts of all sessions. Numbers go on when a claim was lost: a token of an older attempt must never pass for
    a newer.

    ended: seconds for which they are remembered when there is no claim any more.
    """

    def __init__(self, ended: float) -> None:
        self._ended = ended
        self._counts: dict[str, AttemptCounts] = {}
        self._ends: ExpiryQueue[str] = ExpiryQueue()

    def of(self, session: str, now: float) -> AttemptCounts:
        """Return the session's counts, to be changed; they are remembered from now on."""
        self._ends.set(session, now + self._ended)
        return self._counts.setdefault(session, AttemptCounts())

    def keep_longer(self, session: str, now: float) -> None:
        """Remember the session's counts for `ended` seconds from now."""
        if session in self._counts:
            self._ends.set(session, now + self._ended)

    def is_spent(self, session: str, attempt: int) -> bool:
        """Return whether this attempt was confirmed, or a newer one was."""
        counts = self._counts.get(session)
        return counts is not None and 0 < attempt <= counts.confirmed

    def note_released(self, session: str, fence: int) -> None:
        """Note that the bot of this fence is not wanted any more, unless a newer one is known."""
        counts = self._counts.get(session)
        if counts is not None and fence > 0 and counts.fence == fence:
            counts.released = True

    def rejects(self, session: str, fence: int) -> bool:
        """Return whether a bot of this fence is outdated: a newer one was there, or it outlasts its call."""
        counts = self._counts.get(session)
        return counts is not None and (counts.fence > fence or (counts.fence == fence and counts.released))

    def purge(self, now: float, still_held: Container[str]) -> None:
        """Forget what has expired, but not of these sessions."""
        for session in self._ends.due(now):
            if session in still_held:
                self._ends.set(session, now + self._ended)
            else:
                del self._counts[session]

    def __len__(self) -> int:
        """Return how much is kept of all kinds, for tests."""
        return len(self._counts) + len(self._ends)
