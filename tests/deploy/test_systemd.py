"""The units: commands that exist, time for a drain, and what systemd itself says of them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import ServiceSettings, Settings
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
    program = tmp_path / "gateway"
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    copies = []
    for path in UNITS:
        copies.append(tmp_path / path.name)
        copies[-1].write_text(path.read_text().replace("/opt/gateway/bin/gateway", str(program)))
    verified = subprocess.run(
        [tool("systemd-analyze", "systemd"), "verify", *map(str, copies)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert verified.returncode == 0 and not verified.stderr.strip(), verified.stderr
