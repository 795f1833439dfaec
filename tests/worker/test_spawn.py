"""The host's side of the fork server's control channel: when one that does not answer counts as hung."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.worker.spawn import FORK_LIMIT, ForkServer
from tests.kit.waiting import until

SLOW_FORKS = """
import os, pathlib, time

folder = pathlib.Path(__file__).parent
fork, forks = os.fork, 0

def slow_fork():
    global forks
    forks += 1
    while not (folder / f"fork{forks}").exists():
        time.sleep(0.01)
    return fork()

os.fork = slow_fork

async def bot(call):
    pass
"""


class Served:
    """A fork server whose n-th fork waits for the file `fork<n>`."""

    def __init__(self, folder: Path) -> None:
        (folder / "slow.py").write_text(SLOW_FORKS)
        self.folder = folder
        self.lost = False
        self.answered: list[float] = []
        self.channels: list[socket.socket] = []
        self.server = ForkServer(str(folder / "slow.py"), "a.b", lambda pid, status: None, self._on_lost)
        self.now = asyncio.get_running_loop().time

    def _on_lost(self) -> None:
        self.lost = True

    def ask(self) -> float:
        """Ask for a worker. Returns when."""
        ours, theirs = socket.socketpair()
        self.channels.append(ours)
        self.server.spawn(theirs, lambda pid, why: self.answered.append(self.now()))
        return self.now()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path)
    await made.server.start({})
    yield made
    for number in range(1, 4):
        (tmp_path / f"fork{number}").touch()
    for channel in made.channels:
        channel.close()
    await made.server.close(20.0)


async def test_a_fork_server_that_answers_slowly_does_not_hang(served: Served) -> None:
    """Each fork of a process with a large model takes a while, and many may wait for theirs."""
    asked = [served.ask(), served.ask()]
    (served.folder / "fork1").touch()
    await until(lambda: served.answered)
    between = (asked[1] + served.answered[0]) / 2
    served.server.kill_if_hung(between + FORK_LIMIT)
    assert not served.lost, "the first answer has come since"
    served.server.kill_if_hung(served.now() + FORK_LIMIT + 0.1)
    assert served.lost


async def test_a_fork_server_that_nothing_is_asked_of_does_not_hang(served: Served) -> None:
    served.server.kill_if_hung(served.now() + 10 * FORK_LIMIT)
    (served.folder / "fork1").touch()
    served.ask()
    await until(lambda: served.answered)
    served.server.kill_if_hung(served.now() + 10 * FORK_LIMIT)
    assert not served.lost
