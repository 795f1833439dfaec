"""The fork server at its control channel, a real one: what it answers when the machine has no more to give."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.kit.waiting import PATIENCE

BOT = """
async def bot(call):
    pass
"""
SHORT_OF_PROCESSES = (
    BOT
    + """
import errno, os
fork, times = os.fork, 0
def failing_once():
    global times
    times += 1
    if times == 1:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()
os.fork = failing_once
"""
)


class Control:
    """The host's end, and the process at the other one."""

    def __init__(self, end: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.end = end
        self.process = process

    def ask(self) -> socket.socket:
        """Ask for a worker. Returns our end of its channel."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.end, [b"{}"], [theirs.fileno()])
        return ours

    def hear(self) -> dict[str, Any]:
        return dict(orjson.loads(self.end.recv(65536)))


Start = Callable[[str], Control]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a fork server with this bot, and wait until it has imported it."""
    started: list[Control] = []

    def start(source: str) -> Control:
        (tmp_path / "mybot.py").write_text(source)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE)
        module, fd = "gateway.worker.fork_server", theirs.fileno()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(tmp_path / "mybot.py"), str(fd), "a.b"], pass_fds=(fd,)
            )
        control = Control(ours, process)
        started.append(control)
        ours.send(b"{}")
        assert control.hear()["loaded"]
        return control

    yield start
    for control in started:
        control.end.close()
        control.process.wait(PATIENCE)


def test_it_outlives_a_fork_that_fails_and_says_why(start: Start) -> None:
    control = start(SHORT_OF_PROCESSES)
    with control.ask() as first:
        assert control.hear() == {"not_forked": "Resource temporarily unavailable"}
        assert first.recv(1) == b"", "nobody else holds the channel"
    with control.ask():
        assert control.hear()["spawned"]


def test_a_request_whose_channel_was_lost_is_answered(start: Start) -> None:
    """Without a free descriptor the kernel drops the channel (MSG_CTRUNC): recvmsg(2)."""
    control = start(BOT)
    with control.ask() as worker:
        assert control.hear()["spawned"]
        pid = control.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with control.ask() as lost:
            assert control.hear() == {"not_forked": "Too many open files"}
            assert lost.recv(1) == b""
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        with control.ask():
            assert control.hear()["spawned"], "the host has not gone"
        assert worker.send(b"") == 0
