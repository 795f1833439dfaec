"""Many random kills under short calls that come and go: workers all the time; now and then a gateway, a host, Redis.

Workers die regardless of what else has just died, so some calls meet what no promise covers. Each call that was lost is
held against the promises, unless `_excuse` finds what it met; the report counts those too.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.simulator import CallReport, place_call
from tests.cluster.chaos import MENDED, MOST_LOST_WORKERS, left_over
from tests.cluster.heard import bots_heard, in_order
from tests.cluster.rig import CARRIERS, Cluster, call_id
from tests.kit.processes import Process, is_marked, marked

RATE = 4.0
"""Workers killed in a second, on average."""
TALKING = 0.7
"""Of these, how many are sought among those with a call."""
BIG = 0.015
"""Of all kills, how many are of gateways; as many are of hosts, and of Redis."""
SHORT, LONG = 3.0, 8.0
"""Seconds that a caller stays."""
APART = 2.0
"""Seconds between two faults below which they are one double fault to a call that meets both."""
KEPT_OPEN = 100
"""Connections to Redis, and from HAProxy, that wait for the next burst; and workers that are warm."""
IN_FLIGHT = 1.0
"""Seconds that a webhook may be on its way, its verdict not yet with the carrier."""


@dataclass(frozen=True, slots=True)
class Window:
    """A gateway, a host or Redis was killed: from then until it was back for `MENDED` seconds. Monotonic times."""

    what: str
    killed: float
    back: float

    def touches(self, since: float, until: float) -> bool:
        return self.killed < until and since < self.back + MENDED


@dataclass(slots=True)
class Call:
    """One call that is over. pids: of its bots, in order. kills: when one of them was killed during the call."""

    carrier: str
    began: float
    ended: float
    outcome: str
    whole: bool
    pids: list[int]
    heard: list[int]
    story: str
    kills: list[float] = field(default_factory=list)
    excuse: str = ""

    @property
    def in_order(self) -> bool:
        """No bot was heard again once another had taken the call."""
        return in_order(self.heard, self.pids)


@dataclass
class Report:
    """open_files: of each gateway and host, before the first call and after the last. left: processes."""

    seed: int
    seconds: float = 0.0
    killed: Counter[str] = field(default_factory=Counter)
    windows: list[Window] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    slots: float = 0.0
    left: list[int] = field(default_factory=list)
    open_files: dict[str, tuple[int, int]] = field(default_factory=dict)
    overloaded: int = 0
    """Callers whom a node refused because its event loop was late."""

    @property
    def lost(self) -> list[Call]:
        """Those that the promises cover. Who was told busy by a node that could not keep up is not among them."""
        lost = [call for call in self.calls if not call.whole and not call.excuse]
        busy = [call for call in lost if call.outcome == "busy"]
        return [call for call in lost if call.outcome != "busy"] + busy[self.overloaded :]

    @property
    def leaking(self) -> list[str]:
        """Gateways and hosts with more open files than are kept for the next burst."""
        return [name for name, (before, after) in self.open_files.items() if after > before + KEPT_OPEN]

    @property
    def two_bots(self) -> list[Call]:
        return [call for call in self.calls if not call.in_order]

    def __str__(self) -> str:
        kills = ", ".join(f"{count} {what}" for what, count in self.killed.most_common())
        hit = [call for call in self.calls if call.kills]
        lines = [
            f"kills, seed {self.seed}: {sum(self.killed.values())} in {self.seconds:.0f} s: {kills}",
            f"  {len(self.calls)} calls, {len(hit)} of them lost a worker ({sum(len(c.kills) for c in hit)} workers); "
            f"lost that the promises cover: {len(self.lost)}; two bots heard: {len(self.two_bots)}",
        ]
        for excuse in sorted({call.excuse for call in self.calls if call.excuse}):
            met = [call for call in self.calls if call.excuse == excuse]
            ends = Counter(call.outcome for call in met if not call.whole)
            lines.append(f"  {excuse}: {len(met)} calls, {sum(c.whole for c in met)} whole all the same {dict(ends)}")
        if self.overloaded:
            lines.append(f"  told busy, as the machine was too slow for a moment: {self.overloaded}")
        files = ", ".join(f"{name} {before} to {after}" for name, (before, after) in self.open_files.items())
        lines.append(f"  slots exact after {self.slots:.1f} s; processes left: {len(self.left)}; open files: {files}")
        return "\n".join(lines)


async def kills(cluster: Cluster, *, count: int, calls: int, seed: int) -> Report:
    """So many kills under so many calls at a time."""
    report = Report(seed)
    before = _open_files(cluster)
    storm = _Storm(cluster, random.Random(seed), report)
    callers = [asyncio.ensure_future(storm.caller()) for _ in range(calls)]
    await cluster.talking(calls * 4 // 5)
    began = time.monotonic()
    big = max(1, round(count * BIG))
    await asyncio.gather(storm.kill_workers(count - 3 * big), storm.kill_the_rest(big))
    report.seconds = time.monotonic() - began
    await asyncio.sleep(MENDED)
    storm.over = True
    await asyncio.gather(*callers)
    storm.judge()
    report.slots = await cluster.until_used(0, 20)
    report.left = await left_over(cluster)
    report.overloaded = sum(
        record.get("event") == "refused" and record.get("reason") == "overloaded"
        for gateway in cluster.gateways.values()
        for record in gateway.records(all_starts=True)
    )
    after = _open_files(cluster)
    report.open_files = {name: (before[name], after[name]) for name in before}
    return report


class _Storm:
    def __init__(self, cluster: Cluster, dice: random.Random, report: Report) -> None:
        self._cluster = cluster
        self._dice = dice
        self._report = report
        self._notes = _Notes(cluster.notes_file)
        self._workers_killed: dict[int, float] = {}
        self.over = False

    # Callers.

    async def caller(self) -> None:
        """One call after another."""
        await asyncio.sleep(self._dice.uniform(0, LONG))
        while not self.over:
            carrier = self._dice.choice(CARRIERS)
            plan = self._cluster.plan(carrier, self._dice.uniform(SHORT, LONG))
            began = time.monotonic()
            report = await place_call(plan)
            ended = time.monotonic()
            heard = await asyncio.to_thread(bots_heard, report)
            self._report.calls.append(self._over(report, began, ended, heard))
            await asyncio.sleep(max(0.0, began + SHORT - ended))  # who was turned away does not call again at once

    def _over(self, report: CallReport, began: float, ended: float, heard: list[int]) -> Call:
        """What of the call is of interest: not its audio, as there are thousands."""
        self._notes.read()
        pids = self._notes.pids.get(call_id(report), [])
        whole = report.outcome == "completed" and report.ended_by == "caller"
        streams = [(log.ended_by, log.close_code, log.error) for log in report.streams]
        http = [(x.path.partition("?")[0], x.status, round(x.ms), x.error) for x in report.http]
        story = f"{report.verbs} {streams} {http} {report.notes}"
        return Call(report.carrier, began, ended, report.outcome, whole, pids, heard, story)

    # Kills.

    async def kill_workers(self, count: int) -> None:
        while count:
            await asyncio.sleep(self._dice.expovariate(RATE))
            pid = self._victim()
            if pid is not None:
                self._workers_killed[pid] = time.monotonic()
                os.kill(pid, signal.SIGKILL)
                self._report.killed["workers"] += 1
                count -= 1

    def _victim(self) -> int | None:
        self._notes.read()
        talking = [
            pid for pid in self._notes.talking - self._workers_killed.keys() if is_marked(pid, self._cluster.mark)
        ]
        if talking and self._dice.random() < TALKING:
            return self._dice.choice(sorted(talking))
        return self._dice.choice(_workers(self._cluster.mark) or [None])

    async def kill_the_rest(self, count: int) -> None:
        """So many gateways, hosts and Redis servers, one at a time, each back before the next."""
        order = ["gateways", "hosts", "Redis"] * count
        self._dice.shuffle(order)
        for what in order:
            killed = time.monotonic()
            await self._kill(what)
            self._report.killed[what] += 1
            self._report.windows.append(Window(what, killed, time.monotonic()))
            await asyncio.sleep(MENDED)

    async def _kill(self, what: str) -> None:
        cluster, away = self._cluster, self._dice.uniform(0, 2)
        if what == "Redis":
            cluster.redis.kill()
            await asyncio.sleep(away)
            cluster.redis.start()
            return
        processes = cluster.gateways if what == "gateways" else cluster.hosts
        name = self._dice.choice(sorted(processes))
        processes[name].kill()
        await asyncio.sleep(away)
        await cluster.restart(name)

    # Verdicts.

    def judge(self) -> None:
        for call in self._report.calls:
            killed = (self._workers_killed.get(pid) for pid in call.pids)
            call.kills = [at for at in killed if at is not None and at < call.ended]
            call.excuse = self._excuse(call)

    def _excuse(self, call: Call) -> str:
        """What the call met that the promises do not cover, if anything."""
        if len(call.kills) > MOST_LOST_WORKERS:
            return "lost a third worker"
        for window in self._report.windows:
            if any(window.touches(at - APART, at + APART) for at in call.kills):
                return f"lost a worker while {window.what} were away"
            if window.what == "Redis" and window.touches(call.began, call.began + IN_FLIGHT):
                return "began while Redis was away"
            if window.what == "gateways" and call.began < window.killed < call.began + IN_FLIGHT:
                return "its webhook was at a gateway that was killed"
        return ""


class _Notes:
    """What the bots note, read as it grows. pids: of each call's bots, in order. talking: pids with a call."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._at = 0
        self.pids: dict[str, list[int]] = {}
        self.talking: set[int] = set()

    def read(self) -> None:
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._at)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            self._at += len(line)
            self._heed(json.loads(line))

    def _heed(self, note: dict[str, Any]) -> None:
        if note["what"] == "start":
            self.pids.setdefault(note["call"], []).append(note["pid"])
            self.talking.add(note["pid"])
        elif note["what"] == "end":
            self.talking.discard(note["pid"])


def _workers(mark: str) -> list[int]:
    """The pids of all workers: the children of fork servers."""
    forked = {pid for pid in marked(mark) if b"gateway.worker.fork_server" in _said_by_kernel(pid, "cmdline")}
    return sorted(pid for pid in forked if _parent(pid) in forked)


def _parent(pid: int) -> int:
    after_name = _said_by_kernel(pid, "stat").rpartition(b")")[2].split()
    return int(after_name[1]) if after_name else 0


def _said_by_kernel(pid: int, what: str) -> bytes:
    """Nothing of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def _open_files(cluster: Cluster) -> dict[str, int]:
    processes: Iterable[Process] = (*cluster.gateways.values(), *cluster.hosts.values())
    return {process.name: len(os.listdir(f"/proc/{process.pid}/fd")) for process in processes}
