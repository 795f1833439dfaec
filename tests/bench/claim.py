"""A claimed warm worker: how long until its bot runs?

The caller's stream is open, and `start` is written next: that is one stamp, the simulator's. The bot's first line is
the other. Both are CLOCK_MONOTONIC, which is one clock for all processes of a machine; so the difference holds reading
`start`, confirming the claim, dialling the worker, its handshake and its `start`, and nothing of the simulator's own
lateness. The claim itself is made in the webhook: the gateway's own gateway_claim_seconds says how long that takes.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tempfile
from pathlib import Path

import httpx

from gateway.simulator import CallPlan, clock
from gateway.simulator.call import Call, flow_of, load_signer, side_of
from gateway.simulator.http import Http
from tests.bench import rig

RATE = 50.0
CALLS = 150
ROUNDS = 3
TALK = 0.3
WARM = 80


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
    print(f"{ROUNDS} × {CALLS} calls at {RATE:g} a second, each a worker of its own; ms")
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
        path = str(Path(folder) / "stamps")
        stamps = Stamps(path)
        service = rig.service("stamp", str(rig.BOTS / "stamp.py"), warm=WARM, most=300, default=True)
        async with rig.gateway(service, BENCH_STAMPS=path) as gateway:
            worst, opened = [], {}
            for number in range(ROUNDS):
                before = set(opened)
                opened |= await _round(gateway.url)
                took = [
                    (stamps.at[call] - at) * 1000
                    for call, at in opened.items()
                    if call not in before and call in stamps.at
                ]
                worst.append(rig.share(took, 0.99))
                lost = CALLS - len(took)
                print(
                    f"  {number + 1}: `start` written to the bot's first line: {rig.p50_p99(took)}; no worker: {lost}"
                )
                await asyncio.sleep(1.0)
            claims = await _claims(gateway.ops)
        stamps.close()
    print(f"the claim itself, in the webhook: {claims}")
    print(f"p99, median of the rounds: {rig.median(worst):.1f} ms (wanted: 10)")


async def _round(url: str) -> dict[str, float]:
    """Call id and time of each open stream."""
    load_signer(side_of(_plan(url)), _plan(url))
    began = clock.now()
    tasks = []
    for index in range(CALLS):
        await asyncio.sleep(max(0.0, began + index / RATE - clock.now()))
        tasks.append(asyncio.create_task(_call(_plan(url))))
    return {call_id: at for call_id, at in await asyncio.gather(*tasks) if at}


def _plan(url: str) -> CallPlan:
    return CallPlan(
        carrier="twilio", base_url=url, audio=rig.SPEECH[: int(TALK * 8000)], seconds=TALK, linger=0.0, status=False
    )


async def _call(plan: CallPlan) -> tuple[str, float]:
    side = side_of(plan)
    async with Http(plan, side, None) as http:
        report = await Call(plan, side, http, None).run(flow_of(plan))
    return side.call_id, report.opened[0].opened if report.opened else 0.0


async def _claims(ops: str) -> str:
    """What the gateway has measured itself."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{ops}/metrics")).text
    label = r'gateway_claim_seconds_{}\{{outcome="claimed"{}\}} (\S+)'
    total, count = (re.search(label.format(name, ""), text) for name in ("sum", "count"))
    if total is None or count is None:
        return "not in its metrics"
    buckets = re.findall(label.format("bucket", r',le="([^"]+)"'), text)
    wanted = 0.99 * float(count[1])
    p99 = next((float(end) for end, n in buckets if float(n) >= wanted), float("inf"))
    return f"mean {1000 * float(total[1]) / float(count[1]):.3f} ms, p99 below {1000 * p99:g} ms ({count[1]} claims)"
