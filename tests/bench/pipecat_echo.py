"""What a Pipecat echo costs the caller: `python -m tests.bench.pipecat_echo`, where pipecat-ai is installed too.

One bot, three ways: under Pipecat's own runner; behind the gateway, by `relay`; and with the gateway's transport, by
`pcm`. Beside them the gateway's own echo, without Pipecat: what this machine has to give at the time. A Twilio caller
speaks a sentence to each, by turns, so that all have the same machine, and presses a key to have it say three of its
own. The bot's pipeline is at 16 kHz, Pipecat's default. Lost is what the caller does not hear of those sentences.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt

from gateway.simulator import CallPlan, CallReport, Faults, place_call
from gateway.simulator.plan import Pcm
from tests.acceptance.program import free_port
from tests.bench import rig
from tests.bench.bots.sentences import PAUSE, SENTENCES
from tests.kit.processes import environment
from tests.kit.waiting import until

APART = 0.37
"""Seconds between the calls of a round: neither begins with another."""


QUIET = 100.0
"""RMS below which the wire's own noise decides whether a block is like another."""


@dataclass
class Way:
    """A way to the bot. path: of the stream, where no webhook is asked."""

    name: str
    url: str
    path: str | None = None
    speaks: bool = True
    delays: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    calls: int = 0
    failed: list[str] = field(default_factory=list)

    async def echo(self, after: float) -> CallReport:
        """A call that talks."""
        await asyncio.sleep(after)
        plan = CallPlan(carrier="twilio", base_url=self.url, audio=rig.SPEECH, faults=Faults(stream_path=self.path))
        return await place_call(plan)

    async def listen(self, after: float) -> CallReport:
        """A call that has the bot talk."""
        await asyncio.sleep(after)
        faults = Faults(stream_path=self.path, dtmf=((0.3, "1"),))
        silence = np.zeros(int(8000 * (1 + len(SENTENCES) * (1 + PAUSE))), np.int16)
        return await place_call(CallPlan(carrier="twilio", base_url=self.url, audio=silence, faults=faults))

    def note_echo(self, report: CallReport) -> None:
        """Measure a call that talked, when none is running."""
        delays = report.echo_delays_ms() if report.outcome == "completed" else []
        if not delays:
            self.failed.append(f"no echo, {report.outcome}")
        self.delays += delays
        self.calls += bool(delays)

    def note_speech(self, report: CallReport) -> None:
        """Measure a call that listened: what it has not heard of each sentence, to 1/8 ms."""
        said = np.concatenate(SENTENCES)
        heard = report.opened[0].wire.outbound.decode(report.heard_wire) if report.opened else said[:0]
        if report.outcome != "completed" or not len(heard):
            self.failed.append(f"nothing heard, {report.outcome}")
            return
        self.lost.append(missing_ms(heard))

    def figures(self) -> dict[str, float | int | str]:
        return {
            "way": self.name,
            "calls": self.calls,
            "echo_p50_ms": round(rig.share(self.delays, 0.5), 1),
            "echo_p99_ms": round(rig.share(self.delays, 0.99), 1),
            "lost_ms_per_call_least": min(self.lost, default=0),
            "lost_ms_per_call_most": max(self.lost, default=0),
            "failed": len(self.failed),
        }


def missing_ms(heard: Pcm) -> float:
    """Return how much of the sentences is missing in what was heard.

    Each is looked for by its beginning; from there on it is there until it is no longer like it.
    """
    missing, block = 0.0, 40
    for sentence in SENTENCES:
        s, h = sentence.astype(float), heard.astype(float)
        at = int(np.argmax(np.correlate(h, s[: len(s) // 2], "valid")))
        there = h[at : at + len(s)]
        whole = 0
        for start in range(0, len(s), block):
            a, b = s[start : start + block], there[start : start + block]
            if len(a) == len(b) and (rms(a) < QUIET or rms(a - b) < 0.7 * rms(a)):
                whole = start + block
        missing += (len(s) - whole) / 8
    return missing


def rms(samples: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(samples * samples)))


@contextlib.asynccontextmanager
async def pipecats_runner(bot: Path, *arguments: str) -> AsyncIterator[str]:
    """`python bot.py -t twilio`, as its user starts it; its URL."""
    port = free_port()
    env = environment() | {"LOGURU_LEVEL": "INFO"} | rig.IMPORTS_TESTS
    process = subprocess.Popen(
        [sys.executable, str(bot), "-t", "twilio", "--host", "127.0.0.1", "--port", str(port), *arguments],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await until(lambda: _answers(f"http://127.0.0.1:{port}/docs"), 30)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


async def _answers(url: str) -> bool:
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(url)).status_code < 500
        except httpx.TransportError:
            return False


async def measure(ways: list[Way], rounds: int, calls: int) -> None:
    for turn in range(rounds + 1):  # the first: everybody has been imported
        for way in ways:
            echoes = await asyncio.gather(*(way.echo(n * APART) for n in range(calls)))
            speeches = await asyncio.gather(*(way.listen(n * APART) for n in range(calls if way.speaks else 0)))
            if turn:
                for echo in echoes:
                    way.note_echo(echo)
                for speech in speeches:
                    way.note_speech(speech)


def service(name: str, bot: Path, calls: int) -> str:
    return rig.service(name, str(bot), warm=calls + 1, most=2 * calls + 2, default=True)


async def main(rounds: int, calls: int, *, as_json: bool) -> int:
    async with contextlib.AsyncExitStack() as stack:
        runner = await stack.enter_async_context(pipecats_runner(rig.BOTS / "pipecat_echo.py"))
        relay, pcm = (
            stack.enter_context(rig.gateway(service(name, rig.BOTS / bot, calls), **rig.IMPORTS_TESTS))
            for name, bot in (("relay", "pipecat_echo.py"), ("pcm", "pipecat_echo_pcm.py"))
        )
        floor = stack.enter_context(
            rig.gateway(rig.service("echo", "gateway.worker.echo:bot", warm=calls + 1, most=20, default=True))
        )
        ways = [
            Way("Pipecat's runner", runner, "/ws"),
            Way("the same bot by relay", relay.url),
            Way("gateway.worker.pipecat", pcm.url),
            Way("no Pipecat", floor.url, speaks=False),
        ]
        await measure(ways, rounds, calls)
    figures = [way.figures() for way in ways]
    if as_json:
        print(json.dumps(figures, indent=1))
    else:
        print_table(figures)
    for way in ways:
        for why in sorted(set(way.failed)):
            print(f"{way.name}: {way.failed.count(why)} calls failed: {why}", file=sys.stderr)
    return 1 if any(way.failed for way in ways) else 0


def print_table(figures: list[dict[str, float | int | str]]) -> None:
    print(f"{'':28} {'calls':>5} {'echo p50 ms':>12} {'p99':>6} {'lost ms a call':>15}")
    for one in figures:
        lost = (
            "" if one["way"] == "no Pipecat" else f"{one['lost_ms_per_call_least']:g}-{one['lost_ms_per_call_most']:g}"
        )
        print(f"{one['way']:28} {one['calls']:>5} {one['echo_p50_ms']:>12} {one['echo_p99_ms']:>6} {lost:>15}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pipecat_echo", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--calls", type=int, default=3, help="at once, of each round")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    sys.exit(asyncio.run(main(asked.rounds, asked.calls, as_json=asked.json)))
