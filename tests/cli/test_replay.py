"""`gateway replay`: what cannot be replayed is one line that names the file once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from gateway.__main__ import main
from gateway.audio.files import write_wav
from gateway.recording import Recording

FIXTURES = Path(__file__).parents[2] / "fixtures"


def replayed(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["replay", str(path), "--url", "http://127.0.0.1:9"]) == 2
    return capsys.readouterr().err


def test_a_recording_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nowhere.jsonl"
    assert replayed(path, capsys) == f"gateway replay: {path}: No such file or directory\n"


def test_a_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "call.jsonl"
    path.write_text("[]\n")
    assert replayed(path, capsys) == f"gateway replay: {path}:1: not a recording of version 1\n"


def test_a_recording_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "call.jsonl"
    Recording("twilio").write(path)
    said = f"gateway replay: {path}: nothing to replay: no webhook, or no stream, was recorded\n"
    assert replayed(path, capsys) == said


@pytest.mark.parametrize("carrier", ["twilio", "telnyx", "plivo", "exotel"])
@pytest.mark.parametrize("wav", [True, False])
def test_the_callers_voice_is_missing(
    carrier: str, wav: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found before the gateway is asked for: with its voice, it is the gateway that is not there."""
    for file in FIXTURES.glob(f"{carrier}.*"):
        if wav or file.suffix != ".wav":
            shutil.copy(file, tmp_path)
    path = tmp_path / f"{carrier}.jsonl"
    said = replayed(path, capsys)
    assert said.count("\n") == 1
    if wav:
        assert "--url: nothing answers" in said
    else:
        assert said.startswith(f"gateway replay: {path}:")
        assert said.endswith(f": its audio is in {path.with_suffix('.wav')}, which is not there\n")


def test_the_voice_of_another_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(FIXTURES / "twilio.jsonl", tmp_path)
    write_wav(tmp_path / "twilio.wav", np.zeros(80_000, np.int16), 16000)
    said = replayed(tmp_path / "twilio.jsonl", capsys)
    assert said == f"gateway replay: {tmp_path / 'twilio.wav'}: not PCMU at 8000 Hz, mono, as the recording says\n"
