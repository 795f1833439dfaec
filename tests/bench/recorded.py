"""What recording costs: `python -m tests.bench.recorded [--calls N] [--format flac]`.

Two gateways of this checkout, one of which records all of its calls, carry the same calls in turn (the recording one
first, then last), with workers of their own, real echo bots. Callers speak with pauses. Their echo's delay is that of
all seconds of speech. CPU is that of the whole gateway process, from the first webhook until the last file is made; for
the one that records nothing, until as much later as the other one took.

Without --calls there are as many as this machine carries without the callers themselves being late, at most 100. With
it their CPU is told though they are late, as on a busy machine, but no delays.
`--windows N` measures what the media path pays while calls run: N windows in which both gateways carry 20 calls at
once that never pause; of the whole process, and of the event loop alone, which is what callers wait for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop

from gateway.audio import g711
from gateway.audio.format import AudioFormat
from gateway.call_recording.convert import convert, write_format
from gateway.call_recording.spool import Entry, pack
from gateway.simulator.load import Load, LoadPlan, LoadReport
from gateway.simulator.load.percentiles import Percentiles
from gateway.simulator.plan import CALLER_RATE, Pcm
from tests.bench import rig
from tests.bench.media_path import HERE, Failed, loop_cpu, measure, process_cpu
from tests.kit.waiting import until

CALLS = (100, 80, 65, 50, 40, 30, 20)
"""So many at once are tried, from the first on."""
PLACED_IN = 10.0
PAUSE = 1.5
"""Seconds between two times that a caller says their six seconds of speech."""
MADE_WITHIN = 60.0


def speech() -> Pcm:
    return np.concatenate([rig.SPEECH, np.zeros(int(PAUSE * CALLER_RATE), np.int16)])


@dataclass
class Side:
    """One of the gateways. folder: of its recordings, None where there are none. cpu: ms for each second of a call."""

    name: str
    gateway: rig.Running
    folder: Path | None
    cpu: list[float] = field(default_factory=list)
    talking: list[float] = field(default_factory=list)
    """The same, but only while all calls talk."""
    echo: Percentiles = field(default_factory=Percentiles)
    late: list[str] = field(default_factory=list)
    """How the callers were late themselves: then what they heard is no measure."""

    def take(self, report: LoadReport, whole: float, talking: float) -> None:
        self.cpu.append(whole)
        self.talking.append(talking)
        self.echo.add(report.totals.echo)


@contextlib.contextmanager
def both(ending: str) -> Iterator[tuple[Side, Side]]:
    with tempfile.TemporaryDirectory(prefix="gw-recordings-") as folder:
        plain = rig.service("echo", "gateway.worker.echo:bot", warm=20, most=CALLS[0] + 50, default=True)
        recorded = f'{plain}recordings = "{folder}"\nrecording_format = "{ending}"\n'
        with rig.gateway(recorded) as one, rig.gateway(plain) as other:
            yield Side("recorded", one, Path(folder)), Side("not", other, None)


async def made(folder: Path, count: int) -> float:
    """Wait until the files of so many calls are made. Returns how long that took, seconds."""
    began = time.monotonic()
    await until(lambda: len(list(folder.glob("*.flac")) + list(folder.glob("*.wav"))) == count, MADE_WITHIN)
    for path in folder.iterdir():
        path.unlink()
    return time.monotonic() - began


def _plan(url: str, calls: int, rate: float, seconds: float) -> LoadPlan:
    return LoadPlan(carriers=("twilio",), base_url=url, calls=calls, rate=rate, seconds=seconds, audio=speech())


async def carry(side: Side, calls: int, seconds: float, after: float, *, despite_late: bool) -> float:
    """Calls of so many seconds on one gateway. Returns how long its files took. after: seconds to wait if it has none.

    Raises Failed if the callers were late (unless that is to be), or not all were answered.
    """
    cpu, load = (
        rig.cpu_seconds(side.gateway.pid),
        Load(_plan(side.gateway.url, calls, calls / PLACED_IN, seconds + PLACED_IN)),
    )
    running = asyncio.create_task(load.run())
    await asyncio.sleep(PLACED_IN + 1.0)
    at, talking = time.monotonic(), rig.cpu_seconds(side.gateway.pid)
    await asyncio.sleep(seconds - 2.0)
    talked = (rig.cpu_seconds(side.gateway.pid) - talking) / (time.monotonic() - at) / calls
    report = await running
    if report.totals.answered < calls or (report.late and not despite_late):
        raise Failed(f"{report.totals.answered} of {calls} calls were answered; {'; '.join(report.late) or 'in time'}")
    side.late += report.late
    if side.folder is not None:
        after = await made(side.folder, calls)
    else:
        await asyncio.sleep(after)
    side.take(report, 1000 * (rig.cpu_seconds(side.gateway.pid) - cpu) / report.totals.seconds, 1000 * talked)
    return after


async def pair(sides: tuple[Side, Side], calls: int, seconds: float, rounds: int, *, despite_late: bool) -> None:
    """Carry them in turn, once with the recording gateway first, then with it last."""
    after = 5.0
    for n in range(rounds):
        for side in sides if n % 2 == 0 else reversed(sides):
            after = await carry(side, calls, seconds, after, despite_late=despite_late)
            print(
                f"{side.name:>8}, {calls} calls: {side.cpu[-1]:.2f} ms CPU per call-second,"
                f" {side.talking[-1]:.2f} while all talk",
                flush=True,
            )


async def main(calls: int = 0, seconds: float = 20.0, rounds: int = 4, ending: str = "flac") -> None:
    for number in (calls,) if calls else CALLS:
        with both(ending) as sides:
            for side in sides:
                await Load(_plan(side.gateway.url, 4, 4.0, 1.0)).run()
            if sides[0].folder is not None:
                await made(sides[0].folder, 4)
            try:
                await pair(sides, number, seconds, rounds, despite_late=bool(calls))
            except Failed as error:
                print(f"{number} calls are too many here: {error}", flush=True)
                continue
            show(sides, number, ending)
            return
    raise Failed("this machine does not carry these calls")


def show(sides: tuple[Side, Side], calls: int, ending: str) -> None:
    for what, figures in (
        ("until the files are made", [side.cpu for side in sides]),
        ("while all talk", [side.talking for side in sides]),
    ):
        with_it, without = map(statistics.mean, figures)
        print(
            f"{calls} calls, {ending}, CPU {what}: {with_it:.2f} ms per call-second, {without:.2f} without;"
            f" ratio {with_it / without:.3f}"
        )
    with_it, without = (side.echo.to_json() for side in sides)
    print(made_alone(ending))
    if late := [*sides[0].late, *sides[1].late]:
        print(f"no delays are told, as the callers were late themselves: {late[0]}")
        return
    print(
        f"echo, measured {with_it['count']} times: p50 {with_it['p50']}, p99 {with_it['p99']} ms;"
        f" without p50 {without['p50']}, p99 {without['p99']} ms; difference of p99"
        f" {(with_it['p99'] or 0) - (without['p99'] or 0):+.1f} ms"
    )


def made_alone(ending: str) -> str:
    """Make the file of a minute of a call in which both speak, and say what it takes."""
    entries: list[Entry] = [("begin", 0.0, 0.0, b"16000 0")]
    mulaw = AudioFormat.of("mulaw", 8000)
    entries += [("caller_format", 0.0, 0.0, write_format(mulaw)), ("format", 0.0, 0.0, write_format(mulaw))]
    wire = g711.mulaw_encode(np.resize(speech(), 60 * CALLER_RATE)).tobytes()
    for n in range(3000):
        payload = wire[n * 160 : n * 160 + 160]
        entries += [("caller", n * 0.02, n * 0.02, payload), ("bot", n * 0.02, n * 0.02 + 0.1, payload)]
    written, took = pack(entries), []
    with tempfile.TemporaryDirectory(prefix="gw-recordings-") as folder:
        spool, target = Path(folder, "spool"), Path(folder, f"call.{ending}")
        spool.write_bytes(written)
        for _ in range(5):
            target.unlink(missing_ok=True)
            began = time.process_time()
            list(convert(spool, target, f".{ending}"))
            took.append(time.process_time() - began)
        size = target.stat().st_size
    return (
        f"a minute of a call: {len(written) / 60e3:.0f} KB a second are written down, and made into {size / 1e6:.1f} MB"
        f" of {ending} in {1000 * statistics.median(took):.0f} ms of CPU"
    )


async def windows(calls: int, count: int, ending: str) -> None:
    for what, clock in (("process", process_cpu), ("event loop", loop_cpu)):
        with tempfile.TemporaryDirectory(prefix="gw-recordings-") as folder:
            services = (f'recordings = "{folder}"\nrecording_format = "{ending}"\n', "")
            with_it, without = await measure([HERE, HERE], calls, count, services, clock)
        ratios = sorted(a / b for a, b in zip(with_it.cpu, without.cpu, strict=True))
        low, middle, high = ratios[len(ratios) // 10], statistics.median(ratios), ratios[-len(ratios) // 10]
        print(
            f"{what}, {calls} calls, {ending}: {statistics.median(with_it.cpu):.1f} µs a frame,"
            f" {statistics.median(without.cpu):.1f} without; ratio {middle:.3f} ({low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recorded", description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of talk, once all calls are there")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--windows", type=int, default=0)
    parser.add_argument("--format", choices=["flac", "wav"], default="flac")
    asked = parser.parse_args()
    job = (
        windows(asked.calls or 20, asked.windows, asked.format)
        if asked.windows
        else main(asked.calls, asked.seconds, asked.rounds, asked.format)
    )
    try:
        uvloop.run(job)
    except Failed as error:
        sys.exit(f"nothing is measured: {error}")
