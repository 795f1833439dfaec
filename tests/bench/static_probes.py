"""What it costs a gateway to ask static workers how they are, and whether any is taken for busy that is not.

    python -m tests.bench.static_probes --workers 1000 --seconds 20

The workers are ports of another process, which answer as uvicorn does and keep connections for 5 s. What is told is the
time of this process, which does nothing else: probes, and the beats to its registry.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import uvloop

from gateway.node.node import Node
from gateway.node.services import Services
from gateway.node.static_workers import StaticWorkers, static_host
from gateway.node.tokens import Signer
from gateway.pool.client import RegistryClient
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.registry import Leases

SERVICE = "static.acme"
WORKERS = r"""
import asyncio, sys

ANSWER = b"HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: 18\r\n" \
         b'content-type: application/json\r\n\r\n{"status":"ready"}'

class Worker(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.timer = transport, None
    def data_received(self, data):
        self.transport.write(ANSWER)
        if self.timer: self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(5.0, self.transport.close)

async def main(count):
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Worker, "127.0.0.1", 0) for _ in range(count)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)

asyncio.run(main(int(sys.argv[1])))
"""


async def measure(count: int, seconds: float) -> tuple[float, int, int]:
    """Return the share of a core, how many beats had a worker wrongly busy, and how many probes there were."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKERS, str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert process.stdout is not None and process.stdin is not None
    ports = (await process.stdout.readline()).split()
    leases = Leases()
    node = Node(
        public_url="http://127.0.0.1:1",
        registry=RegistryClient(MemoryRegistry(leases), leases=leases),
        signer=Signer((b"a secret of the bench",)),
        services=Services([]),
        carriers={},
    )
    workers = StaticWorkers(
        node, static_host(SERVICE, "relay", [f"ws://127.0.0.1:{int(port)}/ws" for port in ports], "")
    )
    task = node.spawn(workers.run(), "static workers")
    while (await node.registry.slots(SERVICE)).ready < count:
        await asyncio.sleep(0.1)
    await asyncio.sleep(5.0)  # the first round is over, and connections are open
    wrong, probes, began, spent = 0, workers.probes, time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        await asyncio.sleep(0.5)
        wrong += (await node.registry.slots(SERVICE)).ready < count
    share = (time.process_time() - spent) / (time.monotonic() - began)
    task.cancel()
    await asyncio.wait({task})
    process.stdin.close()
    await process.wait()
    return share, wrong, workers.probes - probes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    share, wrong, probes = uvloop.run(measure(arguments.workers, arguments.seconds))
    print(
        f"{arguments.workers} static workers: {share:.1%} of a core, {probes / arguments.seconds:.0f} probes a second, "
        f"{wrong} looks found one wrongly busy"
    )


if __name__ == "__main__":
    main()
