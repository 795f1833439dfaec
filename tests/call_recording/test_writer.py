"""The thread of a process that writes all its recordings."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.call_recording import writer as module
from gateway.call_recording.folder import recover, remove_sessions
from gateway.call_recording.recorder import CallRecorder
from gateway.call_recording.writer import RecordingThread
from tests.kit.waiting import PATIENCE, wait_for

RATE = 8000
FRAME = bytes(320)


class Process:
    """A writer, its recordings, and the paths that it told."""

    def __init__(self, folder: Path) -> None:
        self.writer = RecordingThread()
        self.folder = folder
        self.told: list[Path | None] = []

    def record(self, session: str) -> CallRecorder:
        now = time.monotonic()
        recorder = self.writer.record(session, str(self.folder), "wav", RATE, now, self.told.append)
        recorder.said(FRAME, now)
        return recorder

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def process(tmp_path):
    process = Process(tmp_path)
    yield process
    process.writer.close()


def test_a_forgotten_session_is_recorded_no_more(process) -> None:
    forgotten, other = process.record("s1"), process.record("s2")
    wait_for(lambda: process.files() == ["s1.wav.part", "s2.wav.part"])
    process.writer.forget({"s1"})
    wait_for(lambda: process.files() == ["s2.wav.part"])
    later = process.record("s1")  # the call goes on with another stream
    for recorder in (forgotten, other, later):
        recorder.finish()
    wait_for(lambda: len(process.told) == 3)
    assert process.files() == ["s2.wav"]
    assert process.writer.results == {"made": 1, "cut_short": 0, "empty": 0, "failed": 0, "discarded": 2}


def test_one_that_is_forgotten_while_its_file_is_made_has_none(process, monkeypatch) -> None:
    monkeypatch.setattr(module, "CONVERT_SHARE", -1.0)  # the thread has no time to make files
    process.record("s1").finish()
    wait_for(lambda: process.writer.waiting == 1)
    process.writer.forget({"s1"})
    assert remove_sessions([str(process.folder)], {"s1": ""}) == 1
    monkeypatch.undo()
    wait_for(lambda: process.told == [None])
    assert process.files() == []


def test_what_is_not_made_at_the_end_is_told_and_made_by_the_next_start(process, monkeypatch) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.2)
    monkeypatch.setattr(module.RecordingThread, "_complete_some", lambda self, until: None)
    process.record("s1").finish()
    wait_for(lambda: process.writer.waiting == 1)
    with capture_logs() as said:
        process.writer.close()
    assert [(line["event"], line["left"]) for line in said] == [
        ("not all recordings were made: the next start does it", 1)
    ]
    assert process.files() == ["s1.wav.part"]
    monkeypatch.undo()
    process.writer.close()
    assert process.told == [process.folder / "s1.wav"]
    assert list(recover(str(process.folder))) == []


def test_one_thread_writes_all_recordings(tmp_path) -> None:
    writer, done = RecordingThread(), threading.Semaphore(0)
    assert not [thread for thread in threading.enumerate() if thread.name == "recordings"]
    now = time.monotonic()
    paths: list = []

    def note(path) -> None:
        paths.append(path)
        done.release()

    recorders = [writer.record(f"s{n}", str(tmp_path), "wav", RATE, now, note) for n in range(5)]
    assert len([thread for thread in threading.enumerate() if thread.name == "recordings"]) == 1
    for recorder in recorders[:3]:
        recorder.said(FRAME, now)
        recorder.finish(now + 0.02)
    assert all(done.acquire(timeout=PATIENCE) for _ in range(3))
    for recorder in recorders[3:]:
        recorder.said(FRAME, now)
    writer.close()  # a process that ends
    assert sorted(path.name for path in paths) == [f"s{n}.wav" for n in range(5)]
