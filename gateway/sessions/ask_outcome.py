"""Ask the carrier how a call ended, where it has not said so itself: its callback was lost, or it sends none.

This is asked once a session of this process has ended. `records.unknown_ends` asks for calls whose process has died,
and for those whose question here died with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.carriers.orders import CallState, RestCall
from gateway.errors import RegistryUnavailable
from gateway.node.http_client import HttpReply
from gateway.node.node import Node
from gateway.pool.facts import FactEvent, Facts
from gateway.protocol.codes import EndReason

log = structlog.get_logger(__name__)

PAUSES = (1.0, 2.0, 9.0)
"""Pauses before each question, in multiples of `terminal_status`; the first is from the stream's end. It is asked more
than once, as a carrier's API may say for a moment that an ended call goes on, and a transferred one does."""


async def ask_state(node: Node, carrier: str, account: str, call_id: str) -> CallState | None:
    """Ask a carrier for a call that has no session here. None: it cannot be asked, now or later."""
    asked = node.carriers.get(carrier)
    request = asked.ask_call(call_id, account) if asked is not None else None
    if asked is None or request is None:
        return None
    reply = await node.http_client.send(request, node.limits.rest_timeout)
    return asked.read_call(reply.status, reply.body) if isinstance(reply, HttpReply) else CallState()


class OutcomeQuestion:
    """Asks about one call whose stream has just ended. Until it is time it is a timer, and keeps nothing waiting.

    facts: the session's, now. remember: merges into them what was learned.
    """

    def __init__(self, node: Node, facts: Facts, remember: Callable[[FactEvent], Awaitable[bool]]) -> None:
        self._node = node
        self._facts = facts
        self._remember = remember
        self._carrier = node.carriers[facts.carrier]
        self._pauses = iter(PAUSES)
        self._first = True
        self.done = False
        """Nothing more is asked."""

    def ask_later(self) -> None:
        """Ask when the next pause is over, unless it has become known by then."""
        request = self._carrier.ask_call(self._facts.call_id, self._facts.account)
        pause = next(self._pauses, None)
        if request is None or pause is None:  # the first: we have no key for its API
            self.done = True
            return
        asyncio.get_running_loop().call_later(
            pause * self._node.limits.terminal_status,
            lambda: self._node.spawn(self._ask(request), f"outcome {self._facts.session}"),
        )

    async def _ask(self, request: RestCall) -> None:
        known = await self._known()
        if known.call_ended or known.moved or known.streams > self._facts.streams:  # the last: it has a bot again
            self.done = True
            return
        reply = await self._node.http_client.send(request, self._node.limits.rest_timeout)
        first, self._first = self._first, False
        if isinstance(reply, HttpReply):
            state = self._carrier.read_call(reply.status, reply.body)
            if state.status == "ended":
                # With its stream, which we know better than to the second, unless it went on behind it.
                with_stream = first and known.end_reason != EndReason.TRANSFERRED
                now = self._node.unix_time()
                ended = (with_stream and known.ended) or min(state.end(known.answered) or now, now)
                log.info("the carrier was asked how the call ended", session=known.session, outcome=state.outcome)
                await self._remember(FactEvent(status="ended", outcome=state.outcome, call_ended=ended))
                self.done = True
                return
        self.ask_later()

    async def _known(self) -> Facts:
        try:
            return await self._node.registry.find(self._facts.session) or self._facts
        except RegistryUnavailable:
            return self._facts
