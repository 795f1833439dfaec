"""Claims a second of one asyncio process, for both registries in one run: `python -m tests.pool.bench_registry`."""

from __future__ import annotations

import asyncio
import os
import time

from gateway.pool.memory import MemoryRegistry
from gateway.pool.redis import RedisRegistry
from gateway.pool.registry import Claim, Registry
from tests.pool.kit import SERVICE, host, worker
from tests.pool.server import Server

SLOTS, CALLS, AT_ONCE, PER_HOST = 1000, 2000, 64, 50


async def fill(registry: Registry, name: str) -> None:
    """CALLS claims, as many at a time as a busy node has webhooks; SLOTS of them are granted."""
    for n in range(SLOTS // PER_HOST):
        workers = [worker(f"h{n}-w{m}") for m in range(PER_HOST)]
        await registry.put_host(host(*workers, name=f"h{n}", cap=PER_HOST))
    turns = asyncio.Semaphore(AT_ONCE)
    took: list[float] = []

    async def claim(n: int) -> bool:
        async with turns:
            began = time.perf_counter()
            result = await registry.claim(SERVICE, f"s{n}")
            took.append(time.perf_counter() - began)
            return isinstance(result, Claim)

    began = time.perf_counter()
    granted = sum(await asyncio.gather(*(claim(n) for n in range(CALLS))))
    seconds = time.perf_counter() - began
    took.sort()
    print(
        f"{name:7} {CALLS / seconds:8.0f} claims/s   p50 {took[len(took) // 2] * 1000:6.2f} ms"
        f"   p99 {took[len(took) * 99 // 100] * 1000:6.2f} ms   {granted} of {CALLS} granted on {SLOTS} slots"
    )
    await registry.close()


async def main() -> None:
    """Both of them."""
    await fill(MemoryRegistry(), "memory")
    if url := os.environ.get("REDIS_URL"):
        await fill(RedisRegistry(url, prefix=f"bench-{os.getpid()}"), "redis")
        return
    server = Server()
    server.start()
    try:
        await fill(RedisRegistry(server.url), "redis")
    finally:
        server.remove()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
