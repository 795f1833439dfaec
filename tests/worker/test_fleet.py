"""The workers of one host, with real processes: those that fork, those that cannot be started, those that are late."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.protocol.workers import Worker
from gateway.worker import spawn, watchdog
from gateway.worker.fleet import Fleet
from gateway.worker.options import HostOptions
from tests.kit.proc import descendants, kill, until_dead
from tests.kit.waiting import SCALE, until

FORKS = """
import os, pathlib, time
from gateway.worker.echo import bot

def prewarm():
    mine = os.getpid()
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    (pathlib.Path(__file__).parent / f"{mine}.child").write_text(str(child))
"""

SHORT_OF_PROCESSES = """
import errno, os
from gateway.worker.echo import bot

fork, forks = os.fork, 0

def failing_once():
    global forks
    forks += 1
    if forks == 1:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = failing_once
"""


@contextlib.asynccontextmanager
async def fleet(folder: Path, **changes: Any) -> AsyncIterator[Fleet]:
    options = HostOptions(**{"target": "gateway.worker.echo", "service_host": "a.b", "warm": 1, "max": 8, **changes})
    made = Fleet(options, str(folder), "key", lambda: None)
    try:
        yield made
    finally:
        await made.stop()


def ready(made: Fleet) -> list[Worker]:
    return [w for w in made.workers() if w.state == "ready"]


@pytest.fixture
async def forking(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Its one worker is ready, and has a child that holds all that it has open."""
    (tmp_path / "forks.py").write_text(FORKS)
    async with fleet(tmp_path, target=str(tmp_path / "forks.py")) as made:
        await made.start()
        await until(lambda: ready(made))
        yield made
    for child in tmp_path.glob("*.child"):
        with contextlib.suppress(ProcessLookupError):
            kill(int(child.read_text()))


def forked(folder: Path) -> list[int]:
    """The workers that have a child."""
    return [int(child.stem) for child in folder.glob("*.child")]


async def test_a_worker_that_dies_is_out_of_the_pool_though_its_child_lives(forking: Fleet, tmp_path: Path) -> None:
    (first,) = ready(forking)
    (pid,) = forked(tmp_path)
    kill(pid)
    await until(lambda: first.id not in {w.id for w in forking.workers()} and ready(forking))


async def test_a_dead_worker_of_a_dead_fork_server_is_found_by_its_silence(
    forking: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells of its end: it counts as hung. Its pid may be gone by then."""
    monkeypatch.setattr(watchdog, "HUNG_AFTER", 4.0 * SCALE)
    (first,) = ready(forking)
    (pid,) = forked(tmp_path)
    (fork_server,) = [p for p in descendants(os.getpid()) if pid in descendants(p)]
    kill(fork_server)
    await until_dead(fork_server)
    kill(pid)
    await until(lambda: first.id not in {w.id for w in forking.workers()} and ready(forking))
    assert forking.ends["hung"] == 1
    (second,) = ready(forking)
    (pid,) = [p for p in forked(tmp_path) if p != pid]
    kill(pid, signal.SIGSTOP)
    await until(lambda: second.id not in {w.id for w in forking.workers()})


async def test_sessions_that_wait_get_one_worker_each_the_oldest_first(tmp_path: Path) -> None:
    async with fleet(tmp_path, warm=0) as made:
        for session in ("s1", "s2", "s1", "s3", "s2"):
            made.start_worker_for(session)
        await made.start()
        assert [w.session for w in made.workers()] == ["s1", "s2", "s3"]
        await until(lambda: len(ready(made)) == 3)


async def test_no_worker_is_started_while_the_host_drains(tmp_path: Path) -> None:
    async with fleet(tmp_path, warm=0) as made:
        await made.start()
        made.drain()
        made.start_worker_for("s1")
        assert made.workers() == ()


async def test_more_may_be_wanted_than_are_born_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "MAX_PENDING", 2)
    async with fleet(tmp_path, warm=5) as made:
        await made.start()
        assert len(made.workers()) == 2
        made.start_worker_for("s1")
        await until(lambda: len(ready(made)) == 6)


async def test_each_in_a_process_of_its_own_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "MAX_PENDING", 2)
    monkeypatch.setattr(spawn, "FORKS", False)
    async with fleet(tmp_path, warm=3) as made:
        await made.start()
        assert len(made.workers()) == 2
        await until(lambda: len(ready(made)) == 3)


async def test_without_descriptors_it_tries_again_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with fleet(tmp_path, warm=0) as made:
        await made.start()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            made.start_worker_for("s1")
            made.start_worker_for("s2")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert made.workers() == ()
        assert [r.getMessage() for r in caplog.records] == [
            "cannot start a worker: Too many open files; trying again in 0.2 s"
        ]
        await until(lambda: len(ready(made)) == 2)
        assert sorted(w.session for w in ready(made)) == ["s1", "s2"]


async def test_a_process_that_cannot_be_started_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spawn, "FORKS", False)
    async with fleet(tmp_path, warm=0) as made:
        await made.start()
        with monkeypatch.context() as broken:
            broken.setattr(made._spawner, "_python", str(tmp_path / "python"))
            made.start_worker_for("s1")
            await until(lambda: "failed to start" in caplog.text)
        assert (
            "worker w1 failed to start: cannot start a process: No such file or directory; retrying in" in caplog.text
        )
        made.start_worker_for("s2")
        await until(lambda: ready(made))


async def test_a_fork_that_fails_is_said_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "short.py").write_text(SHORT_OF_PROCESSES)
    async with fleet(tmp_path, target=str(tmp_path / "short.py"), warm=0) as made:
        before = descendants(os.getpid())  # of tests that share a process for longer
        await made.start()
        (fork_server,) = set(descendants(os.getpid())) - set(before)
        made.start_worker_for("s1")
        await until(lambda: "failed to start" in caplog.text)
        assert "cannot fork a process: Resource temporarily unavailable; retrying in" in caplog.text
        made.start_worker_for("s2")
        await until(lambda: ready(made))
        assert fork_server in descendants(os.getpid()), "it has not imported the bot again"


async def test_a_fork_server_that_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "FORK_LIMIT", 1.0)
    async with fleet(tmp_path, warm=0) as made:
        before = descendants(os.getpid())  # of tests that share a process for longer
        await made.start()
        (fork_server,) = set(descendants(os.getpid())) - set(before)
        kill(fork_server, signal.SIGSTOP)
        made.start_worker_for("s1")
        await until_dead(fork_server)
        await until(lambda: made.workers() == ())
        made.start_worker_for("s2")
        monkeypatch.setattr(spawn, "FORK_LIMIT", 60.0)
        await until(lambda: ready(made))
