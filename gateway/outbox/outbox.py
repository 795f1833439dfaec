"""All endpoints of a gateway process, and the upkeep of what they are sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from gateway.metrics import Metrics
from gateway.outbox.endpoint import Endpoint
from gateway.outbox.queue import EndpointQueue, QueueLimits
from gateway.outbox.sender import Sender
from gateway.outbox.table import DeliveryTable
from gateway.outbox.undelivered import UndeliveredEvents

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger(__name__)

MEASURE_SECONDS = 10.0
"""Between two looks for the oldest event that waits."""
PRUNE_SECONDS = 3600.0


@dataclass
class Outbox:
    """Delivers until stopped. keep_days: of events that did not arrive, 0 for ever.

    ready: set when the tables are there; None: they are.
    """

    engine: AsyncEngine
    endpoints: Sequence[Endpoint]
    keep_days: float = 0.0
    ready: asyncio.Event | None = None
    metrics: Metrics = field(default_factory=Metrics)
    limits: QueueLimits = QueueLimits()
    unix_time: Callable[[], float] = time.time
    attempt_seconds: float = 15.0

    def __post_init__(self) -> None:
        self._table = DeliveryTable(self.engine)
        self._undelivered = UndeliveredEvents(self.engine)
        self._sender = Sender(self.attempt_seconds)
        self._running: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._queues = [
            EndpointQueue(each, self._table, self._sender, self.limits, self.unix_time, self._count)
            for each in self.endpoints
        ]

    def start(self, spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]) -> None:
        """Begin to deliver. spawn: starts a task of that name, and logs what ends it unasked."""
        self._running = spawn(self._run(), "deliver events")

    def wake(self) -> None:
        """There are new rows: deliver them now. Called by the one who wrote them, in the loop; it only sets flags."""
        for queue in self._queues:
            queue.wake()

    async def stop(self) -> None:
        """Let attempts end that soon do, and give the rest back to the table. The engine stays open."""
        self._stopping.set()
        await asyncio.gather(*(queue.stop() for queue in self._queues))
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)
        await self._sender.close()

    def _count(self, result: str) -> None:
        self.metrics.event_deliveries[(result,)] += 1

    async def _run(self) -> None:
        try:
            # Not in the loop: to read the machine's certificates takes longer than a frame of audio.
            await asyncio.to_thread(self._sender.warm_up)
        except Exception:  # each attempt does again what failed here, and its verdict says what is wrong
            log.warning("events may not be delivered: what sends them could not be prepared", exc_info=True)
        if self.ready is not None and not await self._until(self.ready):
            return
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(queue.run(), name=f"events for {queue.endpoint.name}")
            group.create_task(self._upkeep(), name="upkeep of the outbox")

    async def _until(self, event: asyncio.Event) -> bool:
        """Wait for it; False if the end comes first."""
        waiting = {asyncio.create_task(event.wait()), asyncio.create_task(self._stopping.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return not self._stopping.is_set()

    async def _upkeep(self) -> None:
        from gateway.records.database import is_away

        prune_at = 0.0
        while not self._stopping.is_set():
            try:
                await self.measure()
                # Never before each endpoint has a row for all that there is, old as it may be.
                if time.monotonic() >= prune_at and all(queue.has_looked for queue in self._queues):
                    await self._undelivered.prune(self.unix_time(), self.keep_days * 86400)
                    prune_at = time.monotonic() + PRUNE_SECONDS
            except Exception as error:
                if not is_away(error):
                    log.exception("no upkeep of the outbox: a bug")  # of the database's absence the queues speak
            try:
                async with asyncio.timeout(MEASURE_SECONDS):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    async def measure(self) -> None:
        """Note how old the oldest event is that waits. Raises what the database does."""
        self.metrics.oldest_event = await self._table.oldest([each.name for each in self.endpoints])
