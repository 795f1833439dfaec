"""Who waits for a slot to be freed, in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Waiters:
    """How many wait for the next hint of one service, and for what."""

    count: int = 0
    event: asyncio.Event = field(default_factory=asyncio.Event)


class SlotNotifier:
    """Per service, that a slot may have been freed. Each hint wakes all who wait for it, once."""

    def __init__(self) -> None:
        self._waiters: dict[str, Waiters] = {}
        self._told: Counter[str] = Counter()

    def told(self, service: str) -> int:
        """How many hints there were so far."""
        return self._told[service]

    @contextmanager
    def next(self, service: str) -> Iterator[asyncio.Event]:
        """Yield an event that the next hint sets. From here on no hint is missed, even before it is awaited."""
        waiters = self._waiters.setdefault(service, Waiters())
        waiters.count += 1
        try:
            yield waiters.event
        finally:
            waiters.count -= 1
            if not waiters.count and self._waiters.get(service) is waiters:
                del self._waiters[service]

    def tell(self, service: str) -> None:
        """Wake those who wait."""
        self._told[service] += 1
        if service in self._waiters:
            self._waiters.pop(service).event.set()

    def __len__(self) -> int:
        """How many services are waited for, for tests."""
        return len(self._waiters)
