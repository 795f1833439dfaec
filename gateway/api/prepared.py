"""Sessions that `POST /start` has prepared, until their stream comes, or does not."""

from __future__ import annotations

import asyncio

import orjson

from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.pool.facts import FactEvent, hung_up
from gateway.protocol.codes import EndReason

MAX_BYTES = 64 * 1024 * 1024
"""Of what waits at once: of bodies of 64 KB a thousand."""
BYTES_EACH = 1024
"""What one takes beside its body."""
PREPARED_SECONDS = 300.0
"""A prepared stream must be opened within this: the call to it is placed, and answered, first."""


class PreparedSessions:
    """Of one node's API. One whose stream has not come in time ends, and is forgotten as any call is."""

    def __init__(self, seconds: float = PREPARED_SECONDS, max_bytes: int = MAX_BYTES) -> None:
        self.seconds = seconds
        self._max_bytes = max_bytes
        self._bytes = 0

    async def prepare(self, node: Node, session: str, facts: FactEvent) -> bool:
        """Keep the facts of a session without a call. False: too much waits already. Raises RegistryUnavailable."""
        size = len(orjson.dumps(dict(facts.body))) + BYTES_EACH
        if self._bytes + size > self._max_bytes:
            return False
        self._bytes += size
        asyncio.get_running_loop().call_later(self.seconds, self._expire, node, session, size)
        await node.registry.merge(session, facts)
        return True

    def _expire(self, node: Node, session: str, size: int) -> None:
        self._bytes -= size
        node.spawn(_end_unopened(node, session), f"prepared {session}")


async def _end_unopened(node: Node, session: str) -> None:
    try:
        facts = await node.registry.find(session)
        if facts is not None and not (facts.streams or facts.over):
            await node.registry.merge(session, hung_up(facts, EndReason.NO_ANSWER, node.unix_time()))
    except RegistryUnavailable:
        pass  # it forgets by itself, in a day
