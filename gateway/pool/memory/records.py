"""Facts and single-use keys, in memory, until they expire."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.pool.facts import FactEvent, Facts, merge
from gateway.pool.memory.expiry import ExpiryQueue
from gateway.pool.registry import Leases, Once


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

    def merge(self, session: str, event: FactEvent, now: float) -> Facts:
        record = self._records.setdefault(session, _Record(Facts(session=session)))
        record.facts = merge(record.facts, event)
        for alias in event.aliases:
            if self._sessions.setdefault(alias, session) == session:
                record.aliases.add(alias)
        lease = self._leases.ended if record.facts.status == "ended" else self._leases.facts
        self._record_ends.set(session, now + lease)
        return record.facts

    def find(self, alias: str) -> Facts | None:
        record = self._records.get(self._sessions.get(alias, alias))
        return record.facts if record is not None else None

    def once(self, key: str, ttl: float, value: str, now: float) -> Once:
        if key in self._keys:
            first, since = self._keys[key]
            return Once(False, first, now - since)
        self._keys[key] = (value, now)
        self._key_ends.set(key, now + ttl)
        return Once(True, value, 0.0)

    def purge(self, now: float) -> None:
        """Drop what has expired."""
        for session in self._record_ends.due(now):
            for alias in self._records.pop(session).aliases:
                del self._sessions[alias]
        for key in self._key_ends.due(now):
            del self._keys[key]

    def __len__(self) -> int:
        ends = len(self._record_ends) + len(self._key_ends)
        return len(self._records) + len(self._sessions) + len(self._keys) + ends
