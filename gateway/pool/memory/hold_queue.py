"""Those on hold, in memory: per service, in the order in which they came."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from gateway.pool.memory.expiry import ExpiryQueue


@dataclass(slots=True)
class _Queue:
    places: dict[str, int] = field(default_factory=dict)
    """Session -> a number that grows with each that came."""
    avoids: dict[str, frozenset[str]] = field(default_factory=dict)
    """Session -> the workers that it avoids."""
    in_order: list[tuple[int, str]] = field(default_factory=list)
    """Every place and its session, sorted."""

    def rank(self, session: str) -> int:
        """How many stand before this session, which is in the queue. All on hold ask it at each free slot."""
        return bisect_left(self.in_order, (self.places[session], session))


class HoldQueues:
    """All services' queues. An entry ends unless it is joined again in time."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._ends: ExpiryQueue[tuple[str, str]] = ExpiryQueue()
        self._joined = 0
        """How many have come so far, to all queues."""

    def length(self, service: str) -> int:
        """How many are on hold."""
        queue = self._queues.get(service)
        return len(queue.places) if queue is not None else 0

    def ahead(self, service: str, session: str) -> int:
        """How many stand before the session, or would if it came now."""
        queue = self._queues.get(service)
        return queue.rank(session) if queue is not None and session in queue.places else self.length(service)

    def leave_some(
        self, service: str, ahead: int, total: int, could_serve: Callable[[str, frozenset[str]], bool]
    ) -> bool:
        """Return whether so many ahead in the queue leave something of `total`: one that avoids all that is free does
        not count, as it could not be served now. Looks at no more of them than it must: all on hold ask this whenever
        something comes free.
        """
        queue = self._queues.get(service, _Queue())
        first = ((one, queue.avoids[one]) for _, one in islice(queue.in_order, ahead))
        able = (one for one, avoid in first if not avoid or could_serve(one, avoid))
        return sum(1 for _ in islice(able, total)) < total

    def join(self, service: str, session: str, avoid: frozenset[str], until: float, *, first: bool) -> None:
        """Take a position, or keep the one it has. first: before all others."""
        queue = self._queues.setdefault(service, _Queue())
        if session not in queue.places:
            self._joined += 1
            place = -self._joined if first else self._joined
            queue.places[session] = place
            insort(queue.in_order, (place, session))
        queue.avoids[session] = avoid
        self._ends.set((service, session), until)

    def leave(self, service: str, session: str) -> bool:
        """Give the position up. Returns whether there was one."""
        queue = self._queues.get(service)
        if queue is None or session not in queue.places:
            return False
        del queue.in_order[queue.rank(session)], queue.places[session], queue.avoids[session]
        if not queue.places:
            del self._queues[service]
        self._ends.discard((service, session))
        return True

    def due(self, now: float) -> Iterator[tuple[str, str]]:
        """(service, session) of those who have not come again in time; the caller makes them leave."""
        return self._ends.due(now)

    def __len__(self) -> int:
        """Return how much is kept of all kinds, for tests."""
        return len(self._queues) + len(self._ends)
