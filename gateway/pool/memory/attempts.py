"""What is remembered of a session's attempts beyond its claims, in memory."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from gateway.pool.memory.expiry import ExpiryQueue


@dataclass(slots=True)
class Counts:
    """Of a session: how many attempts were given out, the newest that was confirmed, and its fence.

    over: that fence was released, or its worker is avoided: what its host still says of it is of a bot that outstays
    its call.
    """

    given: int = 0
    confirmed: int = 0
    fence: int = 0
    over: bool = False


class Attempts:
    """They count on over claims that were lost: a token of an older attempt must never be taken for a newer.

    ended: seconds for which they are remembered when there is no claim any more.
    """

    def __init__(self, ended: float) -> None:
        self._ended = ended
        self._counts: dict[str, Counts] = {}
        self._ends: ExpiryQueue[str] = ExpiryQueue()

    def of(self, session: str, now: float) -> Counts:
        """To be counted on; remembered from now on."""
        self._ends.set(session, now + self._ended)
        return self._counts.setdefault(session, Counts())

    def put_off(self, session: str, now: float) -> None:
        """Remember what is known for another while."""
        if session in self._counts:
            self._ends.set(session, now + self._ended)

    def is_spent(self, session: str, attempt: int) -> bool:
        """This attempt was confirmed, or a newer one was."""
        counts = self._counts.get(session)
        return counts is not None and 0 < attempt <= counts.confirmed

    def note_over(self, session: str, fence: int) -> None:
        """Nobody wants the bot of this fence any more, unless a newer one is known."""
        counts = self._counts.get(session)
        if counts is not None and fence > 0 and counts.fence == fence:
            counts.over = True

    def disowns(self, session: str, fence: int) -> bool:
        """A bot of this fence is not to be believed: a newer one was there, or it outstays its call."""
        counts = self._counts.get(session)
        return counts is not None and (counts.fence > fence or (counts.fence == fence and counts.over))

    def purge(self, now: float, still_held: Container[str]) -> None:
        """Forget what has expired, but not of these sessions."""
        for session in self._ends.due(now):
            if session in still_held:
                self._ends.set(session, now + self._ended)
            else:
                del self._counts[session]

    def __len__(self) -> int:
        return len(self._counts) + len(self._ends)
