"""The lane in the registry, as one node uses it: whose turn it is, and which calls this node has in hand."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from gateway.dialout.lane import Idle, Lane, Refused, Taken
from gateway.dialout.limits import DialoutLimits
from gateway.node.node import Node

T = TypeVar("T")

LANE = "dialout"
REMEMBERED = 24 * 3600.0
"""Seconds that the lane is kept after its last change."""


class Pace:
    """See `Lane`, whose methods these are. Each raises RegistryUnavailable.

    held: the sessions that this node does something for; their leases are renewed by `keep`. ringing: those of them
    that the carrier may have and that have no stream yet, though it may come.
    """

    def __init__(self, node: Node, limits: DialoutLimits) -> None:
        self._node = node
        self._limits = limits
        self.held: set[str] = set()
        self.ringing: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    async def enter(self, session: str, how: dict[str, Any]) -> Taken | Idle | Refused:
        entered = await self._change(lambda lane, now: lane.enter(session, self._node.id, how, now, self._limits))
        return self._hold(entered) if isinstance(entered, Taken) else entered

    async def promise(self, session: str) -> bool:
        return await self._change(lambda lane, _: lane.promise(session, self._node.id))

    async def take(self, *, give_up: bool = False) -> Taken | Idle:
        """give_up: what waits has waited too long."""
        limits = replace(self._limits, queue_seconds=-math.inf) if give_up else self._limits
        taken = await self._change(lambda lane, now: lane.take(self._node.id, now, limits))
        return self._hold(taken) if isinstance(taken, Taken) else taken

    async def send(self, session: str) -> bool:
        return await self._change(lambda lane, now: lane.send(session, self._node.id, now, self._limits))

    async def place(self, session: str) -> bool:
        return await self._change(lambda lane, now: lane.place(session, self._node.id, now, self._limits))

    async def put_back(self, session: str) -> None:
        self.held.discard(session)
        await self._change(lambda lane, _: lane.put_back(session, self._node.id))

    async def leave(self, session: str) -> None:
        self.held.discard(session)
        await self._change(lambda lane, _: lane.leave(session))

    async def keep(self) -> None:
        """Renew the leases of the calls in hand, and let go of those that another node has now."""
        if self.held:
            self.held -= await self._change(
                lambda lane, now: lane.keep(self._node.id, tuple(self.held), now, self._limits)
            )

    def _hold(self, taken: Taken) -> Taken:
        self.held.add(taken.session)
        return taken

    async def _change(self, step: Callable[[Lane, float], T]) -> T:
        def change(text: str, now: float) -> tuple[str, T]:
            lane = Lane(text)
            result = step(lane, now)
            return lane.write(), result

        # One after another: a burst would else compete with itself for the record, and only other nodes need to.
        async with self._one_at_a_time:
            return await self._node.registry.change(LANE, REMEMBERED, change)
