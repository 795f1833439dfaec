from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.worker.usage import MEASURE_EVERY, Usage
from tests.kit.waiting import wait_for

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")
KEPT = 40 * 2**20
BUSY = f"""
import time
kept = bytearray({KEPT})
end = time.process_time() + 0.2
while time.process_time() < end:
    pass
print("done", flush=True)
input()
"""


@pytest.fixture
def busy() -> Iterator[int]:
    """A process that keeps 40 MB and has just used 0.2 s of CPU time."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        yield process.pid
        process.kill()


@LINUX
def test_memory_is_what_is_resident(busy: int) -> None:
    usage = Usage()
    usage.measure(busy, 100.0)
    assert KEPT < usage.memory < KEPT + 2**26 and usage.cpu == 0


@LINUX
def test_cpu_is_of_the_time_between_two_measurements(busy: int) -> None:
    usage = Usage(_at=100.0)
    usage.measure(busy, 105.0)
    assert 40 <= usage.cpu <= 100  # 0.2 s of 5, and what its start took
    usage.measure(busy, 110.0)
    assert usage.cpu == 0


@LINUX
def test_it_is_not_measured_again_before_its_time(busy: int) -> None:
    usage = Usage()
    usage.measure(busy, 100.0)
    usage.memory = 1
    usage.measure(busy, 100.0 + MEASURE_EVERY - 0.1)
    assert usage.memory == 1
    usage.measure(busy, 100.0 + MEASURE_EVERY)
    assert usage.memory > KEPT


@pytest.mark.parametrize("pid", [0, 2**22 + 1])
def test_of_no_process_nothing_is_known(pid: int) -> None:
    usage = Usage()
    usage.measure(pid, 100.0)
    assert usage == Usage()


def measured(pid: int) -> Usage | None:
    """None while it has no memory."""
    usage = Usage()
    usage.measure(pid, 100.0)
    return usage if usage.memory else None


@LINUX
def test_a_name_with_brackets_and_spaces_is_no_trouble(tmp_path: Path) -> None:
    named = tmp_path / "a ) 1 2 (b"
    named.symlink_to("/bin/cat")
    with subprocess.Popen([str(named)], stdin=subprocess.PIPE) as process:
        usage = wait_for(lambda: measured(process.pid))  # at first it has no page of its own
        process.kill()
    assert 0 < usage.memory < 2**28 and usage.memory % os.sysconf("SC_PAGE_SIZE") == 0
