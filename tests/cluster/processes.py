"""Processes of the cluster: real ones, killed with real signals by pid, and found again by what they inherit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.secrecy import INSPECTABLE_VARIABLE
from tests.acceptance.program import environment
from tests.waiting import until

MARK = "CLUSTER_TEST_RIG"
"""Environment variable that all processes of a rig inherit, those too that their parents have left behind."""


class Process:
    """One command of the program's, with its log in a file. name: for the log. It may be started again."""

    def __init__(self, name: str, folder: Path, mark: str, arguments: list[str], env: dict[str, str]) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        self._arguments = arguments
        self._env = environment() | env | {MARK: mark, INSPECTABLE_VARIABLE: "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._from = 0
        self.stopped = False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        assert not self.alive
        self._from = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", *self._arguments],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            self.stopped = {signal.SIGSTOP: True, signal.SIGCONT: False}.get(number, self.stopped)
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM: drain."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait for it."""
        self.signal(signal.SIGKILL)
        self.stopped = False
        if self._process is not None:
            self._process.wait(10)

    async def ended(self, seconds: float = 15.0) -> int:
        """Wait for its end; the exit status."""
        await until(lambda: not self.alive, seconds, lambda: f"{self.name} does not end:\n{self.log()[-3000:]}")
        assert self._process is not None and self._process.returncode is not None
        return self._process.returncode

    def log(self, *, all_starts: bool = False) -> str:
        """What it has logged since its last start, or since its first."""
        if not self.log_file.exists():
            return ""
        with self.log_file.open("rb") as log:
            log.seek(0 if all_starts else self._from)
            return log.read().decode(errors="replace")

    def records(self, *, all_starts: bool = False) -> Iterator[dict[str, Any]]:
        for line in self.log(all_starts=all_starts).splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    async def logged(self, event: str, count: int = 1, seconds: float = 20.0) -> None:
        """Wait until it has logged this event so often since its last start."""
        await until(
            lambda: (
                not self.alive
                or sum(str(record.get("event", "")).startswith(event) for record in self.records()) >= count
            ),
            seconds,
            lambda: f"{self.name}: no {count} of {event!r} in:\n{self.log()[-3000:]}",
        )
        assert self.alive, f"{self.name} has ended:\n{self.log()[-3000:]}"


def marked(mark: str) -> list[int]:
    """The pids of all living processes of a rig."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if is_marked(pid, mark)]


def is_marked(pid: int, mark: str) -> bool:
    """This process lives, and is the rig's."""
    entry = Path(f"/proc/{pid}")
    try:
        inherited = (entry / "environ").read_bytes().split(b"\0")
        return f"{MARK}={mark}".encode() in inherited and not _is_zombie(entry)
    except OSError:
        return False


def kill_marked(mark: str) -> None:
    """SIGKILL to all that is left of a rig."""
    for pid in marked(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _is_zombie(entry: Path) -> bool:
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
