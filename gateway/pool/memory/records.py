"""Facts and single-use keys, in memory, until they expire."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from gateway.pool.facts import FactEvent, Facts, merge
from gateway.pool.memory.expiry import ExpiryQueue
from gateway.pool.registry import Leases, SetResult

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


@dataclass(slots=True)
class _Record:
    facts: Facts
    aliases: set[str] = field(default_factory=set)


class Records:
    """Facts of sessions by id and alias, and keys that are set once."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._records: dict[str, _Record] = {}
        self._record_ends: ExpiryQueue[str] = ExpiryQueue()
        self._sessions: dict[str, str] = {}
        """Alias -> session: the first that had it."""
        self._keys: dict[str, tuple[str, float]] = {}
        self._key_ends: ExpiryQueue[str] = ExpiryQueue()
        self._long_keys = LongKeys()

    def merge(self, session: str, event: FactEvent, now: float) -> Facts:
        record = self._records.setdefault(session, _Record(Facts(session=session)))
        record.facts = merge(record.facts, event)
        for alias in event.aliases:
            if self._sessions.setdefault(alias, session) == session:
                record.aliases.add(alias)
        lease = self._leases.ended if record.facts.closed else self._leases.facts
        self._record_ends.set(session, now + lease)
        return record.facts

    def find(self, alias: str) -> Facts | None:
        record = self._records.get(self._sessions.get(alias, alias))
        return record.facts if record is not None else None

    def set_if_absent(self, key: str, ttl: float, value: str, now: float) -> SetResult:
        if ttl > LONG:
            return self._long_keys.set_if_absent(key, ttl, value, now)
        if key in self._keys:
            first, since = self._keys[key]
            return SetResult(False, first, now - since)
        self._keys[key] = (value, now)
        self._key_ends.set(key, now + ttl)
        return SetResult(True, value, 0.0)

    def purge(self, now: float) -> None:
        """Drop what has expired."""
        for session in self._record_ends.due(now):
            for alias in self._records.pop(session).aliases:
                del self._sessions[alias]
        for key in self._key_ends.due(now):
            del self._keys[key]
        self._long_keys.purge(now)

    def __len__(self) -> int:
        """Return how much is kept of all kinds, for tests."""
        ends = len(self._record_ends) + len(self._key_ends)
        return len(self._records) + len(self._sessions) + len(self._keys) + len(self._long_keys) + ends
