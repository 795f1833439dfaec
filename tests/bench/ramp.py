"""How many calls does a core carry? Echo calls as Twilio places them, more and more, on one gateway process.

CPU is the gateway process alone (/proc/PID/stat), while all calls talk: setting them up is not in it, and neither are
workers nor the callers, who share this machine. Delays are the callers', who refuse to tell them when they were late:
then the machine was full, fewer frames came than should have, and what a call costs cannot be told either.
"""

from __future__ import annotations

import asyncio
import time

from gateway.simulator.load import Load, LoadPlan
from tests.bench import rig
from tests.kit.waiting import until

STEPS = (25, 50, 100, 150)
TALK = 9.0
PLACED_IN = 3.0
SETTLE = 1.0
HEADER = (
    "calls",
    "CPU ms per call-second",
    "calls per core",
    "echo p50",
    "p99",
    "lost",
    "held",
    "caller CPU",
    "machine",
    "late",
)


async def main() -> None:
    print(f"{TALK:g} s each, placed within {PLACED_IN:g} s; delays in ms")
    print("{:>5}  {:>22}  {:>14}  {:>8}  {:>6}  {:>5}  {:>5}  {:>10}  {:>7}  {}".format(*HEADER))
    service = rig.service("echo", "gateway.worker.echo:bot", warm=20, most=STEPS[-1] + 50, default=True)
    with rig.gateway(service) as gateway:
        await Load(_plan(gateway.url, 4, 1.0)).run()  # everybody has been imported
        for calls in STEPS:
            await _step(gateway, calls)
            await asyncio.sleep(1.0)


def _plan(url: str, calls: int, seconds: float) -> LoadPlan:
    return LoadPlan(
        carriers=("twilio",), base_url=url, calls=calls, rate=calls / PLACED_IN, seconds=seconds, audio=rig.SPEECH
    )


async def _step(gateway: rig.Running, calls: int) -> None:
    load = Load(_plan(gateway.url, calls, TALK))
    running = asyncio.create_task(load.run())
    await until(lambda: load.progress().started)
    began = time.monotonic()
    await asyncio.sleep(PLACED_IN + SETTLE)
    busy = rig.Busy()
    at, cpu, talking = time.monotonic(), rig.cpu_seconds(gateway.pid), load.progress().talking
    await asyncio.sleep(max(0.0, began + TALK - 0.5 - time.monotonic()))
    seconds, used = time.monotonic() - at, rig.cpu_seconds(gateway.pid) - cpu
    machine = busy.share()
    talking = (talking + load.progress().talking) / 2
    report = await running
    each = 1000 * used / max(talking * seconds, 1e-9)
    totals, late = report.totals, report.lateness.frames
    figures = [f"{each:.2f}", f"{1000 / each:.0f}" if each else "-", _ms(totals.echo.p50), _ms(totals.echo.p99)]
    cost, per_core, p50, p99 = ["-"] * 4 if report.late else figures
    short = "" if totals.answered == calls else f"  {calls - totals.answered} not answered"
    print(
        f"{calls:>5}  {cost:>22}  {per_core:>14}  {p50:>8}  {p99:>6}  {totals.lost:>5}"
        f"  {totals.held:>5}  {report.cpu / report.wall:>10.0%}  {machine:>7.0%}  "
        f"p99 {late.p99 or 0:.1f}, max {late.max:.1f}{'; refused: ' + report.late[0] if report.late else ''}{short}",
        flush=True,
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
