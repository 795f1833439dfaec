"""A light bot's cold start, and what an idle worker weighs."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable

from gateway.worker.fleet import Fleet
from gateway.worker.options import HostOptions
from tests.bench import rig
from tests.kit.proc import children

TARGET = "gateway.worker.echo:bot"
STARTS = 5
FORKS = 20


async def main() -> None:
    cold, forks = [], []
    weight: list[tuple[float, float]] = []
    for _ in range(STARTS):
        first, more, weighed = await _one()
        cold.append(first)
        forks += more
        weight += weighed
    print(
        f"exec of the fork server to the first worker ready: median {rig.median(cold):.0f} ms "
        f"({min(cold):.0f} to {max(cold):.0f}; wanted: 150)"
    )
    print(f"fork to ready, one at a time: {rig.p50_p99(forks)} ms")
    pss, private = ([one[i] for one in weight] for i in (0, 1))
    print(f"an idle worker: private {rig.median(private):.1f} MB, PSS {rig.median(pss):.1f} MB (of {len(weight)})")


async def _one() -> tuple[float, list[float], list[tuple[float, float]]]:
    """ms to the first worker; ms of each further one; (PSS, private) of all."""
    options = HostOptions(target=TARGET, service_host="bench", warm=1, max=FORKS + 2)
    changed = asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="gw-") as run_dir:
        fleet = Fleet(options, run_dir, "key", changed.set)
        before = set(children(os.getpid()))
        began = time.monotonic()
        try:
            await fleet.start()
            await _until(changed, lambda: any(worker.state == "ready" for worker in fleet.workers()))
            first = (time.monotonic() - began) * 1000
            await asyncio.sleep(0.3)  # it imports what calls need, once
            more = [await _fork(fleet, changed, f"s{number}") for number in range(FORKS)]
            await asyncio.sleep(0.3)
            [fork_server] = set(children(os.getpid())) - before
            return first, more, [rig.memory_mb(pid) for pid in children(fork_server)]
        finally:
            await fleet.stop()


async def _fork(fleet: Fleet, changed: asyncio.Event, session: str) -> float:
    began = time.monotonic()
    fleet.start_for(session)
    await _until(changed, lambda: any(w.session == session and w.state == "ready" for w in fleet.workers()))
    return (time.monotonic() - began) * 1000


async def _until(changed: asyncio.Event, so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not so():
            changed.clear()
            await changed.wait()
