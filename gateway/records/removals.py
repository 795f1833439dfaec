"""Which recordings are to be removed, told from one node to all: each has its files on a disk of its own.

Who forgets a number, or deletes what is old, leaves a row for each of those calls in the same transaction. Every node
reads the rows and removes what it has of them: files, and recordings of calls that still run. One that was off reads
them when it starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from sqlalchemy import Text, bindparam, delete, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.records.clock import database_time
from gateway.records.database import READ_ONLY
from gateway.records.schema import removals

KEEP_SECONDS = 30 * 86400.0
"""A node that was off for longer does not learn of it."""
OVERLAP = 30.0
"""Seconds: rows become visible in another order than their times say, by as long as a transaction may last."""
BATCH = 5000


@dataclass(frozen=True, slots=True)
class Removal:
    """A call whose recording is to go. recording: its file by its record, "" if that names none (yet)."""

    session_id: str
    recording: str = ""


async def add_removals(engine: AsyncEngine, connection: AsyncConnection, what: Iterable[Removal]) -> None:
    """Tell all nodes, with this transaction."""
    rows = [{"b_session": each.session_id, "b_recording": each.recording} for each in what]
    if rows:
        told = insert(removals).values(
            session_id=bindparam("b_session", Text()),
            recording=bindparam("b_recording", Text()),
            at=database_time(engine),
        )
        await connection.execute(told, rows)


async def prune_removals(engine: AsyncEngine) -> None:
    """Delete what all nodes have read long ago."""
    async with engine.begin() as connection:
        await connection.execute(delete(removals).where(removals.c.at < database_time(engine) - KEEP_SECONDS))


@dataclass(slots=True)
class RemovalReader:
    """Gives each row once, from the oldest on."""

    engine: AsyncEngine
    _read_until: float = 0.0
    """By the database's clock."""
    _seen: dict[int, float] = field(default_factory=dict)
    """Ids of those that may be read again, and their times."""

    def begin_again(self) -> None:
        """Give all rows once more, not only those that failed: a file may not have been removable then, or not there,
        as on a disk that was not mounted or has been restored since.
        """
        self._read_until = 0.0
        self._seen.clear()

    async def read(self) -> AsyncIterator[list[Removal]]:
        """Give the rows that are new, some at a time."""
        place = (self._read_until - OVERLAP, 0)
        self._seen = {key: at for key, at in self._seen.items() if at >= place[0]}
        while True:
            asked = select(removals).where(tuple_(removals.c.at, removals.c.id) > place)
            async with self.engine.connect() as connection:
                await connection.execution_options(**READ_ONLY)
                now: float = (await connection.execute(select(database_time(self.engine)))).scalar_one()
                rows = (await connection.execute(asked.order_by(removals.c.at, removals.c.id).limit(BATCH))).all()
            new = [row for row in rows if row.id not in self._seen]
            if new:
                yield [Removal(row.session_id, row.recording) for row in new]
            self._seen |= {row.id: row.at for row in new}
            if len(rows) < BATCH:
                self._read_until = now
                return
            place = (rows[-1].at, rows[-1].id)
