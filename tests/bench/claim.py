"""A claimed warm worker: how long until its bot runs?

The caller's stream is open, and `start` is written next: that is one stamp, the simulator's. The bot's first line is
the other. Both are CLOCK_MONOTONIC, which is one clock for all processes of a machine; so the difference holds reading
`start`, confirming the claim, dialling the worker, its handshake and its `start`, and nothing of the simulator's own
lateness. The claim itself is made in the webhook: the gateway's own gateway_claim_seconds says how long that takes.

Twice: workers that are all there, as the calls outlast the second in which they come; and calls so short that each
second as many workers are forked and buried as calls come, which a small machine is busy with (see "machine").
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from gateway.simulator import CallPlan, clock
from gateway.simulator.call import Call
from gateway.simulator.carriers import carrier_of, flow_of, load_signer
from gateway.simulator.http import Http
from tests.bench import rig

RATE = 50.0


@dataclass(frozen=True)
class Setting:
    """calls: in each round. talk: seconds. warm, most: as in the settings."""

    name: str
    rounds: int
    calls: int
    talk: float
    warm: int
    most: int


SETTINGS = (
    Setting("all warm", rounds=3, calls=50, talk=1.2, warm=60, most=60),
    Setting("replaced", rounds=2, calls=100, talk=0.3, warm=80, most=300),
)


class Stamps:
    """What the bots say."""

    def __init__(self, path: str) -> None:
        self.at: dict[str, float] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        try:
            while True:
                call_id, at = json.loads(self._socket.recv(4096))
                self.at[call_id] = at
        except BlockingIOError:
            pass


async def main() -> None:
    print(f"{RATE:g} calls a second, each with a worker of its own; `start` written to the bot's first line, ms")
    for setting in SETTINGS:
        with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
            await _measure(setting, str(Path(folder) / "stamps"))


async def _measure(setting: Setting, path: str) -> None:
    stamps = Stamps(path)
    service = rig.service("stamp", str(rig.BOTS / "stamp.py"), warm=setting.warm, most=setting.most, default=True)
    p99s = []
    with rig.gateway(service, BENCH_STAMPS=path) as gateway:
        await _round(gateway.url, replace(setting, calls=5))  # everybody has been imported
        for number in range(setting.rounds):
            await asyncio.sleep(2.0)  # until workers are warm again
            busy = rig.Busy()
            opened = await _round(gateway.url, setting)
            took = [(stamps.at[call] - at) * 1000 for call, at in opened.items() if call in stamps.at]
            p99s.append(rig.share(took, 0.99))
            never = f"; {setting.calls - len(took)} found no worker" if len(took) < setting.calls else ""
            print(f"  {setting.name} {number + 1}: {rig.p50_p99(took)}; machine {busy.share():.0%}{never}", flush=True)
        claims = await _claims(gateway.ops)
    stamps.close()
    print(f"  {setting.name}: p99, median of the rounds {rig.median(p99s):.1f} ms (wanted: 10); claims alone: {claims}")


async def _round(url: str, setting: Setting) -> dict[str, float]:
    """Call id and time of each open stream."""
    plan = CallPlan(
        carrier="twilio",
        base_url=url,
        audio=rig.SPEECH[: int(setting.talk * 8000)],
        seconds=setting.talk,
        linger=0.0,
        status=False,
    )
    load_signer(plan)
    began = clock.now()
    tasks = []
    for index in range(setting.calls):
        await asyncio.sleep(max(0.0, began + index / RATE - clock.now()))
        tasks.append(asyncio.create_task(_call(plan)))
    return {call_id: at for call_id, at in await asyncio.gather(*tasks) if at}


async def _call(plan: CallPlan) -> tuple[str, float]:
    carrier = carrier_of(plan)
    async with Http(plan, carrier, None) as http:
        report = await Call(plan, carrier, http, None).run(flow_of(plan))
    return carrier.call_id, report.opened[0].opened if report.opened else 0.0


async def _claims(ops: str) -> str:
    """What the gateway has measured itself."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{ops}/metrics")).text
    lines = re.findall(r'gateway_claim_seconds_(\w+)\{(.*outcome="claimed".*)\} (\S+)', text)
    figures = {name: float(value) for name, _, value in lines if name != "bucket"}
    if not figures.get("count"):
        return "not in its metrics"
    wanted = 0.99 * figures["count"]
    ends = [(re.search(r'le="([^"]+)"', labels), float(value)) for name, labels, value in lines if name == "bucket"]
    p99 = min(float(end[1]) for end, count in ends if end is not None and count >= wanted)
    mean = figures["sum"] / figures["count"]
    return f"mean {1000 * mean:.3f} ms, p99 below {1000 * p99:g} ms ({figures['count']:.0f} claims)"
