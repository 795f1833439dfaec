"""Count a transferred call, once: one that is not answered comes back to its bot, and has another end.

A process that ends meanwhile does not count it: the timer is lost, and the metric is short by one.
"""

from __future__ import annotations

import asyncio

from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.pool.facts import Facts


def count_transferred_later(node: Node, facts: Facts, service: str) -> None:
    """Count the call when it can no longer come back. facts: as its session ended."""

    def count() -> None:
        node.spawn(count_transferred(node, facts, service), f"count {facts.session}")

    asyncio.get_running_loop().call_later(node.limits.dial_rings, count)


async def count_transferred(node: Node, facts: Facts, service: str) -> None:
    """Count the call, unless another stream or session has gone on with it, on whichever node: that end is counted."""
    try:
        known = await node.registry.find(facts.session) or facts
    except RegistryUnavailable:
        known = facts
    if known.streams <= facts.streams and not known.moved:
        node.metrics.note_transferred(facts.carrier, service)
