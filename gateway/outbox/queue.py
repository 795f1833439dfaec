"""Deliver one endpoint's events: several calls at once, each call's events in order.

A queue asks the table for what is due when it is woken (this node has written a row), when an attempt is over, and
every few seconds, as other nodes write rows and die, too. An endpoint that failed several times in a row is asked
once at a time until it answers; then all that waits for it is due at once, so that an outage of an hour costs a minute.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from gateway.outbox.endpoint import Endpoint
from gateway.outbox.sender import Sender
from gateway.outbox.table import Claimed, DeliveryTable
from gateway.outbox.verdict import Dead, Delivered, Reply, Retry, Verdict, verdict

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of one endpoint on one node. Times are seconds."""

    max_concurrent: int = 8
    """Attempts at once. A receiver that takes 100 ms gets 80 events a second."""
    lease: float = 30.0
    """Until another node takes over what a dead one was sending. Longer than any attempt and the skew of clocks."""
    poll: float = 2.0
    """Between two looks at the table."""
    coalesce_seconds: float = 0.01
    """What happens within so long is one reason to look, as a look is three questions to the database."""
    full_look: float = 300.0
    """Between two looks through the whole table, for rows that became visible late."""
    failures_until_down: int = 5
    """Consecutive failures from which on an endpoint counts as down."""
    stop_seconds: float = 2.0
    """For attempts under way at the end of the process."""


@dataclass(slots=True)
class EndpointQueue:
    """One endpoint's events on this node. unix_time: of the rows' times. on_result: "delivered", "retry", "dead"."""

    endpoint: Endpoint
    table: DeliveryTable
    sender: Sender
    limits: QueueLimits = QueueLimits()
    unix_time: Callable[[], float] = time.time
    on_result: Callable[[str], None] = lambda _: None
    _running: dict[asyncio.Task[None], Claimed] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _new_rows: bool = True
    """There may be events without a row for this endpoint."""
    _stopping: bool = False
    _failures: int = 0
    """Consecutive failures."""
    _next_id: int = 0
    """From here on the table is searched for events without a row for this endpoint."""
    _full_look_at: float = 0.0

    @property
    def failing(self) -> bool:
        """True while the endpoint is taken to be down."""
        return self._failures >= self.limits.failures_until_down

    @property
    def has_looked(self) -> bool:
        """True once every event in the table has a row for this endpoint."""
        return self._full_look_at > 0

    def wake(self) -> None:
        """Look at the table now: there may be a new row."""
        self._new_rows = True
        self._wake.set()

    async def run(self) -> None:
        """Deliver until `stop` is called."""
        from gateway.records.database import is_away

        away = False
        while not self._stopping:
            self._wake.clear()
            try:
                await self.start_due()
                away = False
            except Exception as error:  # the rows stay
                if not away and is_away(error):
                    log.warning("the outbox does not answer, events wait", error=type(error).__name__)
                elif not away:
                    log.exception("events wait: a bug", endpoint=self.endpoint.name)
                away = self._new_rows = True
            try:
                async with asyncio.timeout(self.limits.poll):
                    await self._wake.wait()
            except TimeoutError:
                self._new_rows = True  # of other nodes
            if not self._stopping:
                await asyncio.sleep(self.limits.poll if away else self.limits.coalesce_seconds)

    async def stop(self) -> None:
        """Begin nothing more; let attempts end that soon do, and give the other claims back."""
        self._stopping = True
        self.wake()
        if not self._running:
            return
        left = dict(self._running)
        _, pending = await asyncio.wait(left, timeout=self.limits.stop_seconds)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._release([left[task] for task in pending])

    async def _release(self, claims: Iterable[Claimed]) -> None:
        try:
            for claimed in claims:
                await self.table.release(claimed)
        except Exception as error:
            log.debug("claims were not given back", error=type(error).__name__)  # their leases end them

    async def drain(self) -> None:
        """Deliver what is due now, and what becomes due by that."""
        self._new_rows = True
        while await self.start_due() or self._running:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    async def start_due(self) -> int:
        """Claim what is due and begin to send it; returns how many. Raises what the database does."""
        now, name = self.unix_time(), self.endpoint.name
        if self._new_rows:
            self._new_rows = False
            after = self._next_id if now < self._full_look_at else None
            self._next_id = await self.table.add_missing(name, self.endpoint.types, after, now)
            if after is None:
                self._full_look_at = now + self.limits.full_look
        free = (1 if self.failing else self.limits.max_concurrent) - len(self._running)
        if free <= 0:
            return 0
        claimed = await self.table.claim(name, now, now + self.limits.lease, free)
        if self._stopping:  # meanwhile
            await self._release(claimed)
            return 0
        for each in claimed:
            task = asyncio.create_task(self._deliver(each), name=f"event for {name}")
            self._running[task] = each
            task.add_done_callback(self._ended)
        return len(claimed)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("an event's verdict was not kept", error=type(error).__name__)  # its lease ends it
        self._wake.set()

    async def _deliver(self, claimed: Claimed) -> None:
        reply = await self._attempt(claimed)
        decided = verdict(reply, claimed.attempts + 1, random.random())  # noqa: S311 - spreads load
        now = self.unix_time()
        # First: it would be sent again if anything before it failed.
        if await self.table.finish(claimed, decided, now):
            self._report(claimed, decided)
        await self._note_health(isinstance(decided, Delivered), now)

    def _report(self, claimed: Claimed, decided: Verdict) -> None:
        match decided:
            case Delivered():
                self.on_result("delivered")
            case Retry():
                self.on_result("retry")
            case Dead(error):
                self.on_result("dead")
                what = {"endpoint": claimed.endpoint, "event": claimed.event_id, "type": claimed.type}
                log.warning("an event is dead: `gateway events replay` sends it again", **what, error=error)

    async def _attempt(self, claimed: Claimed) -> Reply:
        body = claimed.payload  # the same bytes at each attempt
        try:
            headers = self.endpoint.signatures.headers(claimed.event_id, body, self.unix_time())
        except Exception as error:  # a row that no writer of ours has written
            return Reply(0, f"cannot be signed: {type(error).__name__}")
        return await self.sender.post(self.endpoint.url, body, headers)

    async def _note_health(self, well: bool, now: float) -> None:
        if not well:
            self._failures += 1
            if self._failures == self.limits.failures_until_down:
                log.warning("an endpoint fails, its events wait", endpoint=self.endpoint.name)
            return
        if self.failing and not await self._retry_now(now):
            return  # it counts as one that fails until the next delivery, which tries that again
        self._failures = 0

    async def _retry_now(self, now: float) -> bool:
        """Make due what waits for an endpoint that answers again. False: the database did not take it."""
        try:
            await self.table.retry_now(self.endpoint.name, now)
        except Exception as error:
            what = {"endpoint": self.endpoint.name, "error": type(error).__name__}
            log.warning("an endpoint answers again, its other events still wait: the outbox does not answer", **what)
            return False
        log.info("an endpoint answers again", endpoint=self.endpoint.name)
        return True
