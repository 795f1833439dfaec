"""Those on hold, in memory: per service, in the order in which they came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from gateway.pool.memory.expiry import ExpiryQueue


class HoldQueues:
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

    def leave_some(
        self, service: str, ahead: int, total: int, could_serve: Callable[[str, frozenset[str]], bool]
    ) -> bool:
        """Return whether so many ahead in the queue leave something of `total`: one that avoids all that is free does
        not count, as it could not be served now. Looks at no more of them than it must: all on hold ask this whenever
        something comes free.
        """
        first = islice(self.of(service).items(), ahead)
        able = (one for one, avoid in first if not avoid or could_serve(one, avoid))
        return sum(1 for _ in islice(able, total)) < total

    def join(self, service: str, session: str, avoid: frozenset[str], until: float, *, first: bool) -> None:
        """Take a position, or keep the one it has. first: before all others."""
        queue = self._queues.setdefault(service, {})
        if first:
            queue = self._queues[service] = {session: avoid, **queue}
        queue[session] = avoid
        self._ends.set((service, session), until)

    def leave(self, service: str, session: str) -> bool:
        """Give the position up. Returns whether there was one."""
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
        """Return how much is kept of all kinds, for tests."""
        return len(self._queues) + len(self._ends)
