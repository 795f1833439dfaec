"""When which static worker is asked how it is: free ones often, busy ones seldom, all spread in time. Sans-I/O.

A thousand workers asked at once, twice a round, would be a burst that each call hears. Asked one after another, their
rate is bounded: with very many workers each is asked less often.
"""

from __future__ import annotations

import heapq

MIN_SPACING = 0.0045
"""Seconds between two questions where there are many workers: 220 a second cost 2 % of a core. A thousand are asked
every 4.5 s each, before uvicorn closes their connections (after 5 s)."""
BUSY_ROUNDS = 5
"""A worker that is busy, or in a call of ours, is asked once in so many rounds: no caller waits for its answer."""


class ProbeSchedule:
    """Workers by number. every: seconds of a round; longer where there are too many for that."""

    def __init__(self, count: int, every: float, now: float) -> None:
        self.every = max(every, count * MIN_SPACING)
        self._first = now
        self._second_round = now + self.every
        self._at = [now + MIN_SPACING * n for n in range(count)]  # soon: until then none of them is offered
        self._heap = [(at, n) for n, at in enumerate(self._at)]

    @property
    def next(self) -> float:
        """When the next one is due."""
        return self._heap[0][0] if self._heap else float("inf")

    def first_round(self, now: float) -> bool:
        """True until all have been asked once."""
        return now < self._first + MIN_SPACING * len(self._at)

    def due(self, now: float) -> list[int]:
        """Take those that are due. Each is asked again after `every`, unless `ask_seldom` or `hurry` says otherwise."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, n = heapq.heappop(self._heap)
            if at == self._at[n]:
                found.append(n)
                # From when it was due: the spread stays. Rounds that a standstill has missed are left out.
                first = at < self._second_round
                spread = self._second_round + self.every * n / len(self._at)
                missed = int((now - at) / self.every)
                self._set(n, max(spread, now) if first and not missed else at + self.every * (missed + 1))
        return found

    def ask_seldom(self, n: int, now: float) -> None:
        """Ask this one later than in the next round."""
        self._set(n, max(self._at[n], now + BUSY_ROUNDS * self.every))

    def hurry(self, n: int, now: float) -> None:
        """Ask this one now."""
        if self._at[n] > now:
            self._set(n, now)

    def _set(self, n: int, at: float) -> None:
        self._at[n] = at
        heapq.heappush(self._heap, (at, n))
