"""One transaction that joins rows with what the database has of them, and writes the events that this gives rise to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Insert, RowMapping, Select, Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.records.events import new_events
from gateway.records.row import CallRow, final, join, status_of
from gateway.records.schema import calls, outbox

_COLUMNS = tuple(CallRow.__dataclass_fields__)
_UPDATE = (
    update(calls)
    .where(calls.c.session_id == bindparam("of"))
    .values({name: bindparam(f"v_{name}") for name in (*_COLUMNS, "status", "final") if name != "session_id"})
)


def ignoring_conflicts(engine: AsyncEngine, table: Table) -> Insert:
    """An INSERT that leaves alone what is there."""
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement


def read_row(found: RowMapping) -> CallRow:
    """Return the row of `calls` as it was written."""
    return CallRow(**{name: found[name] for name in _COLUMNS})


async def upsert(
    engine: AsyncEngine, rows: Mapping[str, CallRow], wanted: Collection[str], now: float, ahead: float = 0.0
) -> int:
    """Join these rows, by session id, with those of the database; return how many events that gave rise to.

    wanted: types of events that are told to anyone. ahead: seconds by which the database's clock is ahead of ours.
    Raises one of `database.AWAY`.
    """
    ids = sorted(rows)  # the same order everywhere, so that two nodes wait for each other one way only
    made = [{"session_id": one} for one in ids if _is_call(rows[one])]
    async with engine.begin() as connection:
        if made:
            await connection.execute(ignoring_conflicts(engine, calls), made)
        grown = await _join(connection, rows, ids, now + ahead)
        return await _write_events(connection, grown, wanted, now) if grown and wanted else 0


def _is_call(row: CallRow) -> bool:
    """False for what only adds to a record: an end for want of news, a recording that was found."""
    return row.created > 0 or row.streams > 0


async def _join(
    connection: AsyncConnection, rows: Mapping[str, CallRow], ids: Sequence[str], now: float
) -> list[tuple[CallRow, CallRow]]:
    """Write what has grown, and return it: before and after."""
    grown = []
    for known in map(read_row, (await connection.execute(_locked(ids))).mappings()):
        row = join(known, rows[known.session_id])
        if row != known:
            grown.append((known, replace(row, updated=now)))
    if grown:
        await connection.execute(_UPDATE, [_parameters(row) for _, row in grown])
    return grown


def _locked(ids: Sequence[str]) -> Select[Any]:
    """SQLite has no row locks, and needs none: the transaction has the file's."""
    return select(calls).where(calls.c.session_id.in_(ids)).order_by(calls.c.session_id).with_for_update()


def _parameters(row: CallRow) -> dict[str, Any]:
    values = {f"v_{name}": value for name, value in asdict(row).items() if name != "session_id"}
    return {"of": row.session_id, **values, "v_status": status_of(row), "v_final": final(row)}


async def _write_events(
    connection: AsyncConnection, grown: Sequence[tuple[CallRow, CallRow]], wanted: Collection[str], now: float
) -> int:
    told: dict[str, set[str]] = {row.session_id: set() for _, row in grown}
    found = select(outbox.c.session_id, outbox.c.type).where(outbox.c.session_id.in_(sorted(told)))
    for session_id, kind in await connection.execute(found):
        told[session_id].add(kind)
    events = [event for before, row in grown for event in new_events(before, row, told[row.session_id], wanted, now)]
    if events:
        await connection.execute(insert(outbox), [event.columns(now) for event in events])
    return len(events)
