"""Place one call: a warm worker first, the facts next, then one order to the carrier.

What becomes of the order decides:

    surely not sent, or refused as one too many | once more, after a moment
    accepted                                    | followed to its end
    refused                                     | 502 with the carrier's words; the worker is free again
    no answer, or a gateway error (502, 504)    | never repeated: a webhook that bears the session will tell
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import structlog

from gateway.carriers.orders import CarrierRefusal, Placed, RestCall
from gateway.dialout.following import Follower
from gateway.dialout.job import Job
from gateway.dialout.limits import DialoutLimits
from gateway.dialout.request import Begin, Dialled, DialRefusal, DialResult
from gateway.dialout.shared_queue import SharedQueue
from gateway.errors import RegistryUnavailable
from gateway.node.http_client import HttpReply, NotSent, Unanswered
from gateway.node.node import Node
from gateway.pool.facts import FactEvent, Facts, call_alias, hung_up, merge
from gateway.pool.registry import Claim, Full, Stale
from gateway.protocol.codes import EndReason
from gateway.sessions.carrier_rest import cancel_by_rest
from gateway.sessions.worker_search import ask_until_answered

log = structlog.get_logger(__name__)

OrderResult: TypeAlias = Placed | CarrierRefusal | NotSent | Unanswered

FULL_RETRY_AFTER = 5.0
NOT_PLACED_RETRY_AFTER = 1.0
"""Seconds after which a carrier may be asked again that was not reached, or has had too many requests and does not say
when it wants more."""
NO_WORKER = DialRefusal(503, "no_worker", "No worker of this service is there.", retry_after=FULL_RETRY_AFTER)
FULL = DialRefusal(429, "full", "Every worker of this service is taken.", retry_after=FULL_RETRY_AFTER)
SLOW = DialRefusal(503, "no_worker", "The service's worker did not start in time.", retry_after=FULL_RETRY_AFTER)
HELD_UP = DialRefusal(503, "held_up", "This gateway was held up, and has not placed the call.", retry_after=1.0)


async def begin_at_once() -> bool:
    """Begin a call that no other request can have begun."""
    return True


class Placer:
    """Places calls whose turn it is. Every method raises RegistryUnavailable."""

    def __init__(self, node: Node, limits: DialoutLimits, queue: SharedQueue) -> None:
        self._node = node
        self._limits = limits
        self._queue = queue

    async def place(self, job: Job, begin: Begin = begin_at_once) -> DialResult:
        """Place a call that has its turn.

        NO_WORKER, FULL, SLOW: nothing was sent, and the call may wait again. HELD_UP: another node has it, or has
        given it up. After all else the call is dialled or ended.
        """
        claim = await self._claim(job)
        if isinstance(claim, DialRefusal):
            return claim
        try:
            if not await begin():
                await self._release_and_leave(job.session, claim)
                return HELD_UP
            facts = await self._node.registry.merge(job.session, job.facts(self._node.unix_time()))
            has_turn = not facts.over and await self._queue.send(job.session)
        except RegistryUnavailable:
            self._release_later(job.session, claim.fence)
            raise
        if facts.over:  # it was hung up while it waited
            await self._release_and_leave(job.session, claim)
            return Dialled(job.session, facts.call_id or None, facts.status)
        if not has_turn:  # this node was suspended
            self._release_later(job.session, claim.fence)
            return HELD_UP
        return await self._order(job, claim, facts)

    async def _claim(self, job: Job) -> Claim | DialRefusal:
        """Claim a worker that is ready before the phone rings."""
        registry = self._node.registry
        claimed = await registry.claim(job.service, job.session)
        if not isinstance(claimed, Claim):
            none = claimed == Full(hosts=0) or (await registry.slots(job.service)).deserted
            return NO_WORKER if none else FULL
        # Confirmed, so that it can be renewed for longer than a reservation lives.
        claim = await registry.confirm(job.session, claimed.attempt)
        fence = claim.fence if isinstance(claim, Claim) else 0
        try:
            return await self._await_worker(job, claim, fence)
        except RegistryUnavailable:
            self._release_later(job.session, fence)
            raise

    async def _await_worker(self, job: Job, claim: Claim | Stale, fence: int) -> Claim | DialRefusal:
        """Wait until the claim's worker has started. Gives the claim up if it does not in time."""
        registry = self._node.registry
        time = asyncio.get_running_loop().time
        deadline = time() + self._node.start_timeout(job.service)
        if isinstance(claim, Claim) and claim.worker is None:
            self._node.start_worker(claim.host, job.session)
        renewed = time()
        while isinstance(claim, Claim) and claim.worker is None and time() < deadline:
            await asyncio.sleep(self._limits.worker_wait)
            if time() >= renewed + self._node.leases.renew:
                renewed = time()
                await registry.renew({job.session: fence})
            claim = await registry.get_claim(job.session, fence)
        if isinstance(claim, Claim) and claim.worker is not None:
            return claim
        await registry.release(job.session, fence)
        return SLOW

    async def _order(self, job: Job, claim: Claim, facts: Facts) -> DialResult:
        limits, carrier = self._limits, self._node.carriers[job.carrier]
        valid = limits.ring + limits.ring_grace + limits.order_timeout
        call = carrier.place_call(job.order(self._node, claim, ring=limits.ring, valid=valid), job.account)
        if call is None:
            return await self._fail(
                job, claim, facts, DialRefusal(409, "no_key", "There is no key to the carrier's API.")
            )
        with suppress(RegistryUnavailable):  # for as long as the carrier may take to answer
            await self._node.registry.renew({job.session: claim.fence})
        outcome = await self._send(job.carrier, call)
        if isinstance(outcome, Placed):
            return await self._placed(job, claim, facts, outcome)
        if isinstance(outcome, NotSent):
            why = f"The carrier's REST API cannot be reached ({outcome.reason})."
            refusal = DialRefusal(502, "not_reached", why, retry_after=NOT_PLACED_RETRY_AFTER)
            return await self._fail(job, claim, facts, refusal)
        if isinstance(outcome, Unanswered) or outcome.kind == "unanswered":
            why = outcome.reason if isinstance(outcome, Unanswered) else outcome.code
            log.warning("the carrier did not answer: waiting for its webhook", session=job.session, why=why)
            return await self._placed(job, claim, facts, None)
        later = NOT_PLACED_RETRY_AFTER if outcome.kind == "rate" else None
        refusal = DialRefusal(502, outcome.code, outcome.text, retry_after=outcome.retry_after or later)
        return await self._fail(job, claim, facts, refusal, rejected=outcome.kind != "unavailable")

    async def _send(self, carrier: str, call: RestCall) -> OrderResult:
        """Send the order; a second time only where it was surely not accepted."""
        for last in (False, True):
            sent = await self._node.http_client.send(call, self._limits.order_timeout)
            outcome: OrderResult
            if isinstance(sent, HttpReply):
                outcome = self._node.carriers[carrier].read_placed(sent.status, sent.body, sent.headers)
            else:
                outcome = sent
            pause = self._pause_before_retry(outcome)
            if last or pause is None:
                break
            await asyncio.sleep(pause)
        return outcome

    def _pause_before_retry(self, outcome: OrderResult) -> float | None:
        """Return the seconds until the order may be sent again, None if it must not be."""
        match outcome:
            case NotSent():
                return self._limits.retry
            case CarrierRefusal(kind="rate", retry_after=wait):
                pause = max(self._limits.retry, wait or 0.0)
                return pause if pause <= self._limits.longest_retry else None
        return None

    async def _placed(self, job: Job, claim: Claim, facts: Facts, placed: Placed | None) -> Dialled:
        """Note that the carrier has the call, or may have it (None), and follow it."""
        session = job.session
        if placed is not None:
            ids = [one for one in (placed.call_id, placed.alias) if one]
            aliases = tuple(call_alias(job.carrier, job.account, one) for one in ids)
            event = FactEvent(call_id=placed.call_id, order_id=placed.alias, status="ringing", aliases=aliases)
            try:
                facts = await self._node.registry.merge(session, event)
                await self._queue.place(session)
            except RegistryUnavailable:
                log.warning("a call was placed, and the registry not told: it is away", session=session)
            if facts.over and facts.outcome == "":  # it was hung up while the carrier was asked
                call = merge(facts, FactEvent(call_id=placed.call_id, order_id=placed.alias))
                self._node.spawn(cancel_by_rest(self._node, call), f"cancel {session}")
        follower = Follower(
            self._node, self._limits, self._queue, session, placed=placed is not None, fence=claim.fence
        )
        follower.start()
        call_id = facts.call_id or (placed.call_id if placed is not None else "")
        return Dialled(session, call_id or None, facts.status)

    async def _fail(
        self, job: Job, claim: Claim, facts: Facts, refusal: DialRefusal, *, rejected: bool = False
    ) -> DialResult:
        """Report a call that was not placed. rejected: the carrier has refused it."""
        try:
            facts = await self._node.registry.find(job.session) or facts
            if facts.call_id:  # the carrier has called back: it placed the call, whatever it answered
                return await self._placed(job, claim, facts, None)
            reason = EndReason.REJECTED if rejected else EndReason.FAILED
            ended = replace(hung_up(facts, reason, self._node.unix_time()), outcome="failed")
            await self._node.registry.merge(job.session, ended)
            await self._release_and_leave(job.session, claim)
        except RegistryUnavailable:  # the answer is known all the same
            self._release_later(job.session, claim.fence)
        return refusal

    def _release_later(self, session: str, fence: int) -> None:
        """Leave the call to the node that finds its lease over, and release its worker as soon as the registry answers.

        A static worker whose claim runs out is not offered for hours.
        """
        self._queue.let_go(session)
        release = partial(self._node.registry.release, session, fence)
        self._node.spawn(ask_until_answered(self._node, release), f"release {session}")

    async def _release_and_leave(self, session: str, claim: Claim) -> None:
        await self._node.registry.release(session, claim.fence)
        await self._queue.leave(session)
