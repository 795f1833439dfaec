"""What is to be forgotten is removed on every node, also of calls that run, and by a node that was off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gateway.call_recording.folder import remove_sessions
from gateway.call_recording.writer import RecordingThread
from gateway.pool.facts import FactEvent, Facts
from gateway.records.row import MASK
from tests.kit.waiting import until
from tests.records.calls import CALL, INBOUND, STREAM
from tests.records.upkept import Node


class Disk:
    """A node's recordings, on a disk of its own."""

    def __init__(self, engine, name: str, folder: Path, **settings) -> None:
        self.recordings, self.folder = RecordingThread(), folder
        folder.mkdir()
        self.node = Node(engine, name, 101.0, remove=self.remove, **settings)

    def remove(self, removals) -> None:
        named = {each.session_id: each.recording for each in removals}
        self.recordings.forget(named.keys())
        remove_sessions([str(self.folder)], named)

    def file(self, name: str) -> Path:
        path = self.folder / name
        path.write_bytes(b"fLaC")
        return path

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


async def test_a_forgotten_number_has_no_recording_on_any_node(engine, tmp_path):
    one, two = (Disk(engine, name, tmp_path / name) for name in ("n1", "n2"))
    path = one.file("s1.flac")
    two.file("s1.2.flac"), two.file("s2.flac")
    await one.node.write(*CALL, FactEvent(recording=str(path)))
    await two.node.write(replace(INBOUND, from_number="+15550100009"), session="s2")
    await one.node.store.forget("+15550100001")
    for disk in (one, two):
        await disk.node.upkeep.remove()
    assert (one.files(), two.files()) == ([], ["s2.flac"])
    off = Disk(engine, "n3", tmp_path / "n3")
    off.file("s1.3.flac.part")
    await off.node.upkeep.remove()
    assert off.files() == []


async def test_a_call_that_runs_while_its_number_is_forgotten_leaves_nothing(engine, tmp_path):
    disk = Disk(engine, "n1", tmp_path / "n1")
    await disk.node.write(INBOUND, STREAM)
    told = []
    recorder = disk.recordings.record("s1", str(disk.folder), "wav", 8000, 0.0, told.append)
    recorder.said(bytes(320), 0.0)
    await until(disk.files)
    await disk.node.store.forget("+15550100001")
    await disk.node.upkeep.remove()
    recorder.said(bytes(320), 1.0)
    recorder.finish(2.0)
    await until(lambda: told)
    disk.recordings.close()
    await disk.node.write(*CALL, FactEvent(recording="/rec/s1.wav"))
    assert disk.files() == [] and told == [None]
    record = await disk.node.store.get("s1")
    assert (record.from_number, record.recording, record.end_reason) == (MASK, "", "caller_hangup")


async def test_what_could_not_be_removed_is_tried_again(engine, tmp_path):
    disk = Disk(engine, "n1", tmp_path / "n1")
    await disk.node.write(*CALL)
    await disk.node.store.forget("+15550100001")
    await disk.node.upkeep.remove()
    disk.file("s1.flac")
    await disk.node.upkeep.remove()
    assert disk.files() == ["s1.flac"], "each is removed once"
    await disk.node.upkeep.purge()
    await disk.node.upkeep.remove()
    assert disk.files() == []


async def test_old_records_and_recordings_are_removed_on_every_node(engine, tmp_path):
    one, two = (Disk(engine, name, tmp_path / name, retention=86400.0) for name in ("n1", "n2"))
    path = one.file("s1.flac")
    two.file("s1.2.flac")
    await one.node.write(*CALL, FactEvent(recording=str(path)))
    for now, left in ((86400.0 + 99.0, ["s1.flac"]), (86400.0 + 101.0, [])):
        one.node.now = two.node.now = now
        await one.node.upkeep.purge()
        await one.node.upkeep.remove()
        assert one.files() == left
    await two.node.upkeep.remove()
    assert two.files() == [] and await one.node.store.get("s1") is None


async def test_a_recording_that_was_found_is_noted_in_its_record_only(engine):
    """A registry in memory has forgotten the call, which was closed."""
    killed, started = Node(engine, "n1", now=101.0), Node(engine, "n2")
    await killed.write(INBOUND, STREAM)
    started.writer.note(Facts(session="s1", recording="/rec/s1.wav"))
    started.writer.note(Facts(session="s9", recording="/rec/s9.wav"))
    await started.written()
    record = await started.store.get("s1")
    assert (record.recording, record.from_number, record.status) == ("/rec/s1.wav", "+15550100001", "answered")
    assert await started.store.get("s9") is None, "a call that left no record gets none of nothing but a file"
