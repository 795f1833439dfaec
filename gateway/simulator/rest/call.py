"""One call that was placed by REST: it rings, is answered, talks, obeys updates, and ends.

queued ─▶ initiated ─▶ ringing ─▶ in-progress ─▶ completed
                          └─▶ busy, no-answer, failed, canceled

Once answered it is led like any simulated call, by its carrier's flow. A REST request reaches it in between: `end` and
`move` stop what the flow is doing (a stream gets its `stop`), and the flow ends, or begins again at another place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, TypeVar

from gateway.simulator import clock
from gateway.simulator.call import STATUS_WAIT, Call, Flow, Step
from gateway.simulator.carrier import Fields, Request, SimulatedCarrier, StreamSpec
from gateway.simulator.http import Answer, Http
from gateway.simulator.outcome import Failed, HungUp, Refused
from gateway.simulator.plan import CallPlan, DialResult
from gateway.simulator.rest.order import Order
from gateway.simulator.rest.plan import Plan
from gateway.simulator.stream import Driver, MediaStream, StreamLog

T = TypeVar("T")
Status = Literal[
    "queued", "initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled"
]
By = Literal["caller", "callee", "api", "carrier"]
Verdict = Literal["human", "machine", "machine_end", "fax", "unknown"]

ENDED: frozenset[Status] = frozenset({"completed", "busy", "no-answer", "failed", "canceled"})
INITIATED_AFTER = 0.02  # what comes after the create request was answered, does so on any machine
STOP_SECONDS = 5.0  # for a stream to be closed, before its call goes on all the same
POLL = 0.02


class Teller(Protocol):
    """What a carrier tells of a call that it placed: requests, or None where nothing was asked for."""

    def progress(self, event: Status, call: PlacedCall) -> Request | None: ...
    def machine(self, verdict: Verdict, call: PlacedCall) -> Request | None: ...


class _Moved(Exception):
    """The call goes on elsewhere."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step


class _Ended(Exception):
    """The call is over."""

    def __init__(self, by: By) -> None:
        super().__init__()
        self.by = by


class PlacedCall(Call):
    """A call in the log of those that were dialled.

    order       what was asked for
    alias       a second id: what Plivo answers the create request with
    status      where it stands, in Twilio's words
    seconds     of conversation
    ended_by    "caller" is the gateway's side, "callee" the dialled party
    queued      seconds in the carrier's queue before it is dialled
    sequence    of the next progress callback
    report      what came of its streams, as of any simulated call
    """

    def __init__(
        self, order: Order, plan: Plan, script: CallPlan, carrier: SimulatedCarrier, teller: Teller, flow: Flow
    ) -> None:
        super().__init__(script, carrier, Http(script, carrier, None), None)
        self.order = order
        self.called = plan
        self.alias = ""
        self.status: Status = "queued"
        self.ended_by: By | Literal[""] = ""
        self.queued = 0.0
        self.sequence = 0
        self.answered_by: Verdict | Literal[""] = ""
        self.created_at = clock.now()
        self.answered_at: float | None = None
        self.ended_at: float | None = None
        self.fetched = asyncio.Event()
        """Set once the answer URL has been asked, or never will be."""
        self.plan_for: Callable[[str], Plan] | None = None
        """What becomes of a number that this call is transferred to."""
        self.told: Callable[[PlacedCall], None] | None = None
        self._teller = teller
        self._flow = flow
        self._stopped = asyncio.Event()
        self._why: _Moved | _Ended | None = None
        self._live: set[MediaStream] = set()
        self._held: list[Request] = []
        self._last_callback: asyncio.Task[None] | None = None

    # What is known of it

    @property
    def carrier_name(self) -> str:
        return self.carrier.name

    @property
    def call_id(self) -> str:
        return self.carrier.call_id

    @property
    def to(self) -> str:
        """The number that was dialled, as the request wrote it."""
        return self.order.to

    @property
    def is_over(self) -> bool:
        return self.status in ENDED

    @property
    def end_time(self) -> datetime:
        """When it ended; now, while it goes on."""
        since = clock.now() - self.ended_at if self.ended_at is not None else 0.0
        return datetime.now(UTC) - timedelta(seconds=since)

    @property
    def seconds(self) -> int:
        """Whole seconds since the answer, until the end."""
        if self.answered_at is None:
            return 0
        return round((self.ended_at or clock.now()) - self.answered_at)

    # What REST asks of it

    def end(self, by: By) -> None:
        """End the call now, whatever it is doing."""
        self._stop(_Ended(by))

    def move(self, step: Step) -> None:
        """Let the call go on with other instructions."""
        self._stop(_Moved(step))

    def press(self, digits: str) -> None:
        """Send digits to the called party."""
        self.report.dtmf.append(digits)

    def _stop(self, why: _Moved | _Ended) -> None:
        if not isinstance(self._why, _Ended):  # nothing moves a call that ends
            self._why = why
            self._stopped.set()

    # Its life

    async def live(self) -> None:
        """Be called, until the end."""
        async with self.http:
            await self._live_through()

    async def _live_through(self) -> None:
        limit: asyncio.TimerHandle | None = None
        verdict: asyncio.Task[None] | None = None
        try:
            status = await self._ring()
            if status == "in-progress":
                self._answer()
                limit = asyncio.get_running_loop().call_later(self.order.max_seconds, self.end, "carrier")
                if self.order.detection:
                    verdict = asyncio.create_task(self._detect())
                await self._converse(verdict)
                status = "completed"
                if verdict is not None:
                    verdict.cancel()
            await self._conclude(status)
        finally:
            if limit is not None:
                limit.cancel()
            if verdict is not None:
                verdict.cancel()
            self.fetched.set()

    async def _ring(self) -> Status:
        """Ring, and return what comes next."""
        called, order = self.called, self.order
        try:
            await self._unless_stopped(asyncio.sleep(self.queued + INITIATED_AFTER))
            self._set("initiated")
            if called.result == "failed":
                await self._unless_stopped(asyncio.sleep(called.rings))
                return "failed"
            self._set("ringing")
            patience = order.ring_seconds if called.gives_up is None else called.gives_up
            rings = patience if called.result == "no-answer" else called.rings
            await self._unless_stopped(asyncio.sleep(min(rings, patience)))
        except _Ended as ended:
            self.ended_by = ended.by
            return "canceled"
        except _Moved:  # a call that rings has no instructions to leave
            self._why = None
            return "failed"
        if rings >= patience:
            return "no-answer"
        return "in-progress" if called.result == "answered" else "busy"

    def _answer(self) -> None:
        self.answered_at = self._began = clock.now()
        self.answered = True
        self._set("in-progress")

    async def _converse(self, verdict: asyncio.Task[None] | None) -> None:
        """Follow instructions until they run out, or somebody ends the call."""
        step = self.order.first
        try:
            if verdict is not None and self.order.waits:
                await self._unless_stopped(asyncio.shield(verdict))
        except _Moved as moved:
            step = moved.step
        except _Ended as ended:
            self.ended_by = ended.by
            return
        while True:
            self.first = step
            try:
                await self._flow(self)
                self.ended_by = "caller"
            except _Moved as moved:
                self._why = None
                self._stopped.clear()
                self.report.verbs.append("moved")
                step = moved.step
                continue
            except _Ended as ended:
                self.ended_by = ended.by
            except HungUp:
                self.ended_by = "callee"
            except Refused:
                self.ended_by = "caller"
            except Failed as failure:
                self.report.outcome, self.ended_by = f"failed: {failure}", "carrier"
            return

    async def _conclude(self, status: Status) -> None:
        """Tell how it ended, and wait until that has been heard."""
        await self._end_background()
        self.ended_at = clock.now()
        self.report.seconds = self.ended_at - (self.answered_at or self.created_at)
        for log in self.report.streams:
            self.report.violations.extend(log.wire.violations)
            self.report.dtmf.extend(log.dtmf)
        self.report.http = self.http.log
        self.ended_by = self.ended_by or ("callee" if status in ("busy", "no-answer") else "carrier")
        self._set(status)
        waiting = [*self._later, *([self._last_callback] if self._last_callback else [])]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=STATUS_WAIT)
            for task in late:
                task.cancel()

    def _set(self, status: Status) -> None:
        self.status = status
        if self.told is not None:
            self.told(self)
        if request := self._teller.progress(status, self):
            self._tell(request)

    def _tell(self, request: Request) -> None:
        """Send a callback after those before it, as often and as late as was planned."""
        if self.called.callbacks == "reversed":
            self._held.insert(0, request)
            requests = self._held if self.is_over else []
        else:
            requests = [request] * {"all": 1, "none": 0, "twice": 2}[self.called.callbacks]
        for request in requests:
            self._last_callback = asyncio.create_task(self._send_after(self._last_callback, request))

    async def _send_after(self, before: asyncio.Task[None] | None, request: Request) -> None:
        if before is not None:
            await asyncio.wait([before])
        await self.http.send(request)

    # Machines

    async def _detect(self) -> None:
        """Find out who answered, and tell."""
        called, order = self.called, self.order
        await asyncio.sleep(called.verdict)
        verdict: Verdict = called.party
        if verdict == "machine" and order.detection == "message_end":
            await asyncio.sleep(max(0.0, called.greeting - called.verdict))
            verdict = "machine_end"
        self.answered_by = verdict
        if request := self._teller.machine(verdict, self):
            self._tell(request)

    # What the flow does, and what stops it

    async def fetch(self, request: Request) -> Answer:
        try:
            return await self._unless_stopped(super().fetch(request))
        finally:
            self.fetched.set()

    def dial(self, targets: Sequence[str]) -> tuple[DialResult, float]:
        result, seconds = super().dial(targets)
        there = self.plan_for(targets[0]).result if self.plan_for is not None and targets else "answered"
        return (result, seconds) if there == "answered" else (there, 0.0)

    async def wait(self, seconds: float) -> None:
        await self._unless_stopped(super().wait(seconds))

    async def stream(self, spec: StreamSpec) -> StreamLog:
        self.fetched.set()
        return await self._unless_stopped(super().stream(spec))

    async def _drive(self, stream: MediaStream, driver: Driver, spec: StreamSpec, url: str) -> StreamLog:
        self._live.add(stream)
        try:
            return await super()._drive(stream, driver, spec, url)
        finally:
            self._live.discard(stream)

    async def _unless_stopped(self, doing: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
        """Do it, unless the call is stopped. Raises _Moved, _Ended."""
        if self._why is not None:
            if asyncio.iscoroutine(doing):
                doing.close()
            raise self._why
        task = asyncio.ensure_future(doing)
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if self._why is not None:
                await self._close_streams(task)
                raise self._why
            return await task
        finally:
            for one in (task, stopped):
                one.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _close_streams(self, task: asyncio.Future[T]) -> None:
        """Say `stop` on the streams; one that is still being opened gets it then."""
        by_then = clock.now() + STOP_SECONDS
        while self._live and not task.done() and clock.now() < by_then:
            for stream in self._live:
                stream.hang_up("carrier")
            await asyncio.wait({task}, timeout=POLL)


def tell_machine(call: PlacedCall, answered_by: str, ids: Fields) -> Request | None:
    """Tell who answered, as TwiML and TeXML do. None: by the first webhook, as the call waits for it, or not at all.

    ids: what names the call in a callback.
    """
    if call.order.waits:
        call.order.first.more.append(("AnsweredBy", answered_by))
        return None
    url = call.order.fields.get("AsyncAmdStatusCallback", "")
    if not url:
        return None
    took = round((clock.now() - (call.answered_at or call.created_at)) * 1000)
    fields = [*ids, ("AnsweredBy", answered_by), ("MachineDetectionDuration", str(took))]
    return Request(call.order.fields.get("AsyncAmdStatusCallbackMethod", "POST").upper(), url, fields)
