"""Pipecat and the gateway in one environment: `make pipecat-test` makes it from the registry, lowest and newest."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import requires, version

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.pipecat


def claimed() -> Requirement:
    """What pyproject.toml says under `pipecat`."""
    found = [Requirement(line) for line in requires("carrier-stream-gateway") or () if line.startswith("pipecat-ai")]
    [requirement] = found
    return requirement


def test_this_pipecat_is_one_of_those_claimed() -> None:
    assert claimed().specifier.contains(version("pipecat-ai"))


def test_nothing_that_either_needs_is_missing_or_too_new() -> None:
    run = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("order", ["gateway.worker, pipecat.runner.utils", "pipecat.runner.utils, gateway.worker"])
def test_both_are_imported_by_one_process(order: str) -> None:
    modules = (
        "pipecat.transports.websocket.fastapi, pipecat.audio.vad.silero, gateway.serve.app, gateway.audio.resample"
    )
    run = subprocess.run([sys.executable, "-c", f"import {order}, {modules}"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
