"""What happens to calls now, for pages and scripts that watch: server-sent events (WHATWG HTML, section 9.2).

Read from the outbox, so that each node shows the calls of all. The table is read only while anyone watches: when
this node has written a row, and every second for those of others. A watcher that falls behind is told how many
events it missed; what must not be missed goes to an endpoint of `[[events]]`.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import RecordsUnavailable
from gateway.outbox.table import REREAD_IDS
from gateway.records.events import EVENT_TYPES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger(__name__)

BATCH = 500
"""Rows that are read at once."""
LINE_ENDS = re.compile("\r\n|\r|\n")
"""Those of an event stream. Others that Unicode knows, as U+2028, may stand in the strings of a body."""
HEARTBEAT = b": heartbeat\n\n"
HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}
"""The last keeps nginx from holding them back."""


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """Times are seconds."""

    watchers: int = 100
    queued: int = 256
    """Events that one watcher may be behind: half a megabyte."""
    heartbeat: float = 15.0
    """Proxies end what is silent for 60 s."""
    poll: float = 1.0
    send: float = 30.0
    """A watcher who takes nothing for so long is gone."""


class Watcher:
    """One who watches. types: the events that are shown."""

    def __init__(self, types: Collection[str], max_events: int) -> None:
        self._types = frozenset(types)
        self._max_events = max_events
        self._queue: deque[bytes] = deque()
        self._missed = 0
        self._news = asyncio.Event()
        self.closed = False

    def push(self, kind: str, frame: bytes) -> None:
        """Show an event, or count it as missed."""
        if kind not in self._types:
            return
        if len(self._queue) >= self._max_events or self._missed:
            self._missed += 1
        else:
            self._queue.append(frame)
        self._news.set()

    def close(self) -> None:
        """End the stream."""
        self.closed = True
        self._news.set()

    async def next(self, seconds: float) -> bytes:
        """Return what is new, a heartbeat after so many seconds without any, b"" at the end."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return HEARTBEAT
        if self.closed:
            return b""
        self._news.clear()
        chunk = b"".join(self._queue)
        self._queue.clear()
        if self._missed:
            chunk += b'event: missed\ndata: {"missed": %d}\n\n' % self._missed
            self._missed = 0
        return chunk


@dataclass
class LiveEvents:
    """Shows new rows of the outbox to all who watch."""

    engine: AsyncEngine
    limits: LiveLimits = LiveLimits()
    _watchers: set[Watcher] = field(default_factory=set)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _watched: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: bool = False
    _newest: int | None = None
    """The greatest id that was read; None while there are no watchers."""
    _seen: set[int] = field(default_factory=set)
    """Ids near it: rows become visible in another order than they got their ids."""

    def wake(self) -> None:
        """There are new rows. Called by the one who wrote them, in the loop."""
        self._wake.set()

    async def watch(self, types: Collection[str] = EVENT_TYPES) -> Watcher | None:
        """Begin to watch; None: too many do. Raises RecordsUnavailable."""
        from gateway.records.database import is_away

        if self._closed or len(self._watchers) >= self.limits.watchers:
            return None
        watcher = Watcher(types, self.limits.queued)
        self._watchers.add(watcher)
        try:
            if self._newest is None:
                await self._read(show=False)
        except Exception as error:
            self.leave(watcher)
            if not is_away(error):
                log.exception("live events cannot begin: a bug")
            raise RecordsUnavailable(f"the outbox cannot be read: {type(error).__name__}") from None
        except BaseException:
            self.leave(watcher)
            raise
        self._watched.set()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """End watching."""
        self._watchers.discard(watcher)
        if not self._watchers and not self._closed:
            self._watched.clear()
            self._newest = None
            self._seen.clear()

    async def run(self) -> None:
        """Read the table while anyone watches, until `close`."""
        from gateway.records.database import is_away

        complained = False
        while True:
            await self._watched.wait()
            if self._closed:
                return
            self._wake.clear()
            try:
                more = await self._read(show=True)
                complained = False
                if more:
                    continue
            except Exception as error:
                if not is_away(error) and not complained:  # of the database's absence the writer speaks
                    log.exception("live events wait: a bug")
                    complained = True
            try:
                async with asyncio.timeout(self.limits.poll):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def close(self) -> None:
        """End all streams, and `run`."""
        self._closed = True
        for watcher in self._watchers:
            watcher.close()
        self._watched.set()
        self._wake.set()

    async def _read(self, *, show: bool) -> bool:
        """Read what is new; True if there may be more."""
        from sqlalchemy import func, select

        from gateway.records.database import READ_ONLY
        from gateway.records.schema import outbox

        async with self.engine.connect() as connection:
            await connection.execution_options(**READ_ONLY)
            newest = self._newest
            if newest is None:
                newest = (await connection.execute(select(func.max(outbox.c.id)))).scalar() or 0
            asked = select(outbox.c.id, outbox.c.event_id, outbox.c.type, outbox.c.payload)
            new = asked.where(outbox.c.id > newest - REREAD_IDS, outbox.c.id.not_in(self._seen))
            rows = (await connection.execute(new.order_by(outbox.c.id).limit(BATCH))).all()
        if not self._watchers:
            return False
        for row in rows:
            if show and row.id not in self._seen:
                frame = frame_of(row.event_id, row.type, row.payload)
                for watcher in self._watchers:
                    watcher.push(row.type, frame)
            self._seen.add(row.id)
        self._newest = max([newest, *(row.id for row in rows)])
        self._seen = {each for each in self._seen if each > self._newest - REREAD_IDS}
        return len(rows) == BATCH


def frame_of(event_id: str, kind: str, payload: str) -> bytes:
    """Write one event. Its data is the body that endpoints are sent."""
    data = "\ndata: ".join(LINE_ENDS.split(payload))
    return f"id: {event_id}\nevent: {kind}\ndata: {data}\n\n".encode()


class LiveResponse(Response):
    """Streams to one watcher until one side ends it."""

    def __init__(self, live: LiveEvents, watcher: Watcher) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._live = live
        self._watcher = watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        if scope["method"] == "HEAD":
            self._watcher.close()
        tasks = {asyncio.create_task(self._pump(send)), asyncio.create_task(_until_gone(receive))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._live.leave(self._watcher)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, send: Send) -> None:
        limits = self._live.limits
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        chunk = b": what happens from now on\n\n" if not self._watcher.closed else b""
        while chunk:
            async with asyncio.timeout(limits.send):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await self._watcher.next(limits.heartbeat)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
