"""`record = "folder"`: a call's wire as a fixture, masked, that can be replayed."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gateway.node import wire_records
from gateway.node.wire_records import WireRecords
from gateway.recording import Recording
from gateway.sessions.recording import remove_recordings
from gateway.simulator.replay import script_of
from tests.kit.node import MEDIA, start
from tests.kit.waiting import until


@pytest.fixture
def service(service, tmp_path):
    return replace(service, record=str(tmp_path / "wire"))


@pytest.fixture
def recording(gateway):
    node = gateway.node
    node.wire = WireRecords(enabled=True, public_url=node.public_url, public_ws=node.public_ws)


async def call(gateway, **fields: str) -> None:
    """A caller who says a word and presses a key, and a bot that answers."""
    carrier = await gateway.open(gateway.path_in(await gateway.voice(**fields)))
    carrier.send(start())
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    carrier.send(MEDIA)
    carrier.send({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"track": "inbound_track", "digit": "7"}})
    await bot.until("dtmf")
    bot.socket.send(b"\0\x10" * 320)
    await carrier.until("media")
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await carrier.until_closed()
    await until(lambda: not gateway.node.tasks)


def written(folder) -> Recording:
    [path] = folder.glob("*.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return Recording.read(path)


@pytest.mark.usefixtures("recording")
async def test_a_call_is_recorded_as_it_was_on_the_wire(gateway, tmp_path):
    await call(gateway)
    found = written(tmp_path / "wire")
    kinds = [(entry.kind, entry.party) for entry in found.entries]
    assert kinds[:4] == [("request", "carrier"), ("response", "gateway"), ("open", "carrier"), ("message", "carrier")]
    assert kinds[-1] == ("close", "gateway")
    assert any(MEDIA["media"]["payload"] in entry.text for entry in found.entries)
    assert (found.carrier, found.encoding, found.rate) == ("twilio", "PCMU", 8000)
    request, scenes = script_of(found)
    assert request.method == "POST" and len(scenes) == 1


@pytest.mark.usefixtures("recording")
async def test_numbers_accounts_keys_tokens_and_digits_are_masked(gateway, tmp_path):
    numbers = {"From": "+442079460123", "To": "+15550100000", "ForwardedFrom": "+442079460999"}
    await call(gateway, **numbers)
    found = written(tmp_path / "wire")
    text = "".join(path.read_text() for path in (tmp_path / "wire").glob("*.jsonl"))
    assert "44207946" not in text and '\\"digit\\": \\"7\\"' not in text and '\\"digit\\": \\"0\\"' in text
    assert found.call["from"] == "+15550100023" and found.call["account_id"] == "AC0"
    assert dict(found.entries[0].form)["ForwardedFrom"] == "+15550100099"
    assert "/ws/twilio/xxxx" in found.entries[1].text


async def test_without_the_setting_nothing_is_wrapped(gateway, tmp_path):
    wire = WireRecords(enabled=False, public_url="", public_ws="")
    socket = object()
    assert wire.wrap(socket) is socket


@pytest.mark.usefixtures("recording")
async def test_a_long_call_is_cut_and_says_so(gateway, tmp_path, monkeypatch):
    monkeypatch.setattr(wire_records, "MAX_LINES", 4)
    await call(gateway)
    found = written(tmp_path / "wire")
    assert found.truncated and len(found.entries) == 4


@pytest.mark.usefixtures("recording")
async def test_only_so_many_calls_are_kept_at_once(gateway, tmp_path, monkeypatch):
    monkeypatch.setattr(wire_records, "MAX_CALLS", 1)
    await gateway.voice("CA9")  # its stream does not come
    await call(gateway)
    assert len(gateway.node.wire._records) == 0
    written(tmp_path / "wire")


@pytest.mark.usefixtures("recording")
async def test_a_webhook_whose_stream_never_came_makes_room_beside_a_long_call(gateway, monkeypatch):
    monkeypatch.setattr(wire_records, "MAX_CALLS", 2)
    await gateway.call("CA1")
    await gateway.started()
    [running] = gateway.sessions
    await gateway.voice("CA8")
    await gateway.voice("CA9")
    kept = gateway.node.wire._records
    assert [record.recording.call["call_id"] for record in kept.values()] == ["CA1", "CA9"]
    assert running.id in kept


def files(folder) -> list[str]:
    return sorted(path.name.partition(".")[2] for path in folder.iterdir())


@pytest.mark.usefixtures("recording")
async def test_a_forgotten_caller_is_in_no_file_of_the_wire(gateway, tmp_path):
    await call(gateway)
    session = next((tmp_path / "wire").glob("*.jsonl")).stem
    other = tmp_path / "wire" / f"{session}0.wav"
    other.write_bytes(b"of another call")
    assert files(tmp_path / "wire") == ["gateway.wav", "jsonl", "wav", "wav"]
    await asyncio.to_thread(remove_recordings, gateway.node, {session: "", "unknown": ""})
    assert list((tmp_path / "wire").iterdir()) == [other]


@pytest.mark.usefixtures("recording")
async def test_a_call_that_runs_while_its_caller_is_forgotten_leaves_none(gateway, tmp_path):
    carrier = await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    carrier.send(MEDIA)
    await until(lambda: gateway.node.wire._records)
    remove_recordings(gateway.node, {session.id: ""})
    kept = len(gateway.node.wire._records[session.id].recording.entries)
    carrier.send(MEDIA)
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await carrier.until_closed()
    await until(lambda: not gateway.node.tasks)
    assert kept and not (tmp_path / "wire").exists() and not gateway.node.wire._records


@pytest.mark.usefixtures("recording")
async def test_what_cannot_be_written_or_removed_is_told_without_its_path(gateway, tmp_path):
    (tmp_path / "wire").write_text("no folder")
    with capture_logs() as said:
        await call(gateway)
        wire_records.remove_wires([str(tmp_path / "wire")], ["s1"])
    told = [line for line in said if "wire" in line["event"]]
    assert [line["error"] for line in told] == ["File exists", *["Not a directory"] * 3]
    assert str(tmp_path) not in str(told)


@pytest.mark.usefixtures("recording")
async def test_one_that_is_forgotten_while_it_is_written_leaves_none(gateway, tmp_path, monkeypatch):
    write = wire_records._write

    def forgotten_meanwhile(record) -> None:
        remove_recordings(gateway.node, {record.path.stem: ""})
        write(record)

    monkeypatch.setattr(wire_records, "_write", forgotten_meanwhile)
    await call(gateway)
    assert files(tmp_path / "wire") == []
