"""Which gateway processes live, by their own word: in the database, by its clock, and in the registry, by that one's.

A node is dead when the database has not heard it for a lease, in which it could have been heard, and the registry has
not either. A node whose loop stands still, whose clock is off or whose way to the database is lost is not dead, and
its calls are not over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import RegistryUnavailable
from gateway.pool.registry import Registry
from gateway.records.clock import database_time
from gateway.records.schema import nodes
from gateway.records.upsert import ignoring_conflicts


@dataclass(frozen=True, slots=True)
class BeatLimits:
    """Seconds. Tests run it scaled down."""

    beat: float = 1.0
    lease: float = 15.0
    """A node that the database has not heard for so long is dead, if this one was heard all the while."""
    registry_beat: float = 5.0
    registry_lease: float = 30.0
    """The same of the registry."""


@dataclass(slots=True)
class NodeHeartbeats:
    """Heartbeats of this node, and those read of the others."""

    engine: AsyncEngine
    node: str
    registry: Registry
    limits: BeatLimits = BeatLimits()
    unix_time: Callable[[], float] = time.time
    clock: Callable[[AsyncEngine], ColumnElement[float]] = database_time
    clock_ahead: float = 0.0
    """Seconds by which the database's clock is ahead of this node's."""
    _last: float = 0.0
    _unbroken_since: float = 0.0
    """Since when every beat of this node was in time, so that others could beat, too; 0: not now."""
    _last_gap_ended: float = field(default=0.0)
    """When this node was last heard again after a gap."""

    async def beat(self) -> None:
        """Say in the database that this node lives. Raises one of AWAY."""
        mine = nodes.c.id == self.node
        async with self.engine.begin() as connection:
            await connection.execute(ignoring_conflicts(self.engine, nodes), {"id": self.node, "seen": 0.0})
            await connection.execute(update(nodes).where(mine).values(seen=self.clock(self.engine)))
            now: float = (await connection.execute(select(nodes.c.seen).where(mine))).scalar_one()
        self.clock_ahead = now - self.unix_time()
        if self._last and now - self._last > self.limits.lease / 2:
            self._last_gap_ended, self._unbroken_since = now, 0.0
        self._unbroken_since = self._unbroken_since or now
        self._last = now

    async def tell_registry(self) -> None:
        """Say in the registry that this node lives."""

        def say(_: str, now: float) -> tuple[str, None]:
            return repr(now), None

        try:
            await self.registry.change(_key(self.node), 2 * self.limits.registry_lease, say)
        except RegistryUnavailable:
            pass

    def note_away(self) -> None:
        """The database does not answer: no other node can beat either."""
        self._unbroken_since = 0.0

    async def now(self, connection: AsyncConnection) -> float:
        """Return the database's time."""
        now: float = (await connection.execute(select(self.clock(self.engine)))).scalar_one()
        return now

    async def seen(self, connection: AsyncConnection) -> Mapping[str, float]:
        """Return when each node last beat."""
        return {found.id: found.seen for found in await connection.execute(select(nodes))}

    def may_have_been_declared_dead(self, now: float) -> bool:
        """True if others may have taken this node for dead lately."""
        return self._last_gap_ended > 0 and now - self._last_gap_ended <= 2 * self.limits.lease

    def is_dead(self, node: str, seen: Mapping[str, float], now: float) -> bool:
        """True if this node has not beaten for a lease in which it could have. now: the database's."""
        could_beat = self._unbroken_since > 0 and now - self._unbroken_since >= self.limits.lease
        return could_beat and seen.get(node, 0.0) < now - self.limits.lease

    async def in_registry(self, node: str) -> bool:
        """True if the registry has heard of this node lately. Raises RegistryUnavailable."""

        def look(told: str, now: float) -> tuple[str, bool]:
            return told, bool(told) and now - float(told) < self.limits.registry_lease

        return await self.registry.change(_key(node), 2 * self.limits.registry_lease, look)

    async def prune(self, seconds: float) -> None:
        """Forget nodes that were last heard so long ago."""
        async with self.engine.begin() as connection:
            await connection.execute(delete(nodes).where(nodes.c.seen < self.clock(self.engine) - seconds))


def _key(node: str) -> str:
    return f"node:{node}"
