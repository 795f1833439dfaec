"""The rows of deliveries, one for each event and endpoint: made, claimed, and marked with what became of them.

The order. An event waits while an earlier one of its call is neither delivered nor dead at its endpoint, whether that
is being sent or rests until its next attempt. So at most one event of a call is on its way to an endpoint.

The lease. Nodes of one database deliver side by side. A row that a node sends is claimed until a time, and goes to
another node if it has no verdict by then. The time is also the claim's name: a node that was suspended, and comes back
with a verdict on a claim that has expired, changes nothing.

Times are unix seconds of the nodes' clocks, which must agree to some seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.outbox.verdict import Dead, Delivered, Retry, Verdict

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, Select, Update, UpdateBase
    from sqlalchemy.ext.asyncio import AsyncEngine

NO_MORE_ATTEMPTS = 1e15
"""`next_at` of what is delivered or dead: the index on it leads past those rows."""
KEEP_SECONDS = 86400.0
"""An event that every endpoint has had is kept for so long; an endpoint that is new is told of it, too."""
REREAD_IDS = 200
"""Ids are given before a transaction commits: this many behind the newest are looked at again each time."""
LATE_SECONDS = 3600.0
"""The same as a time: by so much nodes' clocks may differ, and a transaction may last."""
BATCH = 1000
"""Rows that are made at once."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """An event on its way to an endpoint.

    payload: the body that is posted. attempts: those made before. until: when the claim expires.
    """

    outbox_id: int
    endpoint: str
    event_id: str
    session_id: str
    type: str
    payload: str
    attempts: int
    until: float


@dataclass(slots=True)
class DeliveryTable:
    """Raises what SQLAlchemy and the driver raise: the caller waits, and asks again."""

    engine: AsyncEngine

    async def add_missing(self, endpoint: str, types: Sequence[str], after: int | None, now: float) -> int:
        """Make the rows that this endpoint lacks for events with an id above `after`; None: for all.

        Of those that another endpoint has had, one that is new gets the last day's; one that is known gets all since
        the last look through the whole table, though every node was off for days.

        Returns the id from which to look the next time.
        """
        from sqlalchemy import exists, func, or_, select

        from gateway.records.database import READ_ONLY
        from gateway.records.schema import deliveries, endpoints, outbox
        from gateway.records.upsert import ignoring_conflicts

        of_event = deliveries.c.outbox_id == outbox.c.id
        lacking = ~exists().where(of_event, deliveries.c.endpoint == endpoint)
        served = select(endpoints.c.seen).where(endpoints.c.name == endpoint).scalar_subquery()
        young = or_(
            outbox.c.created > now - KEEP_SECONDS, outbox.c.created > served - LATE_SECONDS, ~exists().where(of_event)
        )
        missing = (
            select(outbox.c.id, outbox.c.created)
            .where(outbox.c.id > (after or 0), outbox.c.type.in_(types), lacking, young)
            .order_by(outbox.c.id)
            .limit(BATCH)
        )
        while True:
            async with self.engine.connect() as connection:
                await connection.execution_options(**READ_ONLY)
                newest = (await connection.execute(select(func.max(outbox.c.id)))).scalar() or 0
                rows = (await connection.execute(missing)).all()
            if rows:
                made = [{"outbox_id": row.id, "endpoint": endpoint, "next_at": row.created} for row in rows]
                async with self.engine.begin() as connection:
                    await connection.execute(ignoring_conflicts(self.engine, deliveries), made)
            if len(rows) < BATCH:
                if after is None:
                    await self._note_served(endpoint, now)
                return max(after or 0, newest - REREAD_IDS)

    async def _note_served(self, endpoint: str, now: float) -> None:
        """Note that every event up to now has its row for this endpoint."""
        from sqlalchemy import update

        from gateway.records.schema import endpoints
        from gateway.records.upsert import ignoring_conflicts

        mine = endpoints.c.name == endpoint
        async with self.engine.begin() as connection:
            await connection.execute(ignoring_conflicts(self.engine, endpoints), {"name": endpoint, "seen": now})
            await connection.execute(update(endpoints).where(mine, endpoints.c.seen < now).values(seen=now))

    async def claim(self, endpoint: str, now: float, until: float, limit: int) -> list[Claimed]:
        """Claim events that are due at this endpoint, the oldest first; of each call the first that waits."""
        values = {"b_endpoint": endpoint, "b_now": now}
        async with self.engine.begin() as connection:
            due = await connection.execute(_statements().due, values | {"b_limit": limit})
            rows = {row.id: row for row in due}
            if not rows:
                return []
            taken = await connection.execute(_statements().take, values | {"b_ids": list(rows), "b_until": until})
            mine = set(taken.scalars())
        return [
            Claimed(row.id, endpoint, row.event_id, row.session_id, row.type, row.payload, row.attempts, until)
            for row in rows.values()
            if row.id in mine
        ]

    async def finish(self, claimed: Claimed, verdict: Verdict, now: float) -> bool:
        """Mark what became of an attempt. False: the claim had expired, and another node decides."""
        values: dict[str, Any] = {"done_at": None, "dead_at": None, "last_error": "", "next_at": NO_MORE_ATTEMPTS}
        others_at = now
        match verdict:
            case Delivered():
                values["done_at"] = now
            case Retry(delay, error):
                others_at = now + delay
                values |= {"next_at": others_at, "last_error": error}
            case Dead(error):
                values |= {"dead_at": now, "last_error": error}
        statements, row = _statements(), _key(claimed)
        async with self.engine.begin() as connection:
            done = await connection.execute(statements.finish, row | values | {"attempts": claimed.attempts + 1})
            if done.rowcount != 1:
                return False
            # Those that wait for it would be looked at in vain until then, and there may be thousands.
            if claimed.attempts or isinstance(verdict, Retry):
                others = {"b_session": claimed.session_id, "next_at": others_at}
                await connection.execute(statements.wait_with, row | others)
            return True

    async def release(self, claimed: Claimed) -> bool:
        """Give back a claim on which no verdict will come, so that another node need not wait for its end."""
        async with self.engine.begin() as connection:
            return (await connection.execute(_statements().release, _key(claimed))).rowcount == 1

    async def retry_now(self, endpoint: str, now: float) -> None:
        """Make due what waits for another attempt at an endpoint that answers again."""
        async with self.engine.begin() as connection:
            await connection.execute(_statements().retry_now, {"b_endpoint": endpoint, "next_at": now})

    async def oldest(self, endpoints: Sequence[str]) -> float | None:
        """When the oldest event that waits for one of these happened, None if there is none."""
        from sqlalchemy import and_, func, select

        from gateway.records.database import READ_ONLY
        from gateway.records.schema import deliveries, outbox

        of_event = deliveries.c.outbox_id == outbox.c.id
        waiting = and_(deliveries.c.endpoint.in_(endpoints), deliveries.c.next_at < NO_MORE_ATTEMPTS)
        asked = select(func.min(outbox.c.created)).join(deliveries, of_event).where(waiting)
        async with self.engine.connect() as connection:
            await connection.execution_options(**READ_ONLY)
            oldest: float | None = (await connection.execute(asked)).scalar()
        return oldest


def _key(claimed: Claimed) -> dict[str, Any]:
    return {"b_id": claimed.outbox_id, "b_endpoint": claimed.endpoint, "b_until": claimed.until}


@dataclass(frozen=True, slots=True)
class _Statements:
    """What is said for each event, built once: that costs more than to run it. Parameters begin with "b_"."""

    due: Select[Any]
    take: UpdateBase
    finish: Update
    wait_with: Update
    release: Update
    retry_now: Update


@functools.cache
def _statements() -> _Statements:
    from sqlalchemy import and_, bindparam, exists, or_, select, update

    from gateway.records.schema import deliveries, outbox

    row = deliveries.c
    endpoint: BindParameter[str] = bindparam("b_endpoint")
    due = and_(row.endpoint == endpoint, row.next_at <= bindparam("b_now"), row.claimed_until <= bindparam("b_now"))
    before, its = outbox.alias(), deliveries.alias()
    waits = exists().where(
        before.c.session_id == outbox.c.session_id,
        or_(before.c.seq < outbox.c.seq, and_(before.c.seq == outbox.c.seq, before.c.id < outbox.c.id)),
        its.c.outbox_id == before.c.id,
        its.c.endpoint == endpoint,
        its.c.next_at < NO_MORE_ATTEMPTS,
    )
    own = and_(row.outbox_id == bindparam("b_id"), row.endpoint == endpoint, row.claimed_until == bindparam("b_until"))
    of_call = select(outbox.c.id).where(outbox.c.session_id == bindparam("b_session"))
    others = and_(row.endpoint == endpoint, row.outbox_id.in_(of_call), row.outbox_id != bindparam("b_id"))
    verdict = ("attempts", "done_at", "dead_at", "last_error", "next_at")
    return _Statements(
        due=select(row.attempts, outbox)
        .join(outbox, outbox.c.id == row.outbox_id)
        .where(due, ~waits)
        .order_by(row.next_at, outbox.c.id)
        .limit(bindparam("b_limit"))
        .with_for_update(of=deliveries, skip_locked=True),  # SQLite, which has one writer, leaves it out
        take=update(deliveries)
        .where(due, row.outbox_id.in_(bindparam("b_ids", expanding=True)))
        .values(claimed_until=bindparam("b_until"))
        .returning(row.outbox_id),
        finish=update(deliveries)
        .where(own)
        .values({name: bindparam(name) for name in verdict} | {"claimed_until": 0.0}),
        wait_with=update(deliveries).where(others, row.next_at < NO_MORE_ATTEMPTS).values(next_at=bindparam("next_at")),
        release=update(deliveries).where(own).values(claimed_until=0.0),
        retry_now=update(deliveries)
        .where(row.endpoint == endpoint, row.next_at.between(bindparam("next_at"), NO_MORE_ATTEMPTS / 2))
        .values(next_at=bindparam("next_at")),
    )
