"""The README's section on calling out, followed to the letter but for the ports, which others may have."""

from __future__ import annotations

import re
import shlex
import stat
from pathlib import Path

import pytest

from tests.kit.bots import notes_of, place_bot
from tests.kit.waiting import wait_for

from .program import Gateway, Program, free_port, run

ANY_OPS_PORT = {"GATEWAY_SERVER__OPS_BIND": "127.0.0.1:0"}
"""The default one may be a gateway's of another test."""
README = (Path(__file__).parents[2] / "README.md").read_text()


def commands() -> list[list[str]]:
    """The three commands, without `gateway`."""
    section = README.partition("## Calling out\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.S)
    return [shlex.split(line)[1:] for line in block.splitlines()]


def test_the_readme_leads_to_a_call_that_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bot,) = re.findall(r"```python\n(.*?)```", README, re.S)
    (tmp_path / "bot.py").write_text(bot)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    simulate, serve, dial = commands()
    dial[1] = "+15550000104"  # hangs up at once; the README's stays for 20 s
    with Program(*simulate, "--port", str(free_port())):
        settings = tmp_path / "dialout.toml"
        wait_for(settings.exists)
        assert stat.S_IMODE(settings.stat().st_mode) == 0o600
        with Gateway(*serve[1:], "--port", "0", env=ANY_OPS_PORT) as gateway:
            done = run(*dial, "--url", gateway.url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "answered" in done.stdout and "ended" in done.stdout
        heard = wait_for(lambda: list((tmp_path / "heard").glob("*.wav")))
    assert [file.name for file in heard] == ["001-twilio-15550000104.wav"]


@pytest.mark.slow
def test_a_bot_is_told_first_that_its_call_rang_and_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = place_bot("echo", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    simulate, serve, dial = commands()
    dial[1] = "+15550000104"
    with Program(*simulate, "--port", str(free_port())):
        wait_for((tmp_path / "dialout.toml").exists)
        arguments = ["echo.py" if word == "bot.py" else word for word in serve[1:]]
        with Gateway(*arguments, "--port", "0", env=ANY_OPS_PORT) as gateway:
            run(*dial, "--url", gateway.url)
            wait_for(lambda: [note for note in notes_of(bot) if note["what"] == "end"])
    told = [(note["what"], note.get("status")) for note in notes_of(bot)]
    assert told[:3] == [("start", None), ("status", "ringing"), ("status", "answered")]
