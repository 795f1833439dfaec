"""One simulated call: it rings, obeys, talks, hangs up and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gateway.errors import UnsupportedCodec
from gateway.simulator import clock
from gateway.simulator.carrier import Fields, Request, SimulatedCarrier, StreamSpec, Wire
from gateway.simulator.http import Answer, Http, local_stream_url, public_stream_url, tls_context
from gateway.simulator.outcome import Failed, HungUp, Refused
from gateway.simulator.plan import CallPlan, DialResult
from gateway.simulator.recorder import Recorder
from gateway.simulator.report import CallReport
from gateway.simulator.socket import ClientSocket
from gateway.simulator.socket import Refused as HandshakeRefused
from gateway.simulator.speaker import Speaker, Talk
from gateway.simulator.stream import Driver, MediaStream, StreamLog

STATUS_WAIT = 10.0
REPLAY_WAIT = 3.0


@dataclass(frozen=True, slots=True)
class Step:
    """Where a flow goes on.

    url, method   what is fetched
    more          fields that are sent besides the call's
    first         it is the call's first fetch
    document      the instructions themselves, where a REST request brought them: nothing is fetched
    """

    url: str
    method: str = "POST"
    more: Fields = field(default_factory=list)
    first: bool = False
    document: str | None = None


class Call:
    """The state of one call, and what its flow can do with it.

    first: where its flow begins; None: at the carrier's voice URL.
    """

    def __init__(self, plan: CallPlan, carrier: SimulatedCarrier, http: Http, recorder: Recorder | None) -> None:
        self.plan = plan
        self.carrier = carrier
        self.http = http
        self.talk = Talk(plan)
        self.report = CallReport(carrier.name)
        self.answered = False
        self.first: Step | None = None
        self._asked = False
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
        if self.plan.faults.replay_token and last is not None:
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
        """Ask the gateway what to do.

        The first time it is the voice webhook, and is timed.
        """
        first, self._asked = not self._asked, True
        twice = first and self.plan.faults.duplicate_webhook
        answers = await asyncio.gather(*[self.http.send(request) for _ in range(2 if twice else 1)])
        if first:
            self.report.webhook_ms, self.report.answer = answers[0].ms, answers[0].text
        if twice and (answers[0].status, answers[0].text) != (answers[1].status, answers[1].text):
            self.report.violations.append("a webhook posted twice was answered in two ways")
        return answers[0]

    def post_later(self, request: Request | None) -> None:
        """Send a callback that nothing waits for."""
        if request is not None and self.plan.status:
            task = asyncio.create_task(self.http.send(request))
            self._later.add(task)

    async def _tell_status(self) -> None:
        if self.plan.status and self.plan.faults.stream_path is None:
            for request in self.carrier.ended(self.report.outcome, round(self.report.seconds)):
                self.post_later(request)
        if self._later:
            _, pending = await asyncio.wait(self._later, timeout=STATUS_WAIT)
            for task in pending:
                task.cancel()

    def dial(self, targets: Sequence[str]) -> tuple[DialResult, float]:
        """Return how a <Dial> ends, and how long it lasts."""
        self.report.dialled.extend(targets)
        result = self.plan.dial_result
        return result, self.plan.dial_seconds if result == "completed" else 0.0

    # Time

    def remaining(self) -> float:
        """Return the seconds until the caller hangs up."""
        return self.talk.deadline(self._began) - clock.now()

    async def wait(self, seconds: float) -> None:
        """Let time pass. Raises HungUp when the caller does not stay that long."""
        remaining = self.remaining()
        await asyncio.sleep(max(0.0, min(seconds, remaining)))
        if seconds > remaining:
            raise HungUp

    # Streams

    async def stream(self, spec: StreamSpec) -> StreamLog:
        """Hold a media stream until it is over, tried again as this carrier tries.

        Raises HungUp, Failed.
        """
        retries = self.carrier.handshake_retries
        while True:
            log = await self._one_stream(spec)
            if log.ended_by == "caller":
                raise HungUp
            if log.ended_by == "refused" and retries:
                retries -= 1
            elif log.close_code != 1006 or not self.carrier.reconnects(spec) or len(self.report.streams) > 5:
                return log

    def stream_in_background(self, spec: StreamSpec) -> None:
        """Open a stream that later instructions do not wait for."""
        stream, driver, url = self._prepare(spec)
        self._background.append((stream, asyncio.create_task(self._drive(stream, driver, spec, url))))

    async def _one_stream(self, spec: StreamSpec) -> StreamLog:
        stream, driver, url = self._prepare(spec)
        return await self._drive(stream, driver, spec, url)

    def _prepare(self, spec: StreamSpec) -> tuple[MediaStream, Driver, str]:
        try:
            wire = self.carrier.open_stream(spec)
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
        """Make the next stream."""
        return MediaStream(wire, url, self._recorder)

    def driver(self) -> Driver:
        """Make the driver that talks on the next stream."""
        return Speaker(self.talk)

    async def _drive(self, stream: MediaStream, driver: Driver, spec: StreamSpec, url: str) -> StreamLog:
        tell = self.carrier.stream_event
        stream.on_open = lambda: self.post_later(tell(stream.wire, spec, "started"))
        headers = self.carrier.upgrade_headers(spec.url)
        log = await stream.run(driver, url, headers, tls_context())
        event = "error" if log.error else "stopped"
        self.post_later(tell(stream.wire, spec, event, log.error))
        if log.error:
            self.report.notes.append(f"stream {len(self.report.streams)}: {log.error}")
        return log

    async def linger_in_background(self, seconds: float) -> None:
        """Wait for `seconds` if a two-way stream outlives the instructions."""
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
        headers = self.carrier.upgrade_headers(log.url)
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


Flow = Callable[[Call], Awaitable[None]]
"""Leads a call from its first webhook to its end. Raises HungUp, Refused, Failed."""


@dataclass(frozen=True, slots=True)
class Simulator:
    """One carrier as a client: what makes its calls, and what leads them."""

    carrier: type[SimulatedCarrier]
    flow: Flow


async def static_flow(call: Call) -> None:
    """Open a stream that never asked the gateway's webhook.

    A TwiML Bin does so, and a fixed URL in a flow.
    """
    plan = call.plan
    url = public_stream_url(plan.faults.stream_path or "", plan)
    spec = StreamSpec(url, call.carrier.static_attributes, dict(plan.parameters))
    log = await call.stream(spec)
    if log.ended_by == "refused":
        raise Failed(log.error)
