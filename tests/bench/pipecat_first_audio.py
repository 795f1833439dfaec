"""How long a caller waits for the first word: `python -m tests.bench.pipecat_first_audio`, where Pipecat is installed.

From the webhook's first byte to the first media message that is not silence, as the carrier sees both: the webhook, its
answer, the stream's handshake, and a bot that speaks as soon as its caller is there. One bot, four ways: under
Pipecat's own runner, by `POST /` and `/ws`; behind the gateway in a worker that was forked and is warm, by `relay` and
with the gateway's transport by `pcm`; and behind the gateway with that runner as its static worker. By turns, a call
at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass, field

import numpy as np

from gateway.simulator import CallPlan, CallReport, clock
from gateway.simulator.call import Call, Step
from gateway.simulator.carriers import carrier_of, flow_of, load_signer
from gateway.simulator.http import Http
from tests.bench import rig
from tests.bench.pipecat_echo import pipecats_runner

STAY = 1.2
"""Seconds of each call."""
BETWEEN = 0.4
"""Seconds until the next one, in which a worker takes the place of the one that served."""
SOUND = 200
"""A sample beyond this is no silence."""
PROXY = "https://runner.example"
"""What the runner is told that it is called outside: it writes wss:// into its answer."""


@dataclass
class Way:
    """A way to the bot. voice: the path of its webhook, where it is not the gateway's own."""

    name: str
    url: str
    voice: str = ""
    waits: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def call(self) -> None:
        """Place a call, and note how long its caller has waited."""
        public = PROXY if self.voice else None
        plan = CallPlan(
            carrier="twilio", base_url=self.url, public_url=public, audio=np.zeros(int(8000 * STAY), np.int16),
            linger=0.0, status=False,
        )  # fmt: skip
        load_signer(plan)
        carrier = carrier_of(plan)
        async with Http(plan, carrier, None) as http:
            call = Call(plan, carrier, http, None)
            if self.voice:
                call.first = Step(plan.public + self.voice, first=True)
            began = clock.now()
            report = await call.run(flow_of(plan))
        heard = first_sound(report)
        if heard is None:
            self.failed.append(f"nothing heard, {report.outcome}")
        else:
            self.waits.append((heard - began) * 1000)

    def figures(self, runner: Way) -> dict[str, float | int | str]:
        p50, p99 = (rig.share(self.waits, share) for share in (0.5, 0.99))
        return {
            "way": self.name,
            "calls": len(self.waits),
            "p50_ms": round(p50, 1),
            "p99_ms": round(p99, 1),
            "p50_of_the_runners": round(p50 / rig.share(runner.waits, 0.5), 2),
            "p99_of_the_runners": round(p99 / rig.share(runner.waits, 0.99), 2),
            "failed": len(self.failed),
        }


def first_sound(report: CallReport) -> float | None:
    """When the first media message that is not silence began to be played, which is when it came."""
    for log in report.opened:
        for heard in log.playout.heard:
            if np.abs(log.wire.outbound.decode(heard.payload).astype(int)).max(initial=0) > SOUND:
                return heard.start
    return None


async def main(calls: int, *, as_json: bool) -> int:
    bot, pcm_bot = rig.BOTS / "pipecat_hello.py", rig.BOTS / "pipecat_hello_pcm.py"
    async with contextlib.AsyncExitStack() as stack:
        runner = await stack.enter_async_context(pipecats_runner(bot, "--proxy", PROXY.removeprefix("https://")))
        static = (
            f'[[services]]\nhost = "static"\nprotocol = "relay"\nworkers = ["{runner.replace("http", "ws", 1)}/ws"]\n'
        )
        services = (
            ("relay, warm fork", rig.service("relay", str(bot), warm=2, most=6, default=True)),
            ("gateway.worker.pipecat, warm fork", rig.service("pcm", str(pcm_bot), warm=2, most=6, default=True)),
            ("relay, that runner", static + "slots = 4\nrest_seconds = 0\ndefault = true\n"),
        )
        ways = [Way("Pipecat's runner", runner, voice="/")]
        for name, service in services:
            ways.append(Way(name, stack.enter_context(rig.gateway(service, **rig.IMPORTS_TESTS)).url))
        for turn in range(calls + 1):
            for way in ways:
                await way.call()
                await asyncio.sleep(BETWEEN)
                if not turn:  # everybody has been imported
                    way.waits.clear()
    figures = [way.figures(ways[0]) for way in ways]
    if as_json:
        print(json.dumps(figures, indent=1))
    else:
        print_table(figures)
    for way in ways:
        for why in sorted(set(way.failed)):
            print(f"{way.name}: {way.failed.count(why)} calls failed: {why}", file=sys.stderr)
    return 1 if any(way.failed for way in ways) else 0


def print_table(figures: list[dict[str, float | int | str]]) -> None:
    print(
        f"{'webhook to first word':34} {'calls':>5} {'p50 ms':>8} {'p99 ms':>8}   {'x the runner: p50':>17} {'p99':>6}"
    )
    for one in figures:
        ratios = f"{one['p50_of_the_runners']:>17} {one['p99_of_the_runners']:>6}"
        print(f"{one['way']:34} {one['calls']:>5} {one['p50_ms']:>8} {one['p99_ms']:>8}   {ratios}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.pipecat_first_audio", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--calls", type=int, default=20, help="of each way, after one that is not counted")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    sys.exit(asyncio.run(main(asked.calls, as_json=asked.json)))
