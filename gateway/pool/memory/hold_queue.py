"""Those on hold, in memory: per service, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.pool.memory.expiry import ExpiryQueue


class Queues:
    """All services' queues. An entry ends unless it is joined again in time."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[str, frozenset[str]]] = {}
        self._ends: ExpiryQueue[tuple[str, str]] = ExpiryQueue()

    def of(self, service: str) -> Mapping[str, frozenset[str]]:
        """Session -> the workers that it avoids, in order."""
        return self._queues.get(service, {})

    def ahead(self, service: str, session: str) -> int:
        """How many stand before the session, or would if it came now."""
        queue = self.of(service)
        return list(queue).index(session) if session in queue else len(queue)

    def join(self, service: str, session: str, avoid: frozenset[str], until: float, *, first: bool) -> None:
        """Take a place, or keep the one it has. first: before all others."""
        queue = self._queues.setdefault(service, {})
        if first:
            queue = self._queues[service] = {session: avoid, **queue}
        queue[session] = avoid
        self._ends.set((service, session), until)

    def leave(self, service: str, session: str) -> bool:
        """Give it up. Returns whether there was one."""
        if session not in self.of(service):
            return False
        queue = self._queues[service]
        del queue[session]
        if not queue:
            del self._queues[service]
        self._ends.discard((service, session))
        return True

    def due(self, now: float) -> Iterator[tuple[str, str]]:
        """(service, session) of those who have not come again in time; the caller makes them leave."""
        return self._ends.due(now)

    def __len__(self) -> int:
        return len(self._queues) + len(self._ends)
