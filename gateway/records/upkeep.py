"""What records need besides: the ends of calls of which no more news will come, and an end for records themselves.

A call whose node is dead (see `beats`), and that no other has taken over, is closed as of when that node was last
heard: `unknown_end`, unless its carrier says more (see `unknown_ends`). So is what a gateway left behind that was
killed, at its next start. News that come after all are joined to it, and count; a node that lives opens again what was
closed of its calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Select, false, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import RegistryUnavailable
from gateway.pool.registry import Registry
from gateway.records.beats import BeatLimits, NodeHeartbeats
from gateway.records.clock import database_time
from gateway.records.database import AWAY, READ_ONLY
from gateway.records.removals import Removal, RemovalReader, prune_removals
from gateway.records.row import CallRow, call_is_over, join, presumed_over, reopen, row_of, session_done
from gateway.records.schema import calls
from gateway.records.store import purge
from gateway.records.unknown_ends import AskCarrier, AskLimits, UnknownEnds
from gateway.records.upsert import read_row
from gateway.records.writer import RecordWriter, reason

log = structlog.get_logger(__name__)

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class UpkeepLimits:
    """Seconds. Tests run it scaled down."""

    beats: BeatLimits = BeatLimits()
    look: float = 1.0
    settle: float = 15.0
    """If only one side has told the end, session or carrier, the call counts as over after this."""
    unanswered: float = 300.0
    """A call without a stream: queued and ringing take two minutes at most."""
    longest: float = DAY
    """No call is longer; by then registries have forgotten it, too."""
    batch: int = 200
    """Rows of one look. The next goes on behind them."""
    ask: AskLimits = AskLimits()
    removals: float = 2.0
    purge_every: float = 3600.0


class Upkeep:
    """See the module's docstring.

    live: sessions that run on this node. remove: removes what this node has of these recordings; called in a thread.
    ask_carrier: None where no carrier can be asked. retention: seconds that records are kept, 0: for ever. clock: the
    database's.
    """

    def __init__(
        self,
        writer: RecordWriter,
        node: str,
        registry: Registry,
        live: Callable[[], Collection[str]],
        *,
        remove: Callable[[Sequence[Removal]], object] = lambda _: None,
        ask_carrier: AskCarrier | None = None,
        retention: float = 0.0,
        limits: UpkeepLimits = UpkeepLimits(),
        unix_time: Callable[[], float] = time.time,
        clock: Callable[[AsyncEngine], ColumnElement[float]] = database_time,
    ) -> None:
        self._writer = writer
        self._node = node
        self._registry = registry
        self._live = live
        self._remove = remove
        self._retention = retention
        self._limits = limits
        self.beats = NodeHeartbeats(writer.engine, node, registry, limits.beats, unix_time, clock)
        self._unknown_ends = UnknownEnds(writer, ask_carrier, limits.ask)
        self._removals = RemovalReader(writer.engine)
        self._place: tuple[float, str] | None = None
        """Behind which row the next look begins; None: at the oldest."""

    @property
    def _engine(self) -> AsyncEngine:
        return self._writer.engine

    async def run(self) -> None:
        """Beat, look, remove and purge until canceled. Heartbeats wait for nothing of the rest."""
        await self._writer.migrated.wait()
        async with asyncio.TaskGroup() as group:
            for name, every, what in (
                ("beat", self._limits.beats.beat, self.beat),
                ("tell registry", self._limits.beats.registry_beat, self.beats.tell_registry),
                ("close abandoned calls", self._limits.look, self.close_abandoned_calls),
                ("reopen running calls", self._limits.look, self.reopen_running_calls),
                ("ask carriers", self._limits.ask.every, self.ask),
                ("remove", self._limits.removals, self.remove),
                ("purge", self._limits.purge_every, self.purge),
            ):
                group.create_task(self._repeat(name, every, what), name=f"upkeep of records: {name}")

    async def _repeat(self, name: str, every: float, what: Callable[[], Awaitable[None]]) -> None:
        while True:
            pause = every
            try:
                await what()
            except AWAY as error:
                self.beats.note_away()
                log.debug("the database of records is away", error=reason(error))  # the writer says it aloud
                pause = min(every, 30.0)
            except Exception:  # must not end the others, the beats least of all
                log.exception("upkeep of records: a bug", what=name)
            await asyncio.sleep(pause)

    async def beat(self) -> None:
        """Say that this node lives. Raises one of AWAY, as the others do."""
        await self.beats.beat()
        self._writer.clock_ahead = self.beats.clock_ahead

    # Calls without news.

    async def close_abandoned_calls(self) -> None:
        """Close calls of which no more news will come, some at a time; the next round goes on behind them."""
        limits = self._limits
        live = frozenset(self._live())
        async with self._engine.connect() as connection:
            await connection.execution_options(**READ_ONLY)
            now = await self.beats.now(connection)
            found = await connection.execute(self._unfinished(now - min(limits.beats.lease, limits.settle)))
            rows = [read_row(row) for row in found.mappings()]
            seen = await self.beats.seen(connection) if rows else {}
        self._place = (rows[-1].updated, rows[-1].session_id) if len(rows) == limits.batch else None
        for row in rows:
            at = self.closing_time(row, seen, now, live)
            if at is None or await self._has_news(row):
                continue
            end = self._unknown_ends.carrier_end_or_wait(row, at, now)
            if end is not None:
                self._writer.add(end)

    async def reopen_running_calls(self) -> None:
        """Open again what others closed of the calls that run here, where they may have taken this node for dead."""
        live = sorted(self._live())
        if not live or not self.beats.may_have_been_declared_dead(self._database_time()):
            return
        async with self._engine.connect() as connection:
            await connection.execution_options(**READ_ONLY)
            now = await self.beats.now(connection)
            wronged = await self._closed_though_live(connection, live)
        for row in wronged:
            self._writer.add(reopen(row, now))

    async def ask(self) -> None:
        """Ask carriers for ends that are not known."""
        await self._unknown_ends.ask(self._database_time())

    def _database_time(self) -> float:
        """The database's time, as its newest heartbeat says."""
        return self.beats.unix_time() + self.beats.clock_ahead

    async def _closed_though_live(self, connection: AsyncConnection, live: Sequence[str]) -> list[CallRow]:
        size, found = self._limits.batch, []
        for begin in range(0, len(live), size):
            of_these = calls.c.session_id.in_(live[begin : begin + size])
            some = await connection.execute(select(calls).where(of_these, calls.c.closed_at > 0))
            found += [read_row(row) for row in some.mappings()]
        return [row for row in found if presumed_over(row) and not session_done(row)]

    def _unfinished(self, before: float) -> Select[Any]:
        unfinished = select(calls).where(calls.c.final == false(), calls.c.updated < before)
        if self._place is not None:
            unfinished = unfinished.where(tuple_(calls.c.updated, calls.c.session_id) > self._place)
        return unfinished.order_by(calls.c.updated, calls.c.session_id).limit(self._limits.batch)

    def closing_time(
        self, row: CallRow, seen: Mapping[str, float], now: float, live: Collection[str] = ()
    ) -> float | None:
        """Return when a call ended, as far as can be known; None if it may go on. seen: when each node last beat.

        what the row says           | closed as of            | after
        ----------------------------+-------------------------+----------------------------------------
        older than any call         | its last news           | at once
        its end, by one side        | that end                | `settle`, or once its node is dead
        transferred, no end told    | not here                |
        no stream                   | its last news           | `unanswered`
        a stream on this node       | its last news           | `settle`, unless it runs here
        a stream on another node    | its last beat, or news  | once that node is dead
        """
        limits, quiet = self._limits, now - row.updated
        if (row.created or row.updated) < now - limits.longest:
            return row.updated
        dead = self._is_dead(row, seen, now)
        if call_is_over(row) or session_done(row):
            in_transfer = row.next_kind == "dial" and not call_is_over(row)
            settled = (dead or quiet >= limits.settle) and not in_transfer
            return row.call_ended or row.ended if settled else None
        if not row.streams:
            return row.updated if quiet >= limits.unanswered else None
        if row.node == self._node:
            return row.updated if quiet >= limits.settle and row.session_id not in live else None
        return max(seen.get(row.node, 0.0), row.updated) if dead else None

    def _is_dead(self, row: CallRow, seen: Mapping[str, float], now: float) -> bool:
        """True if this row's node is dead by the database, and has said nothing of the call either."""
        silent = now - row.updated >= self._limits.beats.lease
        return row.node != self._node and silent and self.beats.is_dead(row.node, seen, now)

    async def _has_news(self, row: CallRow) -> bool:
        """True if the registry knows more, which is written first, or that the call goes on, or cannot be asked."""
        try:
            facts = await self._registry.find(row.session_id)
            if facts is None:
                return False
            joined = join(row, row_of(facts))
            if joined != row:
                self._writer.add(joined)
                return True
            goes_on = not (facts.over or session_done(row) or row.node == self._node)
            return goes_on and await self.beats.in_registry(row.node)
        except RegistryUnavailable:
            return True

    # What is old, or to be forgotten.

    async def remove(self) -> None:
        """Remove what this node has of the recordings that are to go."""
        async for some in self._removals.read():
            await asyncio.to_thread(self._remove, some)

    async def purge(self) -> None:
        """Delete what is older than the retention, and what other nodes have told long ago."""
        self._removals.begin_again()
        await self.beats.prune(2 * self._limits.longest)
        await prune_removals(self._engine)
        if self._retention:
            async with self._engine.connect() as connection:
                await connection.execution_options(**READ_ONLY)
                now = await self.beats.now(connection)
            await purge(self._engine, now - self._retention)
