"""Random faults, one at a time, under calls that talk; each has time to be mended before the next.

The promises cover one fault at a time: what a fault met that had not yet recovered from the last is not held against
anybody, so here none does. A worker is not killed whose call has lost two already (`CallLimits.starts`).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.cluster.rig import CARRIERS, Cluster, Placed
from tests.kit.processes import marked

MOST_LOST_WORKERS = 2
MENDED = 4.0
"""Seconds after a fault in which nothing else happens: two beats of a host, and a health check's `rise`."""


@dataclass
class Report:
    """established: calls that talked before the first fault. passing: short ones that came and went meanwhile."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    established: list[Placed] = field(default_factory=list)
    passing: list[Placed] = field(default_factory=list)
    slots: float = 0.0
    left: list[int] = field(default_factory=list)
    """Processes that nobody should have left."""

    @property
    def lost(self) -> list[Placed]:
        return [call for call in self.established if not call.whole]

    @property
    def two_bots(self) -> list[Placed]:
        return [call for call in self.established + self.passing if not call.in_order]

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {what}" for what, count in sorted(self.faults.items()))
        ends = Counter(call.report.outcome if call.whole else f"{call.report.outcome} early" for call in self.passing)
        streams = sum(len(call.report.opened) for call in self.established)
        bots = sum(len(call.starts) for call in self.established)
        gaps = sorted(call.gap for call in self.established)
        return "\n".join(
            (
                f"chaos, seed {self.seed}: {sum(self.faults.values())} faults: {faults}",
                f"  {len(self.established)} calls throughout: {len(self.lost)} lost, {streams} streams, {bots} bots, "
                f"longest silence p50 {gaps[len(gaps) // 2]:.2f} s, max {gaps[-1]:.2f} s",
                f"  {len(self.passing)} short calls meanwhile: "
                + ", ".join(f"{count} {what}" for what, count in ends.most_common()),
                f"  two bots heard: {len(self.two_bots)}; slots exact after {self.slots:.1f} s; "
                f"processes left: {len(self.left)}",
            )
        )


async def chaos(cluster: Cluster, *, seconds: float, calls: int, seed: int) -> Report:
    """Faults for so long under so many calls, and a short one more each second."""
    report = Report(seed)
    monkey = _Monkey(cluster, random.Random(seed), report)
    carriers = [CARRIERS[i % len(CARRIERS)] for i in range(calls)]
    throughout = cluster.start(*carriers, seconds=seconds + 15, within=calls / 10)
    await cluster.talking(calls)
    passing = asyncio.ensure_future(_passing(cluster, seconds + 5))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await monkey.strike()
        await asyncio.sleep(MENDED)
    report.passing, report.established = await passing, await throughout
    report.slots = await cluster.until_used(0, 20)
    report.left = await left_over(cluster)
    return report


async def _passing(cluster: Cluster, seconds: float) -> list[Placed]:
    calls: list[asyncio.Task[list[Placed]]] = []
    for number in range(round(seconds)):
        calls.append(cluster.start(CARRIERS[number % len(CARRIERS)], seconds=3))
        await asyncio.sleep(1)
    return [placed for [placed] in await asyncio.gather(*calls)]


async def left_over(cluster: Cluster) -> list[int]:
    """Workers with a call whose call is over, after the grace in which somebody might have come for them."""
    deadline = time.monotonic() + 20
    while True:
        started = {note["pid"] for note in cluster.notes() if note["what"] == "start"}
        left = [pid for pid in marked(cluster.mark) if pid in started]
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.5)


class _Monkey:
    def __init__(self, cluster: Cluster, dice: random.Random, report: Report) -> None:
        self._cluster = cluster
        self._dice = dice
        self._report = report
        self._began = time.monotonic()
        self._faults = {
            "workers killed": (5, self._kill_workers),
            "workers hung": (2, self._hang_workers),
            "gateway killed": (3, self._kill_gateway),
            "gateway hung": (1, self._hang_gateway),
            "host killed": (2, self._kill_host),
            "Redis killed": (2, self._kill_redis),
        }

    async def strike(self) -> None:
        """One fault, and what a supervisor would do about it."""
        names = list(self._faults)
        [name] = self._dice.choices(names, [self._faults[one][0] for one in names])
        self._report.log.append(f"{time.monotonic() - self._began:.1f} {name}")
        await self._faults[name][1]()
        self._report.faults[name] += 1

    def _victims(self) -> list[int]:
        """Up to a third of the workers with a call that may still lose one."""
        bots = Counter(note["call"] for note in self._cluster.notes() if note["what"] == "start")
        of = {note["pid"]: note["call"] for note in self._cluster.notes() if note["what"] == "start"}
        may = [pid for pid in self._cluster.busy() if bots[of[pid]] <= MOST_LOST_WORKERS]
        return self._dice.sample(may, min(len(may), self._dice.randint(1, 7)))

    async def _kill_workers(self) -> None:
        for pid in self._victims():
            os.kill(pid, signal.SIGKILL)

    async def _hang_workers(self) -> None:
        hung = self._victims()
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(5)
        for pid in hung:
            if pid in marked(self._cluster.mark):
                os.kill(pid, signal.SIGCONT)

    async def _kill_gateway(self) -> None:
        name = self._dice.choice(list(self._cluster.gateways))
        self._cluster.gateways[name].kill()
        await asyncio.sleep(self._dice.uniform(0, 2))
        await self._cluster.restart(name)

    async def _hang_gateway(self) -> None:
        name = self._dice.choice(list(self._cluster.gateways))
        self._cluster.stop(name)
        await asyncio.sleep(5)
        self._cluster.go_on(name)
        assert self._cluster.haproxy is not None
        await self._cluster.haproxy.until(name, "up")

    async def _kill_host(self) -> None:
        name = self._dice.choice(list(self._cluster.hosts))
        self._cluster.hosts[name].kill()
        await self._cluster.restart(name)

    async def _kill_redis(self) -> None:
        self._cluster.redis.kill()
        await asyncio.sleep(self._dice.uniform(0, 2))
        self._cluster.redis.start()
