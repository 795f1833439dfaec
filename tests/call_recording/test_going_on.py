"""A call whose stream ends and comes back: one file, with silence for the time between."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from gateway.call_recording import folder
from gateway.call_recording.convert import MAX_SILENCE
from gateway.call_recording.folder import (
    OpenRecording,
    beside,
    create,
    finished_files,
    recover,
    remove,
    remove_sessions,
    session_of,
)
from gateway.call_recording.recorder import CallRecorder
from gateway.call_recording.spool import pack
from gateway.call_recording.writer import RecordingThread
from tests.kit.waiting import wait_for

RATE = 8000
NOON = 1_764_500_000.0


def spool(value: int, seconds: float, at: float | None, rate: int = RATE) -> bytes:
    """The caller says one value for so long. at: the wall clock's time. The loop's clock says nothing of it."""
    begin = str(rate).encode() + (b"" if at is None else f" {at:.6f}".encode())
    pcm = np.full(round(rate * seconds), value, "<i2").tobytes()
    end = 7.0 + seconds
    return pack([("begin", 7.0, 7.0, begin), ("caller", 7.0, 7.0, pcm), ("end", end, end, b"")])


def begin(where: Path, value: int, seconds: float, at: float | None, *, ending="flac", rate=RATE) -> OpenRecording:
    recording = create(str(where), "s1", ending)
    recording.write(spool(value, seconds, at, rate))
    return recording


def finish(recording: OpenRecording) -> bool:
    making = recording.complete()
    while True:
        try:
            next(making)
        except StopIteration as stop:
            return bool(stop.value)


def names(where: Path) -> list[str]:
    return sorted(path.name for path in where.iterdir())


def runs(path: Path) -> list[tuple[int, float]]:
    """What the caller said, and for how many seconds."""
    said = soundfile.read(path, dtype="int16")[0][:, 0]
    edges = [0, *(np.flatnonzero(np.diff(said)) + 1), len(said)]
    return [(int(said[a]), (b - a) / RATE) for a, b in pairwise(edges)]


@pytest.mark.parametrize("ending", ["flac", "wav"])
def test_what_comes_later_is_appended_with_silence_between(ending, tmp_path) -> None:
    first = begin(tmp_path, 100, 1.5, NOON, ending=ending)
    assert finish(first)
    for number, at in enumerate((NOON + 4.0, NOON + 6.25), 2):
        later = begin(tmp_path, 100 * number, 1.0, at, ending=ending)
        assert later.path != first.path
        assert finish(later) and later.path == first.path
    assert names(tmp_path) == [f"s1.{ending}"] and first.path.stat().st_mode & 0o777 == 0o600
    assert runs(first.path) == [(100, 1.5), (0, 2.5), (200, 1.0), (0, 1.25), (300, 1.0)]


def test_silence_has_a_bound_and_a_clock_that_was_set_back_none(tmp_path) -> None:
    finish(begin(tmp_path, 100, 1.0, NOON))
    finish(begin(tmp_path, 200, 1.0, NOON + 86400.0))
    finish(begin(tmp_path, 300, 1.0, NOON))
    assert runs(tmp_path / "s1.flac") == [(100, 1.0), (0, MAX_SILENCE), (200, 1.0), (300, 1.0)]


def test_what_an_older_gateway_began_has_no_silence_before_it(tmp_path) -> None:
    finish(begin(tmp_path, 100, 1.0, None))
    finish(begin(tmp_path, 200, 1.0, None))
    assert runs(tmp_path / "s1.flac") == [(100, 1.0), (200, 1.0)]


def test_what_a_dead_process_left_is_put_together_in_order(tmp_path) -> None:
    for number in range(1, 4):
        os.close(begin(tmp_path, number, 1.0, NOON + number).descriptor)
    assert list(recover(str(tmp_path))) == [tmp_path / "s1.flac"] * 3
    assert names(tmp_path) == ["s1.flac"]
    assert runs(tmp_path / "s1.flac") == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_what_a_dead_process_left_is_made_before_what_follows_it(tmp_path) -> None:
    os.close(begin(tmp_path, 100, 1.0, NOON).descriptor)
    later = begin(tmp_path, 200, 1.0, NOON + 1.0)
    assert finish(later) and later.path == tmp_path / "s1.flac"
    assert names(tmp_path) == ["s1.flac"] and runs(later.path) == [(100, 1.0), (200, 1.0)]


def test_a_process_killed_behind_the_rename_appends_nothing_twice(tmp_path) -> None:
    first = begin(tmp_path, 100, 1.0, NOON)
    finish(first)
    later = begin(tmp_path, 200, 1.0, NOON + 1.0)
    part, data = later.part, later.part.read_bytes()
    finish(later)
    part.write_bytes(data)
    assert list(recover(str(tmp_path))) == [first.path]
    assert names(tmp_path) == ["s1.flac"] and runs(first.path) == [(100, 1.0), (200, 1.0)]


def test_a_process_killed_before_the_rename_leaves_the_first_whole(tmp_path) -> None:
    first = begin(tmp_path, 100, 1.0, NOON)
    finish(first)
    later = begin(tmp_path, 200, 1.0, NOON + 9.0)
    making = later.complete()
    next(making), next(making), next(making)
    assert names(tmp_path) == ["s1.2.flac.part", "s1.flac", "s1.flac.new"] and runs(first.path) == [(100, 1.0)]
    made = beside(first.path, ".new").read_bytes()
    making.close()
    beside(first.path, ".new").write_bytes(made)  # which a killed process does not remove
    assert list(recover(str(tmp_path))) == [first.path]
    assert names(tmp_path) == ["s1.flac"] and runs(first.path) == [(100, 1.0), (0, 8.0), (200, 1.0)]


def test_what_another_process_still_writes_is_gone_on_with_elsewhere(tmp_path) -> None:
    first, later = begin(tmp_path, 100, 1.0, NOON), begin(tmp_path, 200, 1.0, NOON + 1.0)
    assert finish(later) and finish(first)
    assert [path.name for path in finished_files(first.path)] == ["s1.flac", "s1.2.flac"]
    assert [session_of(path) for path in finished_files(first.path)] == ["s1", "s1"]


def test_what_follows_a_part_that_is_still_written_is_not_put_before_it(tmp_path) -> None:
    finish(begin(tmp_path, 1, 1.0, NOON + 1))
    second, third = begin(tmp_path, 2, 1.0, NOON + 2), begin(tmp_path, 3, 1.0, NOON + 3)
    assert finish(third) and finish(second)
    assert [runs(path) for path in finished_files(second.path)] == [[(1, 1.0), (2, 1.0)], [(3, 1.0)]]


@pytest.mark.parametrize("damage", [b"", b"fLaC"])
def test_what_cannot_be_gone_on_with_is_left_as_it_is(damage, tmp_path) -> None:
    """Of another rate, or damaged."""
    first = begin(tmp_path, 100, 1.0, NOON)
    finish(first)
    if damage:
        first.path.write_bytes(damage)
    kept = first.path.read_bytes()
    later = begin(tmp_path, 200, 1.0, NOON + 1.0, rate=RATE if damage else 16000)
    with capture_logs() as said:
        assert finish(later) and later.path.name == "s1.2.flac"
    assert [line["event"] for line in said] == ["a recording goes on in a further file"]
    assert str(tmp_path) not in str(said)
    assert names(tmp_path) == ["s1.2.flac", "s1.flac"] and first.path.read_bytes() == kept


def test_a_part_without_audio_leaves_the_file_as_it_is(tmp_path) -> None:
    finish(begin(tmp_path, 100, 1.0, NOON))
    later = create(str(tmp_path), "s1", "flac")
    later.write(pack([("begin", 7.0, 7.0, b"8000 %d" % (NOON + 60)), ("end", 9.0, 9.0, b"")]))
    assert finish(later) and later.path == tmp_path / "s1.flac"
    assert names(tmp_path) == ["s1.flac"] and runs(later.path) == [(100, 1.0)]


@pytest.mark.parametrize("how", [lambda path: remove(path), lambda path: remove_sessions([], {"s1": str(path)})])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_one_that_is_forgotten_while_it_is_appended_is_gone(tmp_path, steps, how) -> None:
    first = begin(tmp_path, 100, 2.0, NOON)
    finish(first)
    later = begin(tmp_path, 200, 2.0, NOON + 9.0)
    making = later.complete()
    for _ in range(steps):
        next(making)
    how(first.path)
    list(making)
    assert names(tmp_path) == []


@pytest.mark.parametrize("how", [lambda path: remove(path), lambda path: remove_sessions([], {"s1": str(path)})])
def test_one_that_is_appended_while_it_is_removed_is_gone(tmp_path, monkeypatch, how) -> None:
    """The other process is quickest just when the first of the files is removed."""
    finish(begin(tmp_path, 100, 2.0, NOON))
    later = begin(tmp_path, 200, 2.0, NOON + 9.0)
    making, unlink = later.complete(), folder._unlink
    for _ in range(4):  # it has read the first
        next(making)

    def quick(path: Path) -> int:
        count = unlink(path)
        if count:
            list(making)
        return count

    monkeypatch.setattr(folder, "_unlink", quick)
    how(tmp_path / "s1.flac")
    assert names(tmp_path) == []


def test_a_recording_that_ends_in_many_parts_keeps_their_order(tmp_path) -> None:
    """The numbers of those that are appended already are free, and are not taken before what still runs."""
    finish(begin(tmp_path, 1, 1.0, NOON + 1))
    second, third = begin(tmp_path, 2, 1.0, NOON + 2), begin(tmp_path, 3, 1.0, NOON + 3)
    finish(second)
    fourth = begin(tmp_path, 4, 1.0, NOON + 4)
    finish(third)
    finish(fourth)
    assert names(tmp_path) == ["s1.flac"]
    assert [value for value, _ in runs(tmp_path / "s1.flac")] == [1, 2, 3, 4]
    assert beside(fourth.path, ".part") not in tmp_path.iterdir()


def test_a_first_part_that_waits_to_be_made_is_made_first(tmp_path, monkeypatch) -> None:
    """By the thread that makes all files, which has had no time for it until the second part was over."""
    monkeypatch.setattr("gateway.call_recording.writer.CONVERT_SHARE", -1.0)
    writer, told = RecordingThread(), []
    pieces: list[CallRecorder] = []
    for value in (100, 200):
        now = time.monotonic()
        piece = writer.record("s1", str(tmp_path), "flac", RATE, now, told.append)
        piece.said(np.full(RATE, value, "<i2").tobytes(), now)
        piece.finish(now + 1.0)
        pieces.append(piece)
        wait_for(lambda: writer.waiting == len(pieces))
    monkeypatch.undo()
    wait_for(lambda: len(told) == 2)
    writer.close()
    assert told == [tmp_path / "s1.flac"] * 2 and names(tmp_path) == ["s1.flac"]
    assert [value for value, _ in runs(tmp_path / "s1.flac")] == [100, 200]
