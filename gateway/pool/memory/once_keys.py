"""Keys that are set once, in memory, until they expire."""

from __future__ import annotations

from collections import OrderedDict

from gateway.pool.memory.expiry import ExpiryQueue
from gateway.pool.registry import SetResult

LONG = 3600.0
"""Seconds: keys that live longer are nonces and requests, which are many."""
MAX_LONG_KEYS = 200_000
"""At most so many of those are kept, some 60 MB. Of more, the oldest go: at 20 calls a minute they last for a week."""


class LongKeys:
    """Keys that live for days, the oldest first. Their number is bounded; they are dropped in their order."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, tuple[str, float, float]] = OrderedDict()
        """Of each its value, since when it is set, and until when."""

    def __len__(self) -> int:
        return len(self._keys)

    def set_if_absent(self, key: str, ttl: float, value: str, now: float) -> SetResult:
        """See `Registry.set_if_absent`."""
        known = self._keys.get(key)
        if known is not None and known[2] > now:
            return SetResult(False, known[0], now - known[1])
        self._keys[key] = (value, now, now + ttl)
        self._keys.move_to_end(key)
        if len(self._keys) > MAX_LONG_KEYS:
            self._keys.popitem(last=False)
        return SetResult(True, value, 0.0)

    def purge(self, now: float) -> None:
        """Drop the oldest, as far as they have expired."""
        while self._keys and next(iter(self._keys.values()))[2] <= now:
            self._keys.popitem(last=False)


class OnceKeys:
    """All keys of one registry: those of a short life, each dropped when it has expired, and those of a long one."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[str, float]] = {}
        """Of each its value, and since when it is set."""
        self._ends: ExpiryQueue[str] = ExpiryQueue()
        self._long_keys = LongKeys()

    def set_if_absent(self, key: str, ttl: float, value: str, now: float) -> SetResult:
        """See `Registry.set_if_absent`."""
        if ttl > LONG:
            return self._long_keys.set_if_absent(key, ttl, value, now)
        if key in self._keys:
            first, since = self._keys[key]
            return SetResult(False, first, now - since)
        self._keys[key] = (value, now)
        self._ends.set(key, now + ttl)
        return SetResult(True, value, 0.0)

    def purge(self, now: float) -> None:
        """Drop what has expired."""
        for key in self._ends.due(now):
            del self._keys[key]
        self._long_keys.purge(now)

    def __len__(self) -> int:
        """Return how much is kept of all kinds, for tests."""
        return len(self._keys) + len(self._ends) + len(self._long_keys)
