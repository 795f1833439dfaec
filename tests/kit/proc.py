"""Processes as the kernel knows them (proc(5)); whoever is gone meanwhile has no children and is not alive."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.kit.waiting import until


def alive(pid: int) -> bool:
    """It runs: there, and not only waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Its own, not theirs."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass
    return found


def descendants(pid: int) -> list[int]:
    """Its children, each before its own."""
    return [one for child in children(pid) for one in (child, *descendants(child))]


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)


async def until_dead(*pids: int) -> None:
    await until(lambda: not any(map(alive, pids)))
