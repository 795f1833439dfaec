"""Reads records, forgets numbers, and deletes what is old."""

from __future__ import annotations

import base64
import binascii
import functools
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Select, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import RecordsUnavailable
from gateway.pool.facts import Facts
from gateway.records.base import BadCursor, Filters, Forgotten, Page, Record, RecordStore
from gateway.records.database import AWAY, READ_ONLY
from gateway.records.events import payload
from gateway.records.removals import Removal, add_removals
from gateway.records.row import FROM, MASK, TO, CallRow, final, join, masked, record_of_row, row_of, status_of
from gateway.records.schema import calls, deliveries, outbox
from gateway.records.upsert import read_row

MAX_LIMIT = 500
MAX_CURSOR = 1000
"""Characters."""
BATCH = 500
"""Rows that are masked or deleted in one transaction: those who write wait for it."""

P = ParamSpec("P")
T = TypeVar("T")


def _unless_away(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Raise RecordsUnavailable where the database does not answer."""

    @functools.wraps(method)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except AWAY as error:
            raise RecordsUnavailable("the database of records does not answer") from error

    return wrapped


class DatabaseStore(RecordStore):
    """See `RecordStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @_unless_away
    async def get(self, session_id: str, facts: Facts | None = None) -> Record | None:
        if not _storable(session_id):
            return None
        found = await self._read(select(calls).where(calls.c.session_id == session_id))
        if not found:
            return None
        return record_of_row(join(found[0], row_of(facts)) if facts is not None else found[0])

    @_unless_away
    async def page(self, filters: Filters, limit: int = 50, cursor: str | None = None, *, offset: int = 0) -> Page:
        limit = max(1, min(limit, MAX_LIMIT))
        query = _filtered(select(calls), filters).order_by(calls.c.created.desc(), calls.c.session_id.desc())
        query = query.limit(limit + 1).offset(offset)
        if cursor is not None:
            created, session_id = read_cursor(cursor)
            same = and_(calls.c.created == created, calls.c.session_id < session_id)
            query = query.where(or_(calls.c.created < created, same))
        if not all(map(_storable, _texts(filters).values())):
            return Page(())
        rows = await self._read(query)
        more = write_cursor(rows[limit - 1]) if len(rows) > limit else None
        return Page(tuple(map(record_of_row, rows[:limit])), more)

    @_unless_away
    async def count(self, filters: Filters) -> int:
        if not all(map(_storable, _texts(filters).values())):
            return 0
        async with self._engine.connect() as connection:
            await connection.execution_options(**READ_ONLY)
            counted: int = (await connection.execute(_filtered(select(func.count()), filters))).scalar_one()
            return counted

    @_unless_away
    async def forget(self, number: str) -> Forgotten:
        recordings: dict[str, str] = {}
        with_number = select(calls).where(or_(calls.c.from_number == number, calls.c.to_number == number))
        while number not in ("", MASK) and _storable(
            number
        ):  # MASK itself would match every masked row, again and again
            async with self._engine.begin() as connection:
                query = with_number.order_by(calls.c.session_id).limit(BATCH).with_for_update()
                rows = [read_row(found) for found in (await connection.execute(query)).mappings()]
                for row in rows:
                    await _forget(connection, row, number)
                # Also of calls that run, or that no recording is known of: it may be made yet, on any node.
                told = [Removal(row.session_id, row.recording) for row in rows]
                await add_removals(self._engine, connection, told)
            recordings |= {row.session_id: row.recording for row in rows}
            if len(rows) < BATCH:
                break
        return Forgotten(recordings)

    @_unless_away
    async def purge(self, before: float) -> tuple[str, ...]:
        return await purge(self._engine, before)

    async def _read(self, query: Select[Any]) -> list[CallRow]:
        async with self._engine.connect() as connection:
            await connection.execution_options(**READ_ONLY)
            return [read_row(found) for found in (await connection.execute(query)).mappings()]


async def purge(engine: AsyncEngine, before: float) -> tuple[str, ...]:
    """See `RecordStore.purge`. Raises one of AWAY."""
    recordings: list[str] = []
    is_old = and_(calls.c.created < before, or_(calls.c.created > 0, calls.c.updated < before))
    old = select(calls.c.session_id, calls.c.recording, calls.c.streams).where(is_old).limit(BATCH)
    while True:
        async with engine.begin() as connection:
            found = (await connection.execute(old)).all()
            sessions = [row.session_id for row in found]
            told = [Removal(row.session_id, row.recording) for row in found if row.streams or row.recording]
            await add_removals(engine, connection, told)
            await connection.execute(delete(calls).where(calls.c.session_id.in_(sessions)))
            events = select(outbox.c.id).where(outbox.c.session_id.in_(sessions))
            await connection.execute(delete(deliveries).where(deliveries.c.outbox_id.in_(events)))
            await connection.execute(delete(outbox).where(outbox.c.session_id.in_(sessions)))
        recordings += [row.recording for row in found if row.recording]
        if len(found) < BATCH:
            return tuple(recordings)


async def _forget(connection: AsyncConnection, row: CallRow, number: str) -> None:
    """Mask the number in the row, for what is joined to it later too, and in what is yet to be told of it."""
    which = (FROM if row.from_number == number else 0) | (TO if row.to_number == number else 0)
    kept = masked(replace(row, forgotten=row.forgotten | which))
    values = {name: getattr(kept, name) for name in ("from_number", "to_number", "body", "recording", "forgotten")}
    values |= {"status": status_of(kept), "final": final(kept)}
    await connection.execute(update(calls).where(calls.c.session_id == row.session_id).values(values))
    events = select(outbox.c.id, outbox.c.type, outbox.c.created).where(outbox.c.session_id == row.session_id)
    for key, kind, created in (await connection.execute(events)).all():
        await connection.execute(update(outbox).where(outbox.c.id == key).values(payload=payload(kept, kind, created)))


def _filtered(query: Select[Any], filters: Filters) -> Select[Any]:
    query = query.select_from(calls)
    for name, wanted in _texts(filters).items():
        query = query.where(calls.c[name] == wanted)
    if filters.since is not None:
        query = query.where(calls.c.created >= filters.since)
    if filters.until is not None:
        query = query.where(calls.c.created < filters.until)
    if filters.ended is not None:
        query = query.where(calls.c.status == "ended" if filters.ended else calls.c.status != "ended")
    if filters.cold is not None:
        query = query.where(and_(calls.c.cold == filters.cold, calls.c.bot_start_ms > 0))
    if filters.bot_start_above is not None:
        query = query.where(calls.c.bot_start_ms > filters.bot_start_above)
    if filters.bot_start_below is not None:
        query = query.where(and_(calls.c.bot_start_ms < filters.bot_start_below, calls.c.bot_start_ms > 0))
    return query


def _texts(filters: Filters) -> dict[str, str]:
    """Those filters that are given as text, by the names of their columns."""
    names = ("status", "direction", "carrier", "service_host", "from_number", "to_number")
    return {name: wanted for name in names if (wanted := getattr(filters, name))}


def _storable(text: str) -> bool:
    """False for what no row can hold and PostgreSQL refuses to be asked for: NUL, half of a surrogate pair."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


# The cursor is the place of the last record seen, so what comes before it later moves nothing.


def write_cursor(row: CallRow) -> str:
    text = json.dumps([row.created, row.session_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[float, str]:
    """Read what `write_cursor` wrote. Raises BadCursor."""
    try:
        if len(cursor) > MAX_CURSOR:
            raise ValueError
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        created, session_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise BadCursor("this is no cursor of ours") from None
    if isinstance(created, bool) or not isinstance(created, int | float) or not isinstance(session_id, str):
        raise BadCursor("this is no cursor of ours")
    if not abs(created) < 2**53 or not _storable(session_id):
        raise BadCursor("this is no cursor of ours")
    return float(created), session_id
