"""A registry that is slow to keep what the test says, in front of a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.pool.facts import FactEvent, Facts
from tests.kit.waiting import PATIENCE


class SlowFacts:
    """Keep facts only once `gate` is set, where `is_slow` says so of their event. asked: how many of these came."""

    def __init__(self, gateway: Any, is_slow: Callable[[FactEvent], bool]) -> None:
        self._registry = gateway.memory
        self._is_slow = is_slow
        self.gate = asyncio.Event()
        self.asked = 0
        gateway.node.registry.timeout = PATIENCE
        gateway.node.registry.registry = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    async def merge(self, session: str, event: FactEvent) -> Facts:
        if self._is_slow(event):
            self.asked += 1
            await self.gate.wait()
        facts: Facts = await self._registry.merge(session, event)
        return facts
