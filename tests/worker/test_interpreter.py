"""A bot in an environment of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from gateway.errors import BotError
from gateway.worker import interpreter
from gateway.worker.fleet import Fleet
from gateway.worker.interpreter import check_python
from gateway.worker.options import HostOptions
from tests.kit.waiting import until


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_an_interpreter_with_the_gateway_is_taken() -> None:
    await check_python(sys.executable)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", "the gateway cannot be imported there: exit status 3; install it beside the bot: "),
        ("echo made by another; exit 0", "the gateway there is of another version than this one: "),
        ("echo 'Unknown option: -P' >&2; exit 2", "is older than Python 3.11, which the gateway needs"),
        ("echo 'unknown option -P' >&2; exit 2", "is older than Python 3.11, which the gateway needs"),
    ],
)
async def test_what_is_wrong_with_an_interpreter_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    python = script(tmp_path / "python", text)
    with pytest.raises(BotError) as e:
        await check_python(python)
    assert str(e.value).startswith(f"{python}: {said}") and "\n" not in str(e.value)


async def test_an_interpreter_without_the_gateway_is_told_how_to_get_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    with pytest.raises(BotError) as e:
        await check_python(python)
    assert str(e.value) == (
        f"{python}: the gateway cannot be imported there: ModuleNotFoundError: No module named 'gateway'; install it "
        f"beside the bot: {python} -m pip install carrier-stream-gateway"
    )


async def test_no_interpreter_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BotError, match=r"python: cannot be run: No such file or directory; name the interpreter"):
        await check_python(str(tmp_path / "python"))


async def test_one_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "CHECK_TIMEOUT", 0.05)
    with pytest.raises(BotError, match=r"did not import the gateway within 0\.05 s"):
        await check_python(script(tmp_path / "python", "exec sleep 60"))


@pytest.mark.parametrize("forks", [True, False], ids=["forked", "each on its own"])
async def test_workers_run_in_the_bots_own_environment(tmp_path: Path, forks: bool) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    site = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
    )
    (Path(site.stdout.strip()) / "ours.pth").write_text(
        "\n".join(path for path in sys.path if os.path.isdir(path))  # as if the gateway were installed there
    )
    (Path(site.stdout.strip()) / "only_here.py").write_text("name = 'x'")
    kept = "" if forks else "import socket\nkept = socket.socketpair()\n"
    bot = tmp_path / "mybot.py"
    ran = tmp_path / "ran"
    prewarm = f"def prewarm(): open({str(ran)!r}, 'a').write(sys.executable)\n"
    bot.write_text(f"import only_here, sys\n{kept}async def bot(call): ...\n{prewarm}")
    options = HostOptions(target=str(bot), service_host="a.b", warm=1, python=python)
    fleet = Fleet(options, str(tmp_path), "key", lambda: None)
    try:
        await fleet.start()
        await until(lambda: [w for w in fleet.workers() if w.state == "ready"])
    finally:
        await fleet.stop()
        await asyncio.sleep(0)
    assert ran.read_text() == python
