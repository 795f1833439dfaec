"""docs/pipecat.md: its commands lead to a call that is heard, and what it says of names is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pipecat.runner.utils
import pytest

from gateway.audio.files import read_wav
from tests.acceptance.program import Gateway, free_port, run
from tests.pipecat.rig import READY, place_bot
from tests.test_docs import PIPECATS, fenced, text

pytestmark = pytest.mark.pipecat

PAGE = text("docs/pipecat.md")


def test_the_page_leads_to_a_call_that_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bot is one that Pipecat's runner would serve; the ports are others, and the carrier's API is not Twilio's."""
    place_bot("with_transport", tmp_path, f"http://127.0.0.1:{free_port()}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    install, export, serve, call = (shlex.split(line, comments=True) for line in fenced(PAGE, "sh")[0].splitlines())
    assert (install[0], export[0], serve[0], call[0]) == ("pip", "export", "gateway", "gateway")
    given = dict(word.split("=") for word in export[1:])
    with Gateway(*serve[2:], "--port", "0", env=given, patience=READY) as gateway:
        call[call.index("--url") + 1] = gateway.url
        done = run(*call[1:], env=given, timeout=40)
    assert done.returncode == 0, done.stdout + done.stderr
    heard, _ = read_wav(tmp_path / "heard.wav")
    assert abs(heard.astype(int)).max() > 1000, f"the caller heard nothing: {done.stdout}"


def test_the_import_line_of_the_fast_path_names_what_is_there() -> None:
    old, new = re.findall(r"^[-+] (from .*)$", fenced(PAGE, "diff")[0], re.M)
    for line in (old, new):
        exec(line, {})
    assert old.endswith("create_transport") and new.startswith("from gateway.worker.pipecat ")


def test_names_of_pipecats_own_exist() -> None:
    assert all(hasattr(pipecat.runner.utils, name) for name in PIPECATS)


def test_the_page_claims_what_pyproject_does() -> None:
    (lowest,) = re.findall(r'^pipecat = \["pipecat-ai\[[a-z,]+\]>=([0-9.]+),<2"\]', text("pyproject.toml"), re.M)
    assert f"from Pipecat {lowest} on" in PAGE
