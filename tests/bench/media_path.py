"""What a frame of media costs the gateway: `python -m tests.bench.media_path [--against TREE]`.

A gateway in a process of its own, with real sockets on both sides: this process plays the carriers and the workers,
which send back each frame. Measured is the CPU time of the gateway's event loop for each frame that came out of it, on
either side; the ticks are in it. TREE is another checkout of this project: its gateway is measured in the same windows,
with the same calls, so that whatever else this machine does weighs on both.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop

from gateway.sockets import Accept, Socket, Upgrade, connect, server_protocol
from tests.acceptance.program import free_port
from tests.kit.processes import environment

HERE = Path(__file__).parents[2]
SERVICE = "bench.path"
KEY = "worker-key-of-the-benchmark-0123456789"
FRAME = 0.02
WARM_UP = 20.0
"""Seconds until all calls have their workers, at most."""
SPARE = 3
"""Workers for each call: those of a call that was refused are free again only later."""
TRIES = 5
"""To open as many calls as are wanted."""
WINDOW = 0.4
"""Seconds of one measurement."""

CONFIG = f"""
public_url = "http://127.0.0.1:{{port}}"
secret = "secret-of-the-benchmark-0123456789ab"
[server]
ops_bind = "127.0.0.1:0"
drain_seconds = 1
overload_lag_ms = 1000
[workers]
keys = ["{KEY}"]
[[services]]
host = "{SERVICE}"
default = true
max = {{calls}}
wrapup_seconds = 1
"""


class Failed(Exception):
    """Nothing was measured: why."""


@dataclass
class Counts:
    """Frames that came out of a gateway, at the workers and at the carriers."""

    to_workers: int = 0
    to_carriers: int = 0

    @property
    def all(self) -> int:
        return self.to_workers + self.to_carriers


class EchoWorker:
    """One link, whose audio is sent back."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._socket: Socket | None = None

    def opened(self, socket: Socket) -> None:
        self._socket = socket

    def received(self, data: bytes, text: bool) -> None:
        if text:
            if self._socket is not None and b'"stop"' in data:
                self._socket.close()
        elif self._socket is not None:
            self._counts.to_workers += 1
            self._socket.send(data)

    def closed(self, code: int, reason: str) -> None:
        self._socket = None


class Carrier:
    """One stream of Twilio's, with a frame of speech at each call of `speak`."""

    def __init__(self, counts: Counts, number: int) -> None:
        self._counts = counts
        self._stream, self._call = f"MZ{number}", f"CA{number}"
        self._payload = base64.b64encode(bytes(range(40, 200))).decode()
        self._chunk = 0
        self.heard = 0
        self.why = ""
        self.socket: Socket | None = None

    def opened(self, socket: Socket) -> None:
        self.socket = socket
        media = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {"accountSid": "AC1", "streamSid": self._stream, "callSid": self._call, "mediaFormat": media}
        socket.send(json.dumps({"event": "start", "streamSid": self._stream, "start": start}))

    def received(self, data: bytes, text: bool) -> None:
        self._counts.to_carriers += 1
        self.heard += 1

    def closed(self, code: int, reason: str) -> None:
        self.socket = None
        self.why = f"{code} {reason}"

    def speak(self) -> None:
        if self.socket is None:
            raise Failed(f"a stream was closed: {self.why}")
        self._chunk += 1
        self.socket.send(
            f'{{"event":"media","sequenceNumber":"{self._chunk + 1}","media":{{"track":"inbound",'
            f'"chunk":"{self._chunk}","timestamp":"{self._chunk * 20}","payload":"{self._payload}"}},'
            f'"streamSid":"{self._stream}"}}'
        )


class WorkerHost:
    """Registers the workers at a gateway, and beats."""

    def __init__(self, url: str, calls: int) -> None:
        workers = [{"id": f"w{n}", "url": url, "state": "ready"} for n in range(calls)]
        self._register = {
            "type": "register",
            "host": "bench",
            "epoch": 1,
            "service_host": SERVICE,
            "protocol": "pcm",
            "cap": calls,
            "workers": workers,
            "running": [],
            "link_key": "link-key",
        }
        self._beat = {"type": "beat", "workers": workers, "lag_ms": 0}
        self._socket: Socket | None = None

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        socket.send(json.dumps(self._register))

    def beat(self) -> None:
        if self._socket is not None:
            self._socket.send(json.dumps(self._beat))

    def received(self, data: bytes, text: bool) -> None:
        """Nothing: the answers are as expected, or no call gets a worker."""

    def closed(self, code: int, reason: str) -> None:
        self._socket = None


@dataclass
class Measured:
    """One gateway under calls.

    clock: gives the CPU seconds of a process, or of a part of it. cpu: microseconds for each frame, one value a window.
    """

    tree: Path
    pid: int
    host: WorkerHost
    carriers: list[Carrier]
    counts: Counts
    clock: Callable[[int], float]
    cpu: list[float] = field(default_factory=list)
    _began: tuple[float, int] = (0.0, 0)

    def begin(self) -> None:
        self._began = self.clock(self.pid), self.counts.all

    def end(self) -> None:
        cpu, frames = self._began
        self.cpu.append((self.clock(self.pid) - cpu) / max(1, self.counts.all - frames) * 1e6)


def loop_cpu(pid: int) -> float:
    """Seconds that the main thread has run, in nanoseconds' steps: Linux' Documentation/scheduler/sched-stats."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def process_cpu(pid: int) -> float:
    """The same for all threads of the process that live."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


@contextlib.contextmanager
def gateway_of(tree: Path, folder: Path, calls: int, service: str) -> Iterator[tuple[int, int]]:
    """`gateway serve` from this tree. service: further settings of its service. Gives its port and process id."""
    port = free_port()
    config = folder / f"{port}.toml"
    config.write_text(CONFIG.format(port=port, calls=SPARE * calls) + service)
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--dev", "--config", str(config), "--port", str(port)],
        cwd=tree,
        env=environment() | {"PYTHONPATH": str(tree)},
        stdout=subprocess.DEVNULL,
        stderr=(folder / f"{port}.log").open("w"),
    )
    try:
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


async def start_calls(
    tree: Path, port: int, pid: int, calls: int, first: int, clock: Callable[[int], float]
) -> Measured:
    """Register the workers, and open the streams."""
    counts = Counts()
    async with httpx.AsyncClient() as client:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"http://127.0.0.1:{port}/livez")).is_success:
                    break
            await asyncio.sleep(0.1)
        else:
            raise Failed(f"the gateway of {tree} does not start")

    def decide(upgrade: Upgrade) -> Accept:
        return Accept(EchoWorker(counts), subprotocol="gateway.pcm.v1", max_size=2**20)

    server = await asyncio.get_running_loop().create_server(server_protocol(decide), "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
    host = WorkerHost(url, SPARE * calls)
    await connect(
        f"ws://127.0.0.1:{port}/v1/workers/connect",
        host,
        headers={"Authorization": f"Bearer {KEY}"},
        subprotocol="gateway.workers.v1",
        timeout=5,
        max_size=2**20,
    )
    await asyncio.sleep(0.5)
    carriers: list[Carrier] = []
    for attempt in range(TRIES):  # on a busy machine a link may not be open in time, and its call is refused
        for n in range(calls - len(carriers)):
            carriers.append(Carrier(counts, first + attempt * calls + n))
            url = f"ws://127.0.0.1:{port}/ws/twilio?serviceHost={SERVICE}"
            await connect(url, carriers[-1], headers={}, timeout=5, max_size=2**20)
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        carriers = [carrier for carrier in carriers if carrier.socket is not None]
        if len(carriers) == calls:
            break
    return Measured(tree, pid, host, carriers, counts, clock)


async def speak(gateways: list[Measured]) -> None:
    """Send a frame of every call each 20 ms, to each gateway first in turn; for ever."""
    time = asyncio.get_running_loop().time
    due, n = time(), 0
    while True:
        n += 1
        for one in gateways if n % 2 else reversed(gateways):
            for carrier in one.carriers:
                carrier.speak()
            if n % 100 == 0:
                one.host.beat()
        due = max(due + FRAME, time() - 1)
        await asyncio.sleep(due - time())


async def all_heard(gateway: Measured, speaking: asyncio.Task[None]) -> None:
    """Wait until every call has a worker."""
    for _ in range(int(WARM_UP * 10)):
        await asyncio.wait([speaking], timeout=0.1)
        if speaking.done():
            speaking.result()
        if all(carrier.heard for carrier in gateway.carriers):
            return
    raise Failed(f"{gateway.tree}: not all calls get a worker")


async def measure(
    trees: list[Path],
    calls: int,
    windows: int,
    services: Sequence[str] = ("", ""),
    clock: Callable[[int], float] = loop_cpu,
) -> list[Measured]:
    """All trees at once. services: further settings of each gateway's service."""
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder, contextlib.ExitStack() as stack:
        gateways = []
        for tree, service in zip(trees, services, strict=False):
            port, pid = stack.enter_context(gateway_of(tree, Path(folder), calls, service))
            gateways.append(await start_calls(tree, port, pid, calls, 1000 * len(gateways), clock))
        speaking = asyncio.create_task(speak(gateways))
        for one in gateways:
            await all_heard(one, speaking)
        for _ in range(windows):
            for one in gateways:
                one.begin()
            await asyncio.wait([speaking], timeout=WINDOW)
            if speaking.done():
                speaking.result()
            for one in gateways:
                one.end()
        speaking.cancel()
        return gateways


async def main(against: Path | None = None, calls: int = 20, windows: int = 50) -> None:
    gateways = await measure([HERE, *([against.resolve()] if against else [])], calls, windows)
    for name, one in zip(("this tree", "the other"), gateways, strict=False):
        low, *_, high = sorted(one.cpu)
        median = statistics.median(one.cpu)
        print(f"{name}: {median:.1f} µs of CPU a frame (median of {len(one.cpu)} windows, {low:.1f} to {high:.1f})")
    if len(gateways) == 2:
        ours, theirs = gateways
        ratios = sorted(a / b for a, b in zip(ours.cpu, theirs.cpu, strict=True))
        print(f"ratio: {statistics.median(ratios):.3f} (median of the windows', {ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.media_path", description=__doc__.split("\n")[0])
    parser.add_argument("--against", type=Path, help="another checkout, measured in the same windows")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--windows", type=int, default=50)
    asked = parser.parse_args()
    try:
        uvloop.run(main(asked.against, asked.calls, asked.windows))
    except Failed as error:
        sys.exit(f"nothing is measured: {error}")
