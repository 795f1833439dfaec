"""The dial queue in the registry, as one node uses it: whose turn it is, and which calls this node has."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from gateway.dialout.dial_queue import DialQueue, MustWait, NothingDue, QueueFull, Taken
from gateway.dialout.limits import DialoutLimits
from gateway.node.node import Node

T = TypeVar("T")

KEY = "dialout"
"""Of the registry's text that is the queue."""
REMEMBERED = 24 * 3600.0
"""Seconds that the queue is kept after its last change."""


class SharedQueue:
    """The methods of `DialQueue`, as steps on the registry's. Each that awaits raises RegistryUnavailable.

    held: the sessions that this node does something for; `keep` renews their leases.
    ringing: those of them that the carrier may have and that have no stream yet, though it may come.
    """

    def __init__(self, node: Node, limits: DialoutLimits) -> None:
        self._node = node
        self._limits = limits
        self.held: set[str] = set()
        self.ringing: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    async def enter(self, session: str, dial_options: dict[str, Any]) -> Taken | MustWait | QueueFull:
        entered = await self._change(
            lambda queue, now: queue.enter(session, self._node.id, dial_options, now, self._limits)
        )
        return self._note_taken(entered) if isinstance(entered, Taken) else entered

    async def promise(self, session: str) -> bool:
        return await self._change(lambda queue, _: queue.promise(session, self._node.id))

    async def take(self, *, give_up: bool = False) -> Taken | NothingDue:
        """give_up: what waits has waited too long."""
        limits = replace(self._limits, queue_seconds=-math.inf) if give_up else self._limits
        taken = await self._change(lambda queue, now: queue.take(self._node.id, now, limits))
        return self._note_taken(taken) if isinstance(taken, Taken) else taken

    async def send(self, session: str) -> bool:
        return await self._change(lambda queue, now: queue.send(session, self._node.id, now, self._limits))

    async def place(self, session: str) -> bool:
        return await self._change(lambda queue, now: queue.place(session, self._node.id, now, self._limits))

    async def put_back(self, session: str) -> None:
        self.let_go(session)
        await self._change(lambda queue, _: queue.put_back(session, self._node.id))

    async def leave(self, session: str) -> None:
        self.let_go(session)
        await self._change(lambda queue, _: queue.leave(session))

    async def keep(self) -> None:
        """Renew the leases of the calls in hand, and let go of those that another node has now."""
        if self.held:
            self.held -= await self._change(
                lambda queue, now: queue.keep(self._node.id, tuple(self.held), now, self._limits)
            )

    def let_go(self, session: str) -> None:
        """Do nothing more for this call: its lease is not renewed any more, and ends unless it has left."""
        self.held.discard(session)

    def note_ringing(self, session: str) -> None:
        """The carrier may have it, and its stream is yet to come."""
        self.ringing.add(session)

    def note_not_ringing(self, session: str) -> None:
        """Its stream has come, or comes no more."""
        self.ringing.discard(session)

    def _note_taken(self, taken: Taken) -> Taken:
        self.held.add(taken.session)
        return taken

    async def _change(self, step: Callable[[DialQueue, float], T]) -> T:
        def change(text: str, now: float) -> tuple[str, T]:
            queue = DialQueue(text)
            result = step(queue, now)
            return queue.write(), result

        # One after another: a burst would else compete with itself for the record, and only other nodes need to.
        async with self._one_at_a_time:
            return await self._node.registry.change(KEY, REMEMBERED, change)
