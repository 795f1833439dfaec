"""Many keys, each with one deadline that is mostly put off."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")


MAX_VOID = 64
"""Entries of the heap beyond two for each key: those of deadlines that were dropped or came nearer, which stay until
they would be due, in a day or so. Of more, the heap is made again."""


class ExpiryQueue(Generic[K]):
    """Deadlines by key. Moving one later costs nothing: its heap entry is corrected when it comes due."""

    def __init__(self) -> None:
        self._ends: dict[K, float] = {}
        self._armed: dict[K, float] = {}
        """Of each key, the earliest entry in the heap: later ones are void."""
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def set(self, key: K, when: float) -> None:
        """Set or move the key's deadline."""
        self._ends[key] = when
        if when < self._armed.get(key, float("inf")):
            self._arm(key, when)
            self._drop_void()

    def discard(self, key: K) -> None:
        """Drop the key's deadline, if it has one."""
        self._ends.pop(key, None)
        self._drop_void()

    def due(self, now: float) -> Iterator[K]:
        """Yield the keys that have ended; each is forgotten as it is given, and may be set again meanwhile."""
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self._armed.get(key) != when:
                continue
            del self._armed[key]
            end = self._ends.get(key)
            if end is None:
                continue
            if end > now:
                self._arm(key, end)
                continue
            del self._ends[key]
            yield key

    def __len__(self) -> int:
        return len(self._heap)

    def _arm(self, key: K, when: float) -> None:
        self._armed[key] = when
        self._count += 1  # so that keys need no order
        heapq.heappush(self._heap, (when, self._count, key))

    def _drop_void(self) -> None:
        if len(self._heap) > 2 * len(self._ends) + MAX_VOID:
            self._armed = dict(self._ends)
            self._heap = [(when, n, key) for n, (key, when) in enumerate(self._ends.items())]
            heapq.heapify(self._heap)


def whole_ms(seconds: float) -> float:
    """Round a deadline to what a token carries, so that the claim says the same number on every node."""
    return round(seconds * 1000) / 1000
