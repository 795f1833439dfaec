"""Facts of sessions, in memory, until they expire."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.pool.facts import FactEvent, Facts, merge
from gateway.pool.memory.expiry import ExpiryQueue
from gateway.pool.registry import Leases


@dataclass(slots=True)
class _Known:
    facts: Facts
    aliases: set[str] = field(default_factory=set)


class FactStore:
    """Facts by session and alias. leases: how long they are kept."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._known: dict[str, _Known] = {}
        self._ends: ExpiryQueue[str] = ExpiryQueue()
        self._sessions: dict[str, str] = {}
        """Alias -> session: the first that had it."""

    def merge(self, session: str, event: FactEvent, now: float) -> Facts:
        """See `Registry.merge`."""
        known = self._known.setdefault(session, _Known(Facts(session=session)))
        known.facts = merge(known.facts, event)
        for alias in event.aliases:
            if self._sessions.setdefault(alias, session) == session:
                known.aliases.add(alias)
        lease = self._leases.ended if known.facts.may_expire_early else self._leases.facts
        self._ends.set(session, now + lease)
        return known.facts

    def find(self, alias: str) -> Facts | None:
        """See `Registry.find`."""
        known = self._known.get(self._sessions.get(alias, alias))
        return known.facts if known is not None else None

    def purge(self, now: float) -> None:
        """Drop what has expired."""
        for session in self._ends.due(now):
            for alias in self._known.pop(session).aliases:
                del self._sessions[alias]

    def __len__(self) -> int:
        """Return how much is kept of all kinds, for tests."""
        return len(self._known) + len(self._sessions) + len(self._ends)
