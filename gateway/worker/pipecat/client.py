"""Reads the events of a call for both halves of its transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol

from gateway.worker.api import Audio, Call, Dtmf, Event, Mark

log = logging.getLogger(__name__)

OUR_MARK = "pipecat-transport-"
"""What the names of our own marks begin with: the bot is not told of them."""


class Listener(Protocol):
    """Is told of the call's events, one after another."""

    def heard(self, pcm: bytes) -> Awaitable[None]:
        """The caller says something."""

    def pressed(self, digit: str) -> Awaitable[None]:
        """The caller presses a key."""

    def reached(self, mark: str) -> Awaitable[None]:
        """One of our marks was heard, or never will be."""

    def noted(self, event: Event) -> Awaitable[None]:
        """Something else happens."""

    def ended(self) -> Awaitable[None]:
        """The call is over, and not by us."""


class CallClient:
    """Reads from the first half's start until both halves have left: what was said last is still to be heard then."""

    def __init__(self, call: Call, listener: Listener) -> None:
        self.call = call
        self.leaving = False
        """We end the call, and are not told that it has ended."""
        self._listener = listener
        self._halves: set[object] = set()
        self._reading: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """The caller is gone."""
        return self.call.end_reason != ""

    def join(self, half: object) -> None:
        """Read for this half, too."""
        self._halves.add(half)
        if self._reading is None:
            # Not one of the pipeline's tasks: it outlives the half that began it.
            self._reading = asyncio.get_running_loop().create_task(self._read(), name="gateway-call-events")

    def leave(self, half: object) -> None:
        """Read no more for this half; for none, when it was the last."""
        self._halves.discard(half)
        if not self._halves and self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        async for event in self.call:
            try:
                await self._tell(event)
            except Exception:  # of a processor, a filter: one event is lost, and not the caller
                log.exception("an event of the call could not be handled")
        if not self.leaving:
            await self._listener.ended()

    async def _tell(self, event: Event) -> None:
        match event:
            case Audio(pcm):
                await self._listener.heard(pcm)
            case Dtmf(digit):
                await self._listener.pressed(digit)
            case Mark(name) if name.startswith(OUR_MARK):
                await self._listener.reached(name)
            case _:
                await self._listener.noted(event)
