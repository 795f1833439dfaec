"""Several gateways on one socket: one dies, another has the call, and a third takes its place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.serve import supervisor
from gateway.serve.local_hosts import HostProcesses
from gateway.serve.supervisor import Supervisor
from gateway.settings import Settings
from tests.acceptance.program import Gateway, Program, run
from tests.kit.waiting import PATIENCE, until, wait_for
from tests.pool.server import Server

DIED = "a gateway has died, starting it again"


@pytest.fixture
def redis() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def program(tmp_path: Path, redis: Server) -> Iterator[Gateway]:
    """`gateway serve --processes 2`, of which both are ready."""
    settings = (
        f'registry = "{redis.url}"\nsecret = "a secret of the tests"\n[server]\nops_bind = ""\n'
        '[carriers.twilio]\naccount_sid = "AC1"\nauth_token = "t"\n'
        '[[services]]\nhost = "echo"\nbot = "gateway.worker.echo:bot"\nmin_warm = 1\n'
    )
    with Gateway.of(tmp_path, settings, "--processes", "2") as program:
        program.log("ready", nth=2)
        yield program


def children(pid: int) -> list[int]:
    """The gateways under the supervisor: its hosts are children, too, and say so."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid and b"serve" in command:
                found.append(int(entry.name))
    return found


def test_a_gateway_that_dies_is_replaced_until_sigterm_ends_them_all(program: Gateway) -> None:
    """And the port never refuses."""
    first = children(program.process.pid)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    for _ in range(20):
        assert httpx.get(f"{program.url}/livez").status_code == 200
    assert program.log(DIED)["status"] == -signal.SIGKILL
    program.log("ready", nth=3)
    second = children(program.process.pid)
    assert len(second) == 2
    assert first[0] not in second and first[1] in second
    program.terminate()
    assert program.wait() == 0
    for pid in second:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_gateways_drain_when_their_parent_dies(program: Gateway) -> None:
    below = children(program.process.pid)
    program.process.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), complain="their end")


def test_a_bot_that_cannot_be_used_ends_them_all(tmp_path: Path, redis: Server) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    settings = tmp_path / "gateway.toml"
    settings.write_text(
        f'registry = "{redis.url}"\nsecret = "a secret of the tests"\n[server]\nops_bind = ""\n'
        f'[[services]]\nhost = "a.b"\nbot = "{tmp_path / "broken.py"}"\n'
    )
    with Program("serve", "--config", str(settings), "--port", "0", "--processes", "2") as program:
        assert program.wait() == 2
        wait_for(lambda: "gateway serve: services.a.b.bot: " in program.text())


async def test_a_gateway_that_could_not_be_started_is_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RESTART_AFTER", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as sock, capture_logs() as logs, monkeypatch.context() as broken:
        broken.setattr(sys, "executable", str(tmp_path / "python"))
        hosts = HostProcesses(Settings(), sock.getsockname(), "")
        running = asyncio.create_task(Supervisor(sock, ["no-such-command"], 1, hosts).run())
        await until(lambda: len(logs) == 2)
        broken.undo()
        assert await asyncio.wait_for(running, 2 * PATIENCE) == 2  # as it is called wrongly
    assert (logs[0]["why"], logs[0]["seconds"]) == ("No such file or directory", 0.1)


def test_several_gateways_need_a_shared_registry() -> None:
    done = run("serve", "--dev", "--port", "0", "--processes", "2")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("gateway serve: --processes:")
