"""A call from its order to its end: the claim is renewed while it rings, and what never happens is noticed.

Webhooks may come to any node, so what is looked at are the facts in the registry.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace

import structlog

from gateway.dialout.limits import DialoutLimits
from gateway.dialout.shared_queue import SharedQueue
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.pool.facts import Facts, hung_up
from gateway.protocol.codes import EndReason
from gateway.sessions.carrier_rest import cancel_by_rest

log = structlog.get_logger(__name__)

END_REPORT_GRACE = 120.0
"""Seconds after the longest that a call may last. If its end is not told by then, it counts as over."""


class Follower:
    """Follows one call. placed: the carrier said that it has it. fence: of the claim, 0 for none."""

    def __init__(
        self, node: Node, limits: DialoutLimits, queue: SharedQueue, session: str, *, placed: bool, fence: int = 0
    ) -> None:
        self._node = node
        self._limits = limits
        self._queue = queue
        self._session = session
        self._placed = placed
        self._fence = fence
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        self._renewed = -math.inf  # at once: the claim was confirmed before the carrier was asked
        self._answered_at: float | None = None
        self._facts = Facts(session=session)

    def start(self) -> None:
        """Follow the call until it is over, or another node has it. It counts as ringing at once."""
        self._queue.note_ringing(self._session)
        self._node.spawn(self._run(), f"follow {self._session}")

    async def _run(self) -> None:
        try:
            await self._follow()
        except BaseException:  # else its lease would be renewed for ever, and its place be taken
            self._queue.let_go(self._session)
            raise
        finally:
            self._queue.note_not_ringing(self._session)

    async def _follow(self) -> None:
        while self._session in self._queue.held:
            pause = self._limits.poll_ringing if self._session in self._queue.ringing else self._limits.poll_answered
            await asyncio.sleep(pause * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret
            try:
                if await self._look():
                    return
            except RegistryUnavailable:
                continue

    async def _look(self) -> bool:
        """Look once. True: there is nothing more to do."""
        facts = await self._node.registry.find(self._session)
        self._facts = facts or self._facts
        if self._facts.over:
            await self._leave()
            return True
        if self._answered_at is None and (self._facts.answered or self._facts.streams):
            self._answered_at = self._now()
        if self._answered_at is not None and not self._awaits_stream(self._answered_at):
            self._queue.note_not_ringing(self._session)
        await self._renew()
        if self._answered_at is not None:
            longest = self._facts.max_seconds or self._longest()
            if self._now() < self._answered_at + longest + END_REPORT_GRACE:
                return False
            await self._leave()
            return True
        if self._now() < self._began + self._limits.ring + self._limits.ring_grace:
            return False
        await self._give_up()
        return True

    def _awaits_stream(self, answered_at: float) -> bool:
        """True if its first stream may still come: not for longer than a token is good, nor where no bot has it."""
        in_time = self._now() < answered_at + self._node.leases.reserved
        return in_time and not self._facts.streams and not self._facts.end_reason

    async def _renew(self) -> None:
        """Renew the claim until its stream has taken it, or does not come any more."""
        if self._answered_at is not None and not self._awaits_stream(self._answered_at):
            self._fence = 0
        if self._fence and self._now() >= self._renewed + self._node.leases.renew:
            self._renewed = self._now()
            if await self._node.registry.renew({self._session: self._fence}):
                self._fence = 0  # a stream has it by now; or its worker is gone, and another is claimed at the answer

    def _longest(self) -> float:
        service = self._node.services.get(self._facts.service)
        return service.max_call if service is not None else 0.0

    async def _give_up(self) -> None:
        """Nothing was heard of the call: end it at the carrier, in case it still rings, and report it."""
        heard = self._placed or self._facts.status == "ringing"
        reason = EndReason.NO_ANSWER if heard else EndReason.FAILED
        log.warning("no callback for a placed call: cancelling it at the carrier", session=self._session, reason=reason)
        await cancel_by_rest(self._node, self._facts)
        if self._facts.carrier:  # else the registry has lost all of it
            ended = hung_up(self._facts, reason, self._node.unix_time())
            await self._node.registry.merge(self._session, replace(ended, outcome="no-answer" if heard else "failed"))
        await self._leave()

    async def _leave(self) -> None:
        if self._fence:
            await self._node.registry.release(self._session, self._fence)
        await self._queue.leave(self._session)
