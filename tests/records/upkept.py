"""A node whose upkeep, clocks and registry are the test's."""

from __future__ import annotations

from sqlalchemy import Double, literal

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import FactEvent, Facts
from gateway.records.beats import BeatLimits
from gateway.records.store import DatabaseStore
from gateway.records.upkeep import Upkeep, UpkeepLimits
from gateway.records.writer import RecordWriter, WriterLimits
from tests.records.calls import facts_of

BEATS = BeatLimits(lease=5.0, registry_lease=30.0)
LIMITS = UpkeepLimits(beats=BEATS, settle=15.0, unanswered=300.0, longest=86400.0)


class Registry:
    """Knows what the test says."""

    def __init__(self) -> None:
        self.known: dict[str, Facts] = {}
        self.texts: dict[str, str] = {}
        self.away = False
        self.now = 0.0

    async def find(self, session: str) -> Facts | None:
        if self.away:
            raise RegistryUnavailable("for this test")
        return self.known.get(session)

    async def change(self, key, ttl, change):
        if self.away:
            raise RegistryUnavailable("for this test")
        self.texts[key], result = change(self.texts.get(key, ""), self.now)
        return result


class Node:
    """A process with its upkeep, and its clock. ahead: seconds by which the database's clock is ahead of it."""

    def __init__(self, engine, name: str, now: float = 0.0, registry: Registry | None = None, **settings) -> None:
        self.now, self.ahead = now, 0.0
        self.writer = RecordWriter(engine, node=name, limits=WriterLimits(linger=0.0), unix_time=lambda: self.now)
        self.writer.migrated.set()
        self.registry = registry or Registry()
        self.known = self.registry.known
        self.live: set[str] = set()
        self.store = DatabaseStore(engine)
        self.upkeep = Upkeep(
            self.writer,
            name,
            self.registry,
            lambda: self.live,
            **{"limits": LIMITS} | settings,
            unix_time=lambda: self.now,
            clock=lambda _: literal(self.now + self.ahead, Double),
        )

    async def write(self, *events: FactEvent, session: str = "s1") -> None:
        self.writer.note(facts_of(*events, session=session))
        await self.written()

    async def written(self) -> None:
        while self.writer.waiting:
            assert await self.writer.write_batch()

    async def round(self, now: float) -> None:
        self.now = self.registry.now = now
        await self.upkeep.beat()
        await self.upkeep.close_abandoned_calls()
        await self.upkeep.reopen_running_calls()
        await self.upkeep.ask()
        await self.written()

    async def rounds(self, begin: float, end: float) -> None:
        """Beat and look in time, until then."""
        now = begin
        while now <= end:
            await self.round(now)
            now += 2.0

    async def end(self, session: str = "s1") -> tuple[str, str, float | None]:
        record = await self.store.get(session)
        return record.status, record.end_reason, record.ended_at
