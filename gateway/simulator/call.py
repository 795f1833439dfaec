"""One simulated call: rings, obeys, talks, hangs up, reports."""

from __future__ import annotations

import asyncio

from gateway.errors import UnsupportedCodec, UserError
from gateway.simulator import clock
from gateway.simulator.carrier import Request, SimulatedCarrier, StreamSpec, Wire
from gateway.simulator.carriers import Flow, simulator_of
from gateway.simulator.http import Answer, Http, local_stream_url, public_stream_url, tls_context
from gateway.simulator.outcome import Failed, HungUp, Refused
from gateway.simulator.plan import CallPlan
from gateway.simulator.recorder import Recorder
from gateway.simulator.report import CallReport
from gateway.simulator.socket import ClientSocket
from gateway.simulator.socket import Refused as HandshakeRefused
from gateway.simulator.speaker import Speaker, Talk
from gateway.simulator.stream import Driver, MediaStream, StreamLog

STATUS_WAIT = 10.0
REPLAY_WAIT = 3.0


def side_of(plan: CallPlan) -> SimulatedCarrier:
    """The carrier's side of the planned call. Raises UserError for a carrier that is not simulated."""
    return simulator_of(plan.carrier).side(plan)


async def place_call(plan: CallPlan, *, recorder: Recorder | None = None) -> CallReport:
    """Place the call and stay until it is over, whoever ends it. What the gateway does wrong is in the report.

    Raises UserError for a plan that cannot be tried.
    """
    side = side_of(plan)
    load_signer(side, plan)
    if recorder:
        recorder.call(side.name, side.facts(), plan.public)
    async with Http(plan, side, recorder) as http:
        call = Call(plan, side, http, recorder)
        return await call.run(flow_of(plan))


def flow_of(plan: CallPlan) -> Flow:
    """What leads the call through its instructions."""
    return static_flow if plan.behaviour.stream_path is not None else simulator_of(plan.carrier).flow


def load_signer(side: SimulatedCarrier, plan: CallPlan) -> None:
    """Sign something now: importing an SDK takes up to a second, and would stall every call that is talking."""
    try:
        side.headers(Request("POST", plan.public), b"")
    except ValueError as error:
        raise UserError(f"TELNYX_SIGNING_SEED: {error}") from None


async def static_flow(call: Call) -> None:
    """A stream that never asked the gateway's webhook: a TwiML Bin, a fixed URL in a flow."""
    plan = call.plan
    url = public_stream_url(plan.behaviour.stream_path or "", plan)
    spec = StreamSpec(url, call.side.static_attributes, dict(plan.parameters))
    log = await call.stream(spec)
    if log.ended_by == "refused":
        raise Failed(log.error)


class Call:
    """The state of one call, and what its flow can do with it."""

    def __init__(self, plan: CallPlan, side: SimulatedCarrier, http: Http, recorder: Recorder | None) -> None:
        self.plan = plan
        self.side = side
        self.http = http
        self.talk = Talk(plan)
        self.report = CallReport(side.name)
        self.answered = False
        self._recorder = recorder
        self._began = clock.now()
        self._later: set[asyncio.Task[Answer]] = set()
        self._background: list[tuple[MediaStream, asyncio.Task[StreamLog]]] = []

    async def run(self, flow: Flow) -> CallReport:
        report = self.report
        try:
            await flow(self)
            self._ended_by_last_stream()
        except HungUp:
            report.ended_by = "caller"
        except Refused as refused:
            report.outcome, report.ended_by = str(refused), "gateway"
        except Failed as failure:
            report.outcome, report.ended_by = f"failed: {failure}", "carrier"
        finally:
            await self._end_background()
        over = clock.now()
        report.seconds = over - self._began
        last = report.opened[-1] if report.opened else None
        if last is not None:
            report.end_ms = (over - (last.decided if last.decided is not None else last.ended)) * 1000
        if self.plan.behaviour.replay_token and last is not None:
            report.replayed = await self._replay(last)
        await self._tell_status()
        for log in report.streams:
            report.violations.extend(log.wire.violations)
            report.dtmf.extend(log.dtmf)
        report.http = self.http.log
        return report

    def _ended_by_last_stream(self) -> None:
        opened = self.report.opened
        self.report.ended_by = "caller" if opened and opened[-1].ended_by == "caller" else "gateway"

    # HTTP

    async def fetch(self, request: Request) -> Answer:
        """Ask the gateway what to do. The first time it is the voice webhook, and is timed."""
        first = not self.http.log
        twice = first and self.plan.behaviour.duplicate_webhook
        answers = await asyncio.gather(*[self.http.send(request) for _ in range(2 if twice else 1)])
        if first:
            self.report.webhook_ms, self.report.answer = answers[0].ms, answers[0].text
        if twice and (answers[0].status, answers[0].text) != (answers[1].status, answers[1].text):
            self.report.violations.append("a webhook posted twice was answered in two ways")
        return answers[0]

    def post_later(self, request: Request | None) -> None:
        """A callback that nothing waits for."""
        if request is not None and self.plan.status:
            task = asyncio.create_task(self.http.send(request))
            self._later.add(task)

    async def _tell_status(self) -> None:
        if self.plan.status and self.plan.behaviour.stream_path is None:
            for request in self.side.ended(self.report.outcome, round(self.report.seconds)):
                self.post_later(request)
        if self._later:
            _, pending = await asyncio.wait(self._later, timeout=STATUS_WAIT)
            for task in pending:
                task.cancel()

    # Time

    def remaining(self) -> float:
        """Seconds until the caller has had enough."""
        return self.talk.deadline(self._began) - clock.now()

    async def wait(self, seconds: float) -> None:
        """Let time pass. Raises HungUp when the caller does not stay that long."""
        remaining = self.remaining()
        await asyncio.sleep(max(0.0, min(seconds, remaining)))
        if seconds > remaining:
            raise HungUp

    # Streams

    async def stream(self, spec: StreamSpec) -> StreamLog:
        """A media stream, until it is over: tried again as this carrier tries. Raises HungUp, Failed."""
        retries = self.side.handshake_retries
        while True:
            log = await self._one_stream(spec)
            if log.ended_by == "caller":
                raise HungUp
            if log.ended_by == "refused" and retries:
                retries -= 1
            elif log.close_code != 1006 or not self.side.reconnects(spec) or len(self.report.streams) > 5:
                return log

    def stream_in_background(self, spec: StreamSpec) -> None:
        """A stream that later instructions do not wait for."""
        stream, driver, url = self._prepare(spec)
        self._background.append((stream, asyncio.create_task(self._drive(stream, driver, spec, url))))

    async def _one_stream(self, spec: StreamSpec) -> StreamLog:
        stream, driver, url = self._prepare(spec)
        return await self._drive(stream, driver, spec, url)

    def _prepare(self, spec: StreamSpec) -> tuple[MediaStream, Driver, str]:
        try:
            wire = self.side.open_stream(spec)
        except UnsupportedCodec as error:
            raise Failed(str(error)) from None
        self.answered = True
        self.report.stream_urls.append(spec.url)
        if self._recorder:
            self._recorder.stream(wire.stream_id, wire.inbound.name, wire.inbound.rate)
        stream = self.media_stream(wire, spec.url)
        self.report.streams.append(stream.log)
        return stream, self.driver(), local_stream_url(spec.url, self.plan)

    def media_stream(self, wire: Wire, url: str) -> MediaStream:
        """The next stream."""
        return MediaStream(wire, url, self._recorder)

    def driver(self) -> Driver:
        """Who talks on the next stream."""
        return Speaker(self.talk)

    async def _drive(self, stream: MediaStream, driver: Driver, spec: StreamSpec, url: str) -> StreamLog:
        tell = self.side.stream_event
        stream.on_open = lambda: self.post_later(tell(stream.wire, spec, "started"))
        headers = self.side.upgrade_headers(spec.url)
        log = await stream.run(driver, url, headers, tls_context())
        event = "error" if log.error else "stopped"
        self.post_later(tell(stream.wire, spec, event, log.error))
        if log.error:
            self.report.notes.append(f"stream {len(self.report.streams)}: {log.error}")
        return log

    async def linger_in_background(self, seconds: float) -> None:
        """The instructions have run out while a two-way stream is still open: the call ends in `seconds`."""
        if any(stream.wire.spec.bidirectional and not task.done() for stream, task in self._background):
            await self.wait(seconds)

    async def _end_background(self) -> None:
        for stream, task in self._background:
            stream.hang_up()
            await task

    # Afterwards

    async def _replay(self, log: StreamLog) -> str:
        """Open a stream URL that was used, with the same `start`."""
        messages = [message for message in (log.wire.connected(), log.wire.start()) if message]
        headers = self.side.upgrade_headers(log.url)
        try:
            socket = await ClientSocket.connect(
                local_stream_url(log.url, self.plan), headers, lambda _: None, tls=tls_context()
            )
        except HandshakeRefused as refused:
            return f"refused {refused.status}"
        try:
            for message in messages:
                socket.send_text(message.encode())
            code, _ = await asyncio.wait_for(asyncio.shield(socket.closed), REPLAY_WAIT)
        except TimeoutError:
            return "accepted"
        finally:
            socket.drop()
        return f"closed {code}"
