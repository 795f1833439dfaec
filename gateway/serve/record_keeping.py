"""The records of a gateway process: opened by its settings, written beside its calls, closed behind them.

The events that the user's own systems are told are in the same database, and sent from here.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.errors import SettingsError
from gateway.outbox.live import LiveEvents
from gateway.outbox.outbox import Outbox
from gateway.records.base import RecordStore
from gateway.records.events import EVENT_TYPES
from gateway.records.writer import RecordWriter
from gateway.sessions.ask_outcome import ask_state
from gateway.sessions.recording import remove_recordings
from gateway.sessions.table import Sessions
from gateway.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

DAY = 86400.0


@dataclass(slots=True)
class RecordKeeping:
    """What a process has of the records. node: the id that it writes them by."""

    settings: Settings
    node: str
    engine: AsyncEngine
    writer: RecordWriter
    store: RecordStore
    live: LiveEvents
    _outbox: Outbox | None = None
    _tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def start(self, sessions: Sessions) -> None:
        """Write, look after what is written, and send events, beside all calls."""
        from gateway.records.upkeep import Upkeep

        node, days = sessions.node, self.settings.retention_days
        node.metrics.records = self.writer
        upkeep = Upkeep(
            self.writer,
            node.id,
            node.registry,
            live=lambda: {session.id for session in sessions},
            remove=lambda what: remove_recordings(node, {each.session_id: each.recording for each in what}),
            ask_carrier=partial(ask_state, node),
            retention=days * DAY,
        )
        self._tasks = [
            node.spawn(self.writer.run(), "write records"),
            node.spawn(upkeep.run(), "upkeep of records"),
            node.spawn(self.live.run(), "show events"),
        ]
        endpoints = [each.endpoint() for each in self.settings.events]
        # Without endpoints, too: what an earlier configuration has left is removed at last.
        self._outbox = Outbox(self.engine, endpoints, days, ready=self.writer.migrated, metrics=node.metrics)
        self.writer.on_events = self._on_events
        self._outbox.start(node.spawn)

    def _on_events(self) -> None:
        self.live.wake()
        if self._outbox is not None:
            self._outbox.wake()

    async def close(self) -> None:
        """Write what waits, and let go of the database."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.writer.flush()
        if self._outbox is not None:
            await self._outbox.stop()
        await self.writer.close()


def make_record_keeping(settings: Settings) -> RecordKeeping | None:
    """Open the records of these settings; None if none are kept. Nothing is connected to before it is used.

    Raises SettingsError if the driver of the database is not installed.
    """
    if not settings.records:
        return None
    from gateway.records.database import open_engine
    from gateway.records.store import DatabaseStore

    try:
        engine = open_engine(settings.records)
    except ImportError:
        raise SettingsError("records", 'needs asyncpg: pip install "carrier-stream-gateway[postgres]"') from None
    node = secrets.token_hex(8)
    writer = RecordWriter(engine, node=node, wanted=wanted_events(settings))
    return RecordKeeping(settings, node, engine, writer, DatabaseStore(engine), LiveEvents(engine))


def wanted_events(settings: Settings) -> frozenset[str]:
    """Return the types of events that any endpoint is told, or that a key of the API may watch."""
    if settings.api.keys:
        return frozenset(EVENT_TYPES)
    return frozenset(kind for each in settings.events for kind in each.endpoint().types)
