"""Write what changes often to a session's facts: one write at a time, of the newest value."""

from __future__ import annotations

from typing import Protocol

from gateway.node.node import Node
from gateway.pool.facts import FactEvent, Facts


class RememberingSession(Protocol):
    """A session whose facts can be written."""

    id: str
    facts: Facts

    async def remember(self, event: FactEvent) -> bool:
        """Merge the event into the facts. False: only into ours, as the registry is away."""


class LatestFact:
    """Write one changing fact of a session; skip values that are overtaken. name: of the task that writes."""

    def __init__(self, node: Node, session: RememberingSession, name: str) -> None:
        self._node = node
        self._session = session
        self._name = f"{name} {session.id}"
        self._newest: FactEvent | None = None
        self._writing = False

    def write(self, event: FactEvent) -> None:
        """Write this event. While a write is out, only the newest further event is kept."""
        self._newest = event
        if not self._writing:
            self._writing = True
            self._node.spawn(self._write(), self._name)

    async def _write(self) -> None:
        try:
            while self._newest is not None:
                event, self._newest = self._newest, None
                await self._session.remember(event)
        finally:
            self._writing = False
