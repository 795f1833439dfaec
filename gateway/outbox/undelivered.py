"""What has not arrived: listed, replayed, and at last removed. Used by `gateway events` and by the gateway's upkeep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gateway.outbox.table import KEEP_SECONDS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

BATCH = 500
"""Rows that are removed in one transaction, so that calls' records need not wait for long."""


@dataclass(frozen=True, slots=True)
class UndeliveredEvent:
    """An event that an endpoint does not have. created, next_at: unix seconds. next_at: of a pending one's attempt."""

    event_id: str
    type: str
    session_id: str
    endpoint: str
    state: Literal["pending", "dead"]
    created: float
    attempts: int
    next_at: float | None
    error: str


@dataclass(slots=True)
class UndeliveredEvents:
    """Events that have not arrived, of all endpoints. Raises what SQLAlchemy and the driver raise."""

    engine: AsyncEngine

    async def oldest(self, limit: int) -> list[UndeliveredEvent]:
        """Return what is pending or dead, the oldest first."""
        from sqlalchemy import select

        from gateway.records.database import READ_ONLY
        from gateway.records.schema import deliveries, outbox

        asked = (
            select(outbox, deliveries)
            .join(outbox, outbox.c.id == deliveries.c.outbox_id)
            .where(deliveries.c.done_at.is_(None))
            .order_by(outbox.c.id, deliveries.c.endpoint)
            .limit(limit)
        )
        async with self.engine.connect() as connection:
            await connection.execution_options(**READ_ONLY)
            rows = (await connection.execute(asked)).all()
        return [
            UndeliveredEvent(
                event_id=row.event_id,
                type=row.type,
                session_id=row.session_id,
                endpoint=row.endpoint,
                state="pending" if row.dead_at is None else "dead",
                created=row.created,
                attempts=row.attempts,
                next_at=row.next_at if row.dead_at is None else None,
                error=row.last_error,
            )
            for row in rows
        ]

    async def replay(self, event_id: str | None, now: float) -> int:
        """Make dead events due again, one or all; returns how many deliveries that are.

        Their attempts are counted from 0 again. Events of the same call that wait then wait for them, and those that
        have arrived meanwhile came before them.
        """
        from sqlalchemy import select, update

        from gateway.records.schema import deliveries, outbox

        revived = update(deliveries).where(deliveries.c.dead_at.is_not(None))
        if event_id is not None:
            of_event = select(outbox.c.id).where(outbox.c.event_id == event_id)
            revived = revived.where(deliveries.c.outbox_id.in_(of_event))
        async with self.engine.begin() as connection:
            done = await connection.execute(
                revived.values(dead_at=None, attempts=0, next_at=now, claimed_until=0.0, last_error="")
            )
            return done.rowcount

    async def prune(self, now: float, keep_undelivered: float) -> int:
        """Remove old events that every endpoint has had, or that none wants; returns how many.

        keep_undelivered: seconds after which the rest, pending or dead, is removed too; 0: never.
        """
        from sqlalchemy import and_, delete, exists, or_, select

        from gateway.records.schema import deliveries, outbox

        open_ones = exists().where(deliveries.c.outbox_id == outbox.c.id, deliveries.c.done_at.is_(None))
        settled = and_(outbox.c.created < now - KEEP_SECONDS, ~open_ones)
        stale = or_(settled, outbox.c.created < now - keep_undelivered) if keep_undelivered else settled
        removed = 0
        while True:
            async with self.engine.begin() as connection:
                old = select(outbox.c.id).where(stale).order_by(outbox.c.id).limit(BATCH)
                found = list((await connection.execute(old)).scalars())
                if found:
                    await connection.execute(delete(deliveries).where(deliveries.c.outbox_id.in_(found)))
                    await connection.execute(delete(outbox).where(outbox.c.id.in_(found)))
            removed += len(found)
            if len(found) < BATCH:
                return removed
