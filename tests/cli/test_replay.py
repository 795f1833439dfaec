"""`gateway replay`: what cannot be replayed is one line that names the file once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.recording import Recording


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
