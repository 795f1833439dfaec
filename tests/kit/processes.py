"""Processes of the tests: real ones, their log in a file, hurt by real signals and found again by what they inherit."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.kit.proc import alive
from tests.kit.waiting import PATIENCE, SCALE, SECONDS, until

PROGRAM = (sys.executable, "-m", "gateway")
MARK = "CLUSTER_TEST_RIG"
"""Environment variable that all processes of a rig inherit, those too that their parents have left behind."""


_states = Path(tempfile.mkdtemp(prefix="gw-states-"))
atexit.register(shutil.rmtree, _states, ignore_errors=True)


def environment() -> dict[str, str]:
    """Ours, without what would configure the gateway behind a test's back.

    What it keeps beyond its end is in a folder of its own: not here, and not with that of other tests.
    """
    ours = ("GATEWAY_", "TWILIO_", "TELNYX_", "PLIVO_", "EXOTEL_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return kept | {"PYTHONUNBUFFERED": "1", "STATE_DIRECTORY": tempfile.mkdtemp(dir=_states)}


class Process:
    """One command, which may be started again. As a context manager it is running, and what is left of it is killed.

    name: of its log.
    """

    def __init__(self, name: str, folder: Path, command: Sequence[str], env: dict[str, str]) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        self.stopped = False
        self._command = command
        self._env = environment() | env
        self._process: subprocess.Popen[bytes] | None = None
        self._from = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.alive
        self._from = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._env, start_new_session=True
            )

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
            self._process.wait(PATIENCE)

    def kill_group(self) -> None:
        """SIGKILL to the process and to what it has started: they are one session."""
        if self._process is not None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait(PATIENCE)

    def wait(self, seconds: float) -> int:
        """Wait for its end without a loop; the exit status."""
        assert self._process is not None
        return self._process.wait(seconds * SCALE)

    async def ended(self, seconds: float = SECONDS) -> int:
        """Wait for its end; the exit status."""
        await until(lambda: not self.alive, seconds, lambda: f"{self.name} does not end:\n{self.log()[-3000:]}")
        assert self._process is not None and self._process.returncode is not None
        return self._process.returncode

    def log(self, *, all_starts: bool = False) -> str:
        """Read what it has logged since its last start, or since its first."""
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

    async def logged(self, event: str, count: int = 1, seconds: float = SECONDS) -> None:
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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_group()


def marked(mark: str) -> list[int]:
    """Find the pids of all living processes of a rig."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if is_marked(pid, mark)]


def is_marked(pid: int, mark: str) -> bool:
    """Whether this process lives, and is the rig's."""
    try:
        inherited = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{MARK}={mark}".encode() in inherited and alive(pid)


def kill_marked(mark: str) -> None:
    """SIGKILL to all that is left of a rig."""
    for pid in marked(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
