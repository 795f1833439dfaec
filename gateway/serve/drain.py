"""How a gateway process ends: the first signal drains it, the second ends it now."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import structlog

from gateway.protocol.codes import EndReason
from gateway.sessions.table import Sessions

log = structlog.get_logger(__name__)

LAST_WAIT = 3.0
"""Seconds beyond `hand_over` that calls have to end in once they were told to."""


class Drain:
    """Ends the process when its calls have ended, or at a deadline.

    others: there are other gateways, which go on with calls that outlast the drain. busy: there will be calls yet, as
    some ring that we placed.
    """

    def __init__(
        self, sessions: Sessions, drain_seconds: float, *, others: bool, busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._sessions = sessions
        self._node = sessions.node
        self._drain_seconds = drain_seconds
        self._others = others
        self._busy = busy
        self._done = asyncio.Event()
        self.forced = False

    async def wait(self) -> None:
        """Wait until the process is to end."""
        await self._done.wait()

    def on_signal(self, signum: int) -> None:
        """Begin to drain; if that is under way, end now."""
        if self._node.draining:
            log.warning("stopping now", signal=signal.Signals(signum).name, calls=len(self._sessions))
            self.forced = True
            for session in self._sessions:
                session.end(EndReason.DRAINED)  # their bots would keep their host waiting
            self._done.set()
            return
        self._node.draining = True
        log.info("draining", calls=len(self._sessions), at_most_seconds=self._drain_seconds)
        self._node.spawn(self._run(), "drain")

    def on_orphaned(self, parent: int) -> None:
        """Drain, as the parent has died: its successor needs the port."""
        asyncio.get_running_loop().remove_reader(parent)
        if not self._node.draining:
            self.on_signal(signal.SIGTERM)

    async def _run(self) -> None:
        """Wait until the last call has ended; hand over or end the rest at the deadline."""
        if self._others:
            await asyncio.sleep(self._node.limits.drain_notice)
        self._node.refusing = True
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._until_idle()
        except TimeoutError:
            for session in self._sessions:
                if self._others:
                    session.hand_over()
                else:
                    session.end(EndReason.DRAINED)
            try:
                async with asyncio.timeout(self._node.limits.hand_over + LAST_WAIT):
                    await self._until_idle()
            except TimeoutError:
                pass
        self._done.set()

    async def _until_idle(self) -> None:
        while self._sessions or self._busy():  # noqa: ASYNC110 - for seconds in a process's life, and by this task alone
            await asyncio.sleep(0.05)
