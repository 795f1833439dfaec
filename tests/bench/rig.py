"""What the benchmarks share: a gateway in a process of its own, what a process has used, and percentiles."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.audio.files import read_wav
from gateway.simulator.plan import Pcm
from tests.acceptance.program import Gateway

BOTS = Path(__file__).parent / "bots"
IMPORTS_TESTS = {"PYTHONPATH": os.pathsep.join(filter(None, (str(BOTS.parents[2]), os.environ.get("PYTHONPATH"))))}
"""Environment of processes whose bots import from the tests."""
TICKS = os.sysconf("SC_CLK_TCK")
SPEECH: Pcm = read_wav(Path(__file__).parents[2] / "fixtures" / "speech.wav")[0]


@dataclass(frozen=True)
class Running:
    """A gateway. ops: where its metrics are."""

    url: str
    ops: str
    pid: int


def service(host: str, bot: str, *, warm: int, most: int, default: bool = False) -> str:
    """`[[services]]` of the settings."""
    return (
        f'[[services]]\nhost = "{host}"\nbot = "{bot}"\nmin_warm = {warm}\nmax = {most}\n'
        f"default = {'true' if default else 'false'}\nwrapup_seconds = 5\n"
    )


@contextlib.contextmanager
def gateway(*services: str, **env: str) -> Iterator[Running]:
    """`gateway serve --dev` with these services on a free loopback port, until it is no longer needed."""
    config = '[server]\nops_bind = "127.0.0.1:0"\ndrain_seconds = 1\n' + "".join(services)
    with (
        tempfile.TemporaryDirectory(prefix="gw-bench-") as folder,
        Gateway.of(Path(folder), config, "--dev", env=env) as running,
    ):
        yield Running(running.url, running.log("metrics and health")["ops"], running.process.pid)


# ------------------------------------------------------------------------------------------------------ processes


class Busy:
    """How busy all cores of this machine have been since this was made, by whomever."""

    def __init__(self) -> None:
        self._busy, self._all = self._read()

    def share(self) -> float:
        busy, everything = self._read()
        return (busy - self._busy) / max(everything - self._all, 1)

    @staticmethod
    def _read() -> tuple[int, int]:
        """Ticks (proc(5)): the fourth and the fifth are idle."""
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def cpu_seconds(pid: int) -> float:
    """User and system time of this process alone, its children not included (proc(5): fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int) -> tuple[float, float]:
    """(PSS, private) in MB: its fair share of what is shared, and what is its alone."""
    kb: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        kb[name] = int(rest.split()[0])
    return kb["Pss"] / 1024, (kb["Private_Clean"] + kb["Private_Dirty"]) / 1024


# -------------------------------------------------------------------------------------------------------- figures


def share(values: Iterable[float], share: float) -> float:
    """What this share of the values does not exceed; NaN without values."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] if ordered else math.nan


def p50_p99(values: Sequence[float]) -> str:
    return f"p50 {share(values, 0.5):.1f}, p99 {share(values, 0.99):.1f}, max {max(values, default=math.nan):.1f}"


def median(values: Iterable[float]) -> float:
    return statistics.median(values)
