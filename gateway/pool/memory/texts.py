"""Texts that are changed in one step, in memory, until they expire."""

from __future__ import annotations

from gateway.pool.memory.expiry import ExpiryQueue
from gateway.pool.registry import T, TextChange

MAX_TEXTS = 50_000
"""At most so many are kept, some 30 MB: answers to idempotency keys live for a day. Of more, those go that were used
the longest ago."""


class Texts:
    """Texts by key, the least recently used first."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._ends: ExpiryQueue[str] = ExpiryQueue()

    def __len__(self) -> int:
        """Return how much is kept of all kinds, for tests."""
        return len(self._texts) + len(self._ends)

    def change(self, key: str, ttl: float, change: TextChange[T], now: float, unix_time: float) -> T:
        """See `Registry.change`."""
        found = self._texts.get(key, "")
        text, result = change(found, unix_time)
        self._texts.pop(key, None)
        if text:
            self._texts[key] = text  # behind the others
            if text != found:
                self._ends.set(key, now + ttl)
            if len(self._texts) > MAX_TEXTS:
                self._drop(next(iter(self._texts)))
        else:
            self._ends.discard(key)
        return result

    def _drop(self, key: str) -> None:
        del self._texts[key]
        self._ends.discard(key)

    def purge(self, now: float) -> None:
        """Drop what has expired."""
        for key in self._ends.due(now):
            del self._texts[key]
