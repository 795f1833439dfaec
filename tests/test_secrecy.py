"""A process that hides its memory, and another of the same user that wants to read it."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

from gateway import secrecy
from gateway.cli import serve, worker
from gateway.errors import UserError
from gateway.worker import host, logs

NOBODY = 65534

HOLDER = f"""
import ctypes, os, sys
from gateway.secrecy import hide_memory
if os.getuid() == 0:  # root may read everything: be another user, and as open as a process that was executed
    os.setuid({NOBODY})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
if "hides" in sys.argv:
    hide_memory()
print(len(os.listdir("/proc/self/fd")) > 2, flush=True)
sys.stdin.read()
"""


def read_by_another(what: str, *arguments: str, **environment: str) -> bytes:
    """What another process of its user reads of a process that holds a secret."""
    command = [sys.executable, "-c", HOLDER, *arguments]
    holder = subprocess.Popen(
        command, env=os.environ | {"SECRET": "s3cret"} | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None and holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == b"True\n"  # what it may do itself
        cat = ["ls", "-l"] if what == "fd" else ["cat"]
        reader = subprocess.run(
            [*cat, f"/proc/{holder.pid}/{what}"], capture_output=True, user=NOBODY if os.getuid() == 0 else None
        )
        holder.stdin.close()
    return reader.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2)")
@pytest.mark.parametrize(("what", "shows"), [("environ", b"s3cret"), ("fd", b"pipe:"), ("maps", b"python")])
def test_a_process_of_the_same_user_reads_nothing(what: str, shows: bytes) -> None:
    assert shows in read_by_another(what)
    assert read_by_another(what, "hides") == b""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2)")
def test_who_wants_to_profile_it_may() -> None:
    assert b"s3cret" in read_by_another("environ", "hides", **{secrecy.INSPECTABLE_VARIABLE: "1"})


@pytest.mark.parametrize(
    "begin",
    [
        lambda: serve.run(_arguments(serve, "--host", "0.0.0.0", "--dev")),
        lambda: worker.run(_arguments(worker, "no_such.py", "--service-host", "a.b")),
        host.main,
    ],
    ids=["gateway serve", "gateway worker", "a local host"],
)
def test_those_that_hold_keys_hide_them_first(begin: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: list[int] = []
    monkeypatch.setattr(secrecy.ctypes, "CDLL", lambda _: SimpleNamespace(prctl=lambda *a: hidden.append(a)))
    monkeypatch.delenv(secrecy.INSPECTABLE_VARIABLE, raising=False)
    monkeypatch.setattr(host, "ignore_signals", lambda: None)
    monkeypatch.setattr(logs, "log_to_stderr", lambda: None)
    with contextlib.suppress(UserError):
        begin()
    assert hidden == [(secrecy.PR_SET_DUMPABLE, 0, 0, 0, 0)]


def _arguments(command: ModuleType, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)
