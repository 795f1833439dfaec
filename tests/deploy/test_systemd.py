"""The units: commands that exist, time for a start and a drain, and what systemd itself says of them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gateway.settings import ServiceSettings, Settings
from gateway.worker.spawn import LOAD_TIMEOUT
from gateway.worker.watchdog import START_LIMIT
from tests.deploy.reading import MARGIN, accepted, longest_call
from tests.deploy.rig import DEPLOY, tool

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def unit(path: Path) -> dict[str, list[str]]:
    """key → values, whatever the section."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_units_run_commands_that_exist() -> None:
    for path in UNITS:
        (command,) = unit(path)["ExecStart"]
        words = shlex.split(command)
        example = ["--gateway=ws://10.0.0.5:8080", "--gateway=ws://10.0.0.6:8080"]
        words = [more for word in words for more in {"$GATEWAYS": example, "$LIMITS": ["--max=3"]}.get(word, [word])]
        accepted(words)


def until_ready(port: int, pid: int) -> subprocess.CompletedProcess[str]:
    """What `systemctl start gateway` waits for, as systemd runs it, with this port and this gateway."""
    (command,) = unit(DEPLOY / "systemd" / "gateway.service")["ExecStartPost"]
    words = [
        word.replace("/opt/gateway/bin/python", sys.executable).replace(":8080/", f":{port}/").replace("0.5", "0.05")
        for word in shlex.split(command)
    ]
    env = {"PATH": os.environ["PATH"], "LISTEN": "127.0.0.1", "MAINPID": str(pid)}
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_start_returns_when_the_gateway_is_ready() -> None:
    answers, asked = [503, 503, 200], []

    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(answers.pop(0))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = until_ready(server.server_port, os.getpid())
        server.shutdown()
    assert done.returncode == 0 and not done.stderr, done
    assert asked == ["/readyz"] * 3


def test_start_fails_as_soon_as_the_gateway_has() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert until_ready(1, gone.pid).returncode == 1


def test_start_waits_for_a_slow_bot() -> None:
    (seconds,) = unit(DEPLOY / "systemd" / "gateway.service")["TimeoutStartSec"]
    assert float(seconds) > LOAD_TIMEOUT + START_LIMIT


def test_units_give_more_time_than_a_drain_takes(tmp_path: Path) -> None:
    settings = Settings(services=(ServiceSettings(host="a.b"),))
    limits = {path.name: float(unit(path)["TimeoutStopSec"][0]) for path in UNITS}
    assert limits["gateway.service"] >= settings.server.drain_seconds + MARGIN
    assert limits["gateway-worker@.service"] >= longest_call(settings)


def test_units_signal_the_one_process_that_drains() -> None:
    modes = {path.name: unit(path)["KillMode"] for path in UNITS}
    assert modes == {"gateway.service": ["mixed"], "gateway-worker@.service": ["process"]}
    for path in UNITS:
        assert unit(path)["KillSignal"] == ["SIGTERM"]
        assert unit(path)["OOMPolicy"] == ["continue"]


@pytest.mark.cluster
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for name in ("gateway", "python"):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\n")
        program.chmod(0o755)
    copies = []
    for path in UNITS:
        copies.append(tmp_path / path.name)
        copies[-1].write_text(path.read_text().replace("/opt/gateway/bin/", f"{tmp_path}/"))
    verified = subprocess.run(
        [tool("systemd-analyze", "systemd"), "verify", *map(str, copies)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert verified.returncode == 0 and not verified.stderr.strip(), verified.stderr
