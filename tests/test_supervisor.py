"""Several gateways on one socket: one dies, another has the call, and a third takes its place."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

PATIENCE = 20.0


@pytest.fixture
def redis_port(tmp_path):
    server = shutil.which("redis-server")
    if server is None:
        pytest.fail("redis-server is missing: apt-get install redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [server, "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            break
        except OSError:
            time.sleep(0.02)
    yield port
    process.kill()
    process.wait()


class Program:
    """`gateway serve --processes 2`, and what it says."""

    def __init__(self, config: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--port", "0", "--processes", "2"],
            stderr=subprocess.PIPE,
        )
        self.lines: queue.Queue[dict] = queue.Queue()
        self.seen: list[dict] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.lines.put(json.loads(line))
            except ValueError:
                self.lines.put({"event": line.decode()})
        self.process.stderr.close()

    def until(self, event: str) -> dict:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                found = self.lines.get(timeout=0.5)
            except queue.Empty:
                continue
            self.seen.append(found)
            if found["event"] == event:
                return found
        raise AssertionError(f"never said {event!r}: {self.seen}")


@pytest.fixture
def program(tmp_path, redis_port):
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'registry = "redis://127.0.0.1:{redis_port}/0"\nsecret = "a secret of the tests"\n[server]\nops_bind = ""\n'
        '[carriers.twilio]\naccount_sid = "AC1"\nauth_token = "t"\n'
        '[[services]]\nhost = "echo"\nbot = "gateway.worker.echo:bot"\nmin_warm = 1\n'
    )
    program = Program(config)
    yield program
    if program.process.poll() is None:
        program.process.kill()
    program.process.wait()


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


def test_a_gateway_that_dies_is_replaced_and_the_port_never_refuses(program):
    url = program.until("ready")["public_url"]
    program.until("ready")
    first = children(program.process.pid)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    for _ in range(20):
        assert httpx.get(f"{url}/livez").status_code == 200
    assert program.until("a gateway has died, starting it again")["status"] == -signal.SIGKILL
    program.until("ready")
    assert len(children(program.process.pid)) == 2


def test_sigterm_ends_all_of_them(program):
    program.until("ready")
    program.until("ready")
    below = children(program.process.pid)
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(PATIENCE) == 0
    for pid in below:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_gateways_drain_when_their_parent_dies(program):
    program.until("ready")
    program.until("ready")
    below = children(program.process.pid)
    program.process.kill()
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.05)


def test_several_gateways_need_a_shared_registry(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--dev", "--port", "0", "--processes", "2"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("gateway serve: --processes:")
