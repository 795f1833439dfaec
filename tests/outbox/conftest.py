"""A database of its own for each test, with events in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.outbox.endpoint import Endpoint
from gateway.outbox.queue import EndpointQueue, QueueLimits
from gateway.outbox.sender import Sender
from gateway.outbox.table import DeliveryTable
from gateway.records.database import open_engine
from gateway.records.schema import deliveries, metadata, outbox
from tests.outbox.receiver import SECRET
from tests.records.conftest import postgres_server, records_url

__all__ = ["postgres_server", "records_url"]  # fixtures: SQLite's, and on a real PostgreSQL in `make cluster-test`

NOW = 1_790_000_000.0


@dataclass
class World:
    """What a test stands in: the database, and the time that every part goes by."""

    engine: AsyncEngine
    now: float = NOW
    results: list[str] = field(default_factory=list)
    senders: list[Sender] = field(default_factory=list)

    @property
    def table(self) -> DeliveryTable:
        return DeliveryTable(self.engine)

    def queue(self, url: str, types: tuple[str, ...] = (), *, parallel: int = 8, seconds: float = 5.0) -> EndpointQueue:
        sender = Sender(seconds=seconds)
        self.senders.append(sender)
        return EndpointQueue(
            Endpoint.of(url, [SECRET], types),
            self.table,
            sender,
            QueueLimits(max_concurrent=parallel),
            unix_time=lambda: self.now,
            on_result=self.results.append,
        )

    async def write(self, *events: str, created: float | None = None) -> None:
        """Write events, each as "session seq type"."""
        rows = [
            {
                "event_id": f"evt_{session}_{seq}",
                "session_id": session,
                "seq": int(seq),
                "type": f"call.{kind}",
                "payload": f'{{"type":"call.{kind}","data":{{"session_id":"{session}"}}}}',
                "created": self.now if created is None else created,
            }
            for session, seq, kind in (event.split() for event in events)
        ]
        async with self.engine.begin() as connection:
            await connection.execute(insert(outbox), rows)

    async def deliveries(self) -> list[dict[str, Any]]:
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                select(outbox.c.event_id, deliveries)
                .join(outbox, outbox.c.id == deliveries.c.outbox_id)
                .order_by(outbox.c.id)
            )
            return [dict(row._mapping) for row in rows]


@pytest.fixture
async def world(records_url: str) -> AsyncIterator[World]:
    engine = open_engine(records_url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    world = World(engine)
    yield world
    for sender in world.senders:
        await sender.close()
    await engine.dispose()
