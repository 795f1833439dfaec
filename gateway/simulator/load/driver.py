"""Places many calls at a steady rate, by absolute deadlines, each to its end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from gateway.simulator import clock
from gateway.simulator.carriers import carrier_of, flow_of, load_signer
from gateway.simulator.http import Http, knock
from gateway.simulator.load.calls import CallSummary, Common, LoadCall
from gateway.simulator.load.lateness import TOLERANCE, Tolerance
from gateway.simulator.load.percentiles import Percentiles
from gateway.simulator.load.plan import LoadPlan
from gateway.simulator.load.report import LoadReport, Totals

END_SECONDS = 20.0
"""After `stop`, until calls that do not end are left behind: a close frame, its answer, callbacks (10 s)."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How it stands. late_ms: the frames' own lateness so far, p99."""

    seconds: float
    asked: int
    started: int
    talking: int
    on_hold: int
    answered: int
    refused: int
    failed: int
    late_ms: float


class Load:
    """One load. `run` it once; the others may be called meanwhile."""

    def __init__(self, plan: LoadPlan, tolerance: Tolerance | None = None) -> None:
        self.plan = plan
        self._common = Common(plan.audio, plan.hold_audio)
        self._report = LoadReport(
            asked=plan.calls,
            carriers={name: Totals() for name in plan.carriers},
            tolerance=tolerance or TOLERANCE,
            lateness=self._common.lateness,
        )
        self._live: set[LoadCall] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._began = 0.0
        self._started = 0

    async def run(self) -> LoadReport:
        """Place all calls and stay until the last is over.

        Raises UserError for what cannot be tried at all: an unknown carrier, a bad key, a gateway that is not there.
        """
        await self._prepare()
        with clock.undisturbed(collecting=True):
            await self._measured()
        return self._report

    async def _measured(self) -> None:
        report, lateness = self._report, self._common.lateness
        self._began = clock.now()
        cpu = time.process_time()
        lateness.watch_loop()
        try:
            await self._place_all()
            await self._see_out()
        finally:
            lateness.stop()
            report.cpu = time.process_time() - cpu
            report.wall = clock.now() - self._began

    def stop(self) -> None:
        """Place no more calls, and hang up on those that are going on.

        `run` returns when they are over.
        """
        self._report.interrupted = True
        self._stop.set()
        for call in self._live:
            call.hang_up()

    def progress(self) -> Progress:
        totals = self._report.totals
        held = sum(call.on_hold for call in self._live)
        return Progress(
            seconds=clock.now() - self._began if self._began else 0.0,
            asked=self.plan.calls,
            started=self._started,
            talking=sum(call.talking for call in self._live) - held,
            on_hold=held,
            answered=totals.answered,
            refused=totals.refused,
            failed=totals.failed,
            late_ms=self._common.lateness.frames.p99 or 0.0,
        )

    # Inside

    async def _prepare(self) -> None:
        """Do what takes long the first time, and would make the first calls late."""
        for index in range(len(self.plan.carriers)):
            load_signer(self.plan.call(index))
        await knock(self.plan.base_url)

    async def _place_all(self) -> None:
        for index in range(self.plan.calls):
            due = self._began + index / self.plan.rate
            if await self._until(due):
                return
            self._common.lateness.starts.note((clock.now() - due) * 1000)
            self._started += 1
            task = asyncio.create_task(self._one(index))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _until(self, due: float) -> bool:
        """Wait. Whether we have been stopped."""
        delay = due - clock.now()
        if delay <= clock.EARLY:
            return self._stop.is_set()
        try:
            async with asyncio.timeout(delay):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    async def _see_out(self) -> None:
        """Wait until the last call is over; once stopped, not for ever."""
        stopped = asyncio.create_task(self._stop.wait())
        while self._tasks and not stopped.done():
            await asyncio.wait({*self._tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=END_SECONDS)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _one(self, index: int) -> None:
        plan = self.plan.call(index)
        at = clock.now() - self._began
        carrier = carrier_of(plan)
        delays: list[Percentiles] = []
        try:
            async with Http(plan, carrier, None) as http:
                call = LoadCall(plan, carrier, http, self._common)
                self._live.add(call)
                try:
                    if self._stop.is_set():
                        call.hang_up()
                    summary = call.summary(await call.run(flow_of(plan)), at)
                    delays = list(call.delays())
                finally:
                    self._live.discard(call)
        except asyncio.CancelledError:
            summary = _failed(plan.carrier, at, "did not end when it was told to")
        except Exception as error:  # a bug of the simulator's in one call must not end the others
            summary = _failed(plan.carrier, at, f"simulator: {type(error).__name__}: {error}")
        self._report.note(summary, delays)


def _failed(carrier: str, at: float, reason: str) -> CallSummary:
    return CallSummary(
        at=at, carrier=carrier, result="failed", reason=reason, webhook_ms=None, first_audio_ms=None, held=None,
        seconds=0.0, frames_sent=0, frames_received=0, frames_lost=None, echo=None, faults=(),
    )  # fmt: skip
