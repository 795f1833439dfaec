"""`gateway forget`: a number is masked, and its recordings are gone."""

from __future__ import annotations

import asyncio
import json

from gateway.__main__ import main
from gateway.pool.facts import FactEvent
from tests.cli.test_calls import url, write  # noqa: F401 - a fixture
from tests.records.calls import CALL, facts_of


def test_a_number_is_masked_and_its_recording_removed(url, tmp_path, capsys):  # noqa: F811
    recording = tmp_path / "s1.flac"
    recording.write_bytes(b"fLaC")
    asyncio.run(write(url, facts_of(*CALL, FactEvent(recording=str(recording)))))
    assert main(["forget", "+15550100001"]) == 0
    assert capsys.readouterr().out == "1 calls masked, 1 recordings removed\n"
    assert not recording.exists()
    assert main(["calls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["from"] == "***"
    assert main(["forget", "+15550100001"]) == 0
    assert capsys.readouterr().out == "0 calls masked, 0 recordings removed\n"


def test_the_wire_of_its_calls_is_removed_with_what_was_said(url, tmp_path, capsys, monkeypatch):  # noqa: F811
    wire, config = tmp_path / "wire", tmp_path / "gateway.toml"
    wire.mkdir()
    for name in ("s1.jsonl", "s1.wav", "s1.gateway.wav", "s10.jsonl", "s10.wav"):
        (wire / name).write_bytes(b"voice")
    config.write_text(f"""
        records = "{url}"
        [[services]]
        host = "support.acme"
        bot = "bot.py"
        record = "{wire}"
    """)
    asyncio.run(write(url, facts_of(*CALL)))
    assert main(["forget", "+15550100001", "--config", str(config)]) == 0, capsys.readouterr().err
    assert sorted(path.name for path in wire.iterdir()) == ["s10.jsonl", "s10.wav"]


def test_without_a_database_there_is_nothing_to_forget(url, capsys):  # noqa: F811
    assert main(["forget", "+15550100001"]) == 2
    assert capsys.readouterr().err.startswith("gateway forget: records: there is no ")
