"""Dial-out: guards, then the idempotency key, then the queue, then the call."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from gateway.dialout.dial_queue import MustWait, NothingDue, QueueFull, Taken
from gateway.dialout.following import Follower
from gateway.dialout.guards import Checked, check
from gateway.dialout.idempotency import first_answer, once
from gateway.dialout.job import Job
from gateway.dialout.limits import DialoutLimits
from gateway.dialout.placing import FULL, HELD_UP, NO_WORKER, SLOW, Placer, begin_at_once
from gateway.dialout.request import Begin, Dialled, DialQueued, DialRefusal, DialRequest, DialResult
from gateway.dialout.shared_queue import SharedQueue
from gateway.errors import RegistryUnavailable
from gateway.pool.facts import Facts, hung_up
from gateway.protocol.codes import EndReason
from gateway.sessions.table import Sessions
from gateway.sessions.worker_search import ask_until_answered

log = structlog.get_logger(__name__)

NOT_ATTEMPTED = (NO_WORKER, FULL, SLOW)
"""Nothing was sent to the carrier: the call loses its turn, and may wait again."""
SHORTEST_WAIT = 0.01
"""Seconds between two looks at the queue, at least."""
REGISTRY_AWAY = 1.0
"""Seconds until a registry that did not answer is asked again."""
DOWN = DialRefusal(503, "registry_down", "The registry does not answer.", retry_after=1.0)
DRAINING = DialRefusal(503, "draining", "This gateway is shutting down.", retry_after=1.0)
OVERLOADED = DialRefusal(503, "overloaded", "This gateway is overloaded.", retry_after=1.0)


class DialOut:
    """Places calls for the API. One for each node; `run` must be running."""

    def __init__(self, sessions: Sessions, limits: DialoutLimits) -> None:
        self._node = sessions.node
        self._limits = limits
        self._queue = SharedQueue(self._node, limits)
        self._placer = Placer(self._node, limits, self._queue)
        self._wake = asyncio.Event()
        self._open_requests = 0
        """Requests that have no answer yet, and calls of the queue that this node is about to dial, or to report."""
        self._queue_was_not_empty = False
        """A call waited when this node last looked."""

    @property
    def busy(self) -> bool:
        """True while this node dials, while what it has placed rings or its stream is yet to come, and while calls wait
        that no other node would dial.
        """
        at_work = bool(self._open_requests or self._queue.ringing)
        return at_work or (self._queue_was_not_empty and self._limits.registry_is_local)

    @property
    def default_caller(self) -> str:
        """The number to call from if none is named, "" without any."""
        return self._limits.callers[0] if self._limits.callers else ""

    async def place(self, request: DialRequest) -> DialResult:
        """Place a call, or queue it, or say why not. Never raises.

        What was begun is done to its end, even if its requester is gone.
        """
        task = self._node.spawn(self._place(request), "dial out")
        result: DialResult = await asyncio.shield(task)
        return result

    async def _place(self, request: DialRequest) -> DialResult:
        checked = check(self._node, self._limits, request)
        result: DialResult
        if isinstance(checked, DialRefusal):
            result = checked
        elif self._node.refusing or self._node.overloaded:
            result = await self._place_nothing(checked)
        else:
            self._open_requests += 1
            try:
                result = await self._place_once(checked)
            except RegistryUnavailable:
                result = DOWN
            finally:
                self._open_requests -= 1
        self._audit(result, request.key_name, request.carrier, request.to)
        return result

    async def _place_nothing(self, checked: Checked) -> DialResult:
        """Answer a request while no call is placed: a repeated one as the first time."""
        known: DialResult | None = None
        if checked.request.idempotency_key:
            with suppress(RegistryUnavailable):
                known = await first_answer(self._node, checked.request)
        return known or (DRAINING if self._node.refusing else OVERLOADED)

    async def _place_once(self, checked: Checked) -> DialResult:
        job = Job.of_request(secrets.token_hex(16), checked)
        if not checked.request.idempotency_key:
            return await self._dial(job, begin_at_once)
        return await once(self._node, checked.request, job.session, lambda begin: self._dial(job, begin))

    async def _dial(self, job: Job, begin: Begin) -> DialResult:
        """Dial at once, or wait behind the rate. What is refused here is never dialled afterwards."""
        try:
            entered = await self._queue.enter(job.session, job.dial_options())
            if isinstance(entered, QueueFull):
                why = "Too many calls wait behind the rate of [dialout] already."
                return DialRefusal(429, "rate", why, retry_after=entered.retry_after)
            if isinstance(entered, MustWait):
                return await self._enqueue(job, begin)
            result = await self._placer.place(job, begin)
            if result in NOT_ATTEMPTED:
                await self._queue.leave(job.session)
            elif result == HELD_UP:
                await self._report_not_dialled(job.session)
            return result
        except RegistryUnavailable:
            self._queue.let_go(job.session)  # else its place would be renewed for a call that is never dialled
            return DOWN
        except BaseException:  # a bug, of a carrier's package maybe
            self._queue.let_go(job.session)
            raise

    async def _enqueue(self, job: Job, begin: Begin) -> DialResult:
        """Have a call wait behind the rate. Its facts come before the promise: who dials it needs them."""
        if not await begin():
            await self._queue.leave(job.session)
            return HELD_UP
        await self._node.registry.merge(job.session, job.facts(self._node.unix_time()))
        try:
            if not await self._promise(job.session):
                return HELD_UP
        except RegistryUnavailable:
            # It may be promised all the same, and be dialled then: so it is, or it is reported.
            again = partial(self._promise, job.session)
            self._node.spawn(ask_until_answered(self._node, again), f"promise {job.session}")
        return DialQueued(job.session)

    async def _promise(self, session: str) -> bool:
        """Let a call that has entered wait for its turn. False: this node was held up, and it has been reported."""
        promised = await self._queue.promise(session)
        if promised:
            self._wake.set()
        else:
            await self._report_not_dialled(session)
        return promised

    # The queue.

    async def run(self) -> None:
        """Dial what waits, and keep what was dialled; for ever."""
        await asyncio.gather(
            self._repeat(self._serve_queue_once, "the queue of calls to dial was not served"),
            self._repeat(self._renew_leases, "the leases of dialled calls were not renewed"),
        )

    async def _repeat(self, step: Callable[[], Awaitable[None]], complaint: str) -> None:
        while True:
            try:
                await step()
            except RegistryUnavailable:
                await asyncio.sleep(REGISTRY_AWAY)
            except Exception:
                log.exception(f"{complaint}: a bug; the next round may go better")
                await asyncio.sleep(REGISTRY_AWAY)

    async def _renew_leases(self) -> None:
        await asyncio.sleep(self._limits.lease / 3)
        await self._queue.keep()

    async def _serve_queue_once(self) -> None:
        """Do the next thing that the queue has for this node, or wait until there may be one."""
        leaves = self._node.refusing
        if leaves and not self._limits.registry_is_local:
            found: Taken | NothingDue = NothingDue(None)  # other nodes go on with what waits
        else:
            found = await self._queue.take(give_up=leaves)
        self._queue_was_not_empty = not isinstance(found, NothingDue) or found.seconds is not None
        if isinstance(found, Taken):
            self._open_requests += 1
            self._node.spawn(self._handle_taken(found), f"dial {found.session}")
            return
        if found.seconds is None:
            wait = self._limits.poll_empty_queue
        else:
            wait = min(max(found.seconds, SHORTEST_WAIT), self._limits.poll_ringing)
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
            self._wake.clear()
        except TimeoutError:
            pass

    async def _handle_taken(self, taken: Taken) -> None:
        """Do for a call what its state asks for. If the registry goes away meanwhile, or for a bug, its lease ends."""
        try:
            match taken.state:
                case "turn":
                    await self._dial_queued(taken)
                case "late":
                    await self._report_late(taken)
                case _:
                    self._follow_orphan(taken)
        except RegistryUnavailable:
            self._queue.let_go(taken.session)
        except BaseException:
            self._queue.let_go(taken.session)
            raise
        finally:
            self._open_requests -= 1

    def _follow_orphan(self, taken: Taken) -> None:
        log.warning("going on with a call whose node is gone", session=taken.session, state=taken.state)
        Follower(self._node, self._limits, self._queue, taken.session, placed=taken.state == "placed").start()

    async def _dial_queued(self, taken: Taken) -> None:
        facts = await self._node.registry.find(taken.session)
        if facts is None or facts.over:  # it was hung up
            if facts is None:
                log.error("a queued call was not dialled: the registry has lost what it knew", session=taken.session)
            await self._queue.leave(taken.session)
            return
        job = Job.of_facts(facts, taken.dial_options)
        result: DialResult
        if job.carrier in self._node.carriers:
            result = await self._placer.place(job)
        else:
            result = DialRefusal(422, "unknown_carrier", "The carrier is not set up any more.")
            await self._report(facts, EndReason.FAILED)
        if result in NOT_ATTEMPTED:
            await self._queue.put_back(taken.session)
            self._wake.set()
            return
        if result == HELD_UP:  # another node goes on with it
            return
        self._audit(result, job.key_name, job.carrier, job.to, session=taken.session)

    async def _report_late(self, taken: Taken) -> None:
        """Report a call that has waited too long, or whose node has not come to promise it."""
        reason = EndReason.FAILED if taken.lost else EndReason.REJECTED
        await self._report_not_dialled(taken.session, reason)

    async def _report_not_dialled(self, session: str, reason: EndReason = EndReason.FAILED) -> None:
        """Report a call that is not dialled, if anything is known of it."""
        facts = await self._node.registry.find(session)
        if facts is not None and not facts.over:
            log.warning(
                "queued call given up: it waited too long, or its gateway stopped", session=session, reason=reason
            )
            await self._report(facts, reason)
        else:
            await self._queue.leave(session)

    async def _report(self, facts: Facts, reason: EndReason) -> None:
        await self._node.registry.merge(facts.session, hung_up(facts, reason, self._node.unix_time()))
        await self._queue.leave(facts.session)

    # What is told.

    def _audit(self, result: DialResult, key: str, carrier: str, to: str, session: str = "") -> None:
        """Write the one line that says who wanted what: the key's name, and two digits of the number."""
        what, details = _in_words(result)
        name = carrier if carrier in self._node.carriers else "unknown"
        self._node.metrics.dialouts[name, what] += 1
        known = {"session": session, **details}
        said: dict[str, Any] = {word: value for word, value in known.items() if value not in ("", None)}
        log.info("dial-out", result=what, key=key or "none", carrier=name, to=f"…{to[-2:]}", **said)


def _in_words(result: DialResult) -> tuple[str, dict[str, Any]]:
    """Return the result's word for the metric, and more of it for the log."""
    match result:
        case Dialled(session, None, "queued"):  # else the carrier names the call later
            return "unanswered", {"session": session}
        case Dialled(session, _, _):
            return "placed", {"session": session}
        case DialQueued(session):
            return "queued", {"session": session}
        case DialRefusal(status, code):
            kinds = {429: "later", 502: "refused_by_carrier", 503: "unavailable"}
            return kinds.get(status, "refused"), {"status": status, "code": code[:40]}
