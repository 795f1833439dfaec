"""The writer of records: takes facts from calls at once, and writes them in batches beside everything else.

Calls never wait for it. What it has not written yet is in a bounded queue, one row for a session; if the database is
away for long, the oldest are dropped, counted and told. It begins with the migrations, and tries those again, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from gateway.pool.facts import Facts
from gateway.records.base import Records
from gateway.records.row import CallRow, join, row_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """Tests run it scaled down."""

    queued: int = 10_000
    """Sessions that wait to be written, some 20 MB; at 20 calls a minute those of eight hours."""
    remembered: int = 20_000
    """Sessions of which it is known what was noted last: more would be written twice, with no effect."""
    batch: int = 20
    """Rows in one transaction. What SQLAlchemy does for them runs between frames: some 4 ms."""
    linger: float = 0.1
    """Seconds that the first of a batch waits for others."""
    retry: float = 1.0
    max_retry: float = 30.0
    """Seconds between two tries while the database is away, doubled up to this."""
    flush: float = 5.0
    """Seconds that are given to what still waits when the gateway ends."""


class RecordWriter(Records):
    """See the module's docstring.

    node: id of this process. wanted: types of events that are told to anyone.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        node: str = "",
        wanted: Collection[str] = (),
        limits: WriterLimits = WriterLimits(),
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self.dropped = 0
        """Sessions whose news were dropped."""
        self.refused = 0
        """Rows that cannot be written, where others can: a bug of ours."""
        self.written = self.failed = 0
        """Rows."""
        self.clock_ahead = 0.0
        """Seconds by which the database's clock is ahead of ours."""
        self.away = False
        """The database does not answer."""
        self.migrated = asyncio.Event()
        self.tried = asyncio.Event()
        """The tables are there, or the database was away at the first try, which takes some seconds at most."""
        self.on_events: Callable[[], None] = lambda: None
        """Called when rows of the outbox have been written: they are delivered at once, not at the next look."""
        self._node = node
        self._wanted = frozenset(wanted)
        self._limits = limits
        self._unix_time = unix_time
        self._queue: OrderedDict[str, CallRow] = OrderedDict()
        self._last_noted: OrderedDict[str, int] = OrderedDict()
        """Of each session a hash of what was noted last."""
        self._writing = 0
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many sessions wait to be written, or are being written."""
        return len(self._queue) + self._writing

    @property
    def results(self) -> dict[str, int]:
        """Rows that were written, failed (a try: they wait on), were refused or dropped."""
        return {"written": self.written, "failed": self.failed, "refused": self.refused, "dropped": self.dropped}

    def note(self, facts: Facts) -> None:
        if not (facts.created or facts.streams or facts.recording):
            return  # a call of another's, of which a callback came here
        if not (facts.direction or facts.call_id or facts.from_number or facts.streams or facts.recording):
            return  # what `POST /start` has prepared is no call before one has come, and may stay none
        # Not the body, which costs most to write: once there is one it stays.
        news = hash((row_of(replace(facts, body={})), bool(facts.body)))
        if self._last_noted.get(facts.session) == news:
            return
        self._last_noted[facts.session] = news
        self._last_noted.move_to_end(facts.session)
        if len(self._last_noted) > self._limits.remembered:
            self._last_noted.popitem(last=False)
        row = row_of(facts)
        self.add(row if row.node or not self._node else replace(row, node=self._node))

    def add(self, row: CallRow) -> None:
        """Queue a row, joined with what waits of its session already."""
        waiting = self._queue.get(row.session_id)
        self._queue[row.session_id] = join(waiting, row) if waiting is not None else row
        self._drop_oldest()
        self._wake.set()

    def _drop_oldest(self) -> None:
        while len(self._queue) > self._limits.queued:
            session, _ = self._queue.popitem(last=False)
            self._last_noted.pop(session, None)  # the same facts are news again
            self.dropped += 1
            if self.dropped == 1 or self.dropped % 1000 == 0:
                log.warning("records dropped, the oldest first: too many wait to be written", dropped=self.dropped)

    async def run(self) -> None:
        """Migrate, then write until canceled."""
        await self._until_migrated()
        pause = self._limits.retry
        while True:
            await self._wake.wait()
            if not self.away:
                await asyncio.sleep(self._limits.linger)
            if await self.write_batch():
                pause = self._limits.retry
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._limits.max_retry)

    async def flush(self) -> None:
        """Write what waits, within the limit. `run` has been canceled."""
        tries = -(-self.waiting // self._limits.batch)  # that meet a bug, whose rows go to the end: once round
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.flush):
                while self.waiting and self.migrated.is_set() and tries:
                    if not await self.write_batch():
                        tries = 0 if self.away else tries - 1

    async def close(self) -> None:
        """Write what waits, and let go of the database."""
        await self.flush()
        if self.waiting:
            log.warning("records lost: they could not be written before the end", sessions=self.waiting)
        try:
            async with asyncio.timeout(self._limits.flush):
                await self.engine.dispose()
        except TimeoutError:
            pass

    async def write_batch(self) -> bool:
        """Write the oldest of what waits. False: nothing could be written, and it waits on."""
        from gateway.records.database import AWAY

        batch = {name: self._queue.pop(name) for name in list(self._queue)[: self._limits.batch]}
        if not self._queue:
            self._wake.clear()
        if not batch:
            return True
        written, put_back, self._writing = False, batch, len(batch)
        try:
            await self._write(batch)
            written, put_back = True, {}
            self._note_away(None)
        except AWAY as error:
            self.failed += len(batch)
            self._note_away(error)
        except Exception:  # must not end the writer
            self.failed += len(batch)
            log.exception("records not written, to be tried again: a bug")
            put_back = {}
            for row in batch.values():  # behind the others, which may be written meanwhile
                self.add(row)
        finally:
            self._writing = 0
            self._put_back(put_back)  # also when canceled: `close` writes it
        return written

    async def _write(self, batch: dict[str, CallRow]) -> None:
        """Write these rows at once; if that fails with one of them, each by itself, and drop that one.

        Raises one of AWAY; or what a bug raised, if no row could be written: it may not be the row's fault then.
        """
        from gateway.records.database import is_away, is_refusal

        try:
            await self._upsert(batch)
            return
        except Exception as failure:
            if is_away(failure):
                raise
            failures = {next(iter(batch)): failure} if len(batch) == 1 else await self._write_each(batch)
        bugs = [error for error in failures.values() if not is_refusal(error)]
        if bugs and len(failures) == len(batch):
            raise bugs[0]
        for session, error in failures.items():
            self.refused += 1
            log.error("a record cannot be written", session=session, error=reason(error))

    async def _write_each(self, batch: dict[str, CallRow]) -> dict[str, Exception]:
        """Write each row by itself; return the sessions of those that failed, and why. Raises one of AWAY."""
        from gateway.records.database import is_away

        failures = {}
        for session, row in batch.items():
            try:
                await self._upsert({session: row})
            except Exception as error:
                if is_away(error):
                    raise
                failures[session] = error
        return failures

    async def _upsert(self, rows: dict[str, CallRow]) -> None:
        from gateway.records.upsert import upsert

        if await upsert(self.engine, rows, self._wanted, self._unix_time(), self.clock_ahead):
            self.on_events()
        self.written += len(rows)

    def _put_back(self, batch: dict[str, CallRow]) -> None:
        """What came meanwhile is younger: these go first again, and are dropped first where all are too many."""
        if not batch:
            return
        queue = OrderedDict(batch)
        for session, row in self._queue.items():
            queue[session] = join(queue[session], row) if session in queue else row
        self._queue = queue
        self._drop_oldest()
        self._wake.set()

    async def _until_migrated(self) -> None:
        from gateway.records.database import AWAY, migrate

        pause = self._limits.retry
        while True:
            try:
                await migrate(self.engine)
                break
            except AWAY as error:
                self._note_away(error)
            except Exception:
                log.exception("the schema of records is not migrated, to be tried again: a bug")
            finally:
                self.tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._limits.max_retry)
        self._note_away(None)
        self.migrated.set()

    def _note_away(self, error: BaseException | None) -> None:
        """Say once that the database is away, and once that it is back."""
        if (error is not None) == self.away:
            return
        self.away = error is not None
        if error is not None:
            log.warning("the database of records is away", error=reason(error))
        else:
            log.info("the database of records is back", waiting=self.waiting, dropped=self.dropped)


def reason(error: BaseException) -> str:
    """Return what is wrong in one line, without statements and their values: these hold numbers."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0][:200] if str(cause) else ''}"
