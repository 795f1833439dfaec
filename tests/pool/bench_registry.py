"""Claims a second of one asyncio process, for both registries in one run: `python -m tests.pool.bench_registry`.

And what a hint costs while many are on hold: each of them claims again, and no slot is free.
"""

from __future__ import annotations

import asyncio
import os
import time

from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.redis.registry import RedisRegistry
from gateway.pool.registry import Claim, Queued, Registry
from tests.pool.kit import SERVICE, host, worker
from tests.pool.server import Server

SLOTS, CALLS, AT_ONCE, PER_HOST = 1000, 2000, 64, 50
ON_HOLD = 600


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
    await hold(registry, name, "none suspected", ())
    await hold(registry, name, "one suspected ", ("h0-w0",))
    await registry.close()


async def hold(registry: Registry, name: str, what: str, avoid: tuple[str, ...]) -> None:
    """ON_HOLD claims in vain, by those who are in the queue already."""
    for again in (False, True):
        began = time.perf_counter()
        for n in range(ON_HOLD):
            assert isinstance(await registry.claim(SERVICE, f"hold{n}", queue=True, avoid=avoid), Queued)
        if again:
            milliseconds = (time.perf_counter() - began) * 1000
            print(f"{name:7} {what} {ON_HOLD} on hold claim again in {milliseconds:6.1f} ms")


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
