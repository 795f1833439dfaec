from __future__ import annotations

import os
import stat

import pytest
from structlog.testing import capture_logs

from gateway.call_recording import folder
from gateway.call_recording.folder import (
    beside,
    create,
    finished_files,
    first_file,
    recover,
    remove,
    remove_sessions,
    session_of,
)
from gateway.call_recording.spool import pack

SECOND = pack([("begin", 0.0, 0.0, b"8000"), ("caller", 0.0, 0.0, bytes(16000)), ("end", 1.0, 1.0, b"")])


def begin(tmp_path, session: str = "s1"):
    recording = create(str(tmp_path / "recordings"), session, "wav")
    recording.write(SECOND)
    return recording


def finish(recording) -> None:
    list(recording.complete())


def names(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "recordings").iterdir())


def test_a_file_has_its_name_when_it_is_whole(tmp_path) -> None:
    recording = begin(tmp_path)
    assert names(tmp_path) == ["s1.wav.part"] and finished_files(recording.path) == []
    assert stat.S_IMODE(recording.part.stat().st_mode) == 0o600
    finish(recording)
    assert recording.path.stat().st_size == 44 + 8000 * 4
    assert stat.S_IMODE(recording.path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["s1.wav"]


def test_a_session_that_goes_on_while_another_writes_has_more_files(tmp_path) -> None:
    first, second = begin(tmp_path), begin(tmp_path)
    finish(second)
    finish(first)
    third = begin(tmp_path)
    assert [path.name for path in finished_files(first.path)] == ["s1.wav", "s1.2.wav"]
    assert session_of(third.path) == "s1"
    assert first_file(third.path) == first.path
    finish(begin(tmp_path, "s10"))
    assert remove(first.path) == 3
    assert names(tmp_path) == ["s10.wav"]


def test_what_a_dead_process_left_becomes_a_file(tmp_path) -> None:
    dead, living = begin(tmp_path, "dead"), begin(tmp_path, "living")
    os.close(dead.descriptor)  # as the kernel does, with the lock
    beside(dead.path, ".new").write_text("it died while it made the file")
    assert list(recover(str(tmp_path / "recordings"))) == [dead.path]
    assert names(tmp_path) == ["dead.wav", "living.wav.part"]
    assert list(recover(str(tmp_path / "none"))) == []
    finish(living)


def test_what_is_no_recording_of_ours_is_left_alone(tmp_path) -> None:
    (tmp_path / "a.wav.part").write_bytes(b"RIFF")
    assert list(recover(str(tmp_path))) == []
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav.part"]


def test_what_cannot_be_opened_costs_no_other_recording(tmp_path) -> None:
    """A loop of links stands for a file of another user: it cannot be opened by root either."""
    folder = tmp_path / "recordings"
    dead = begin(tmp_path, "dead")
    os.close(dead.descriptor)
    (folder / "a.wav.part").mkdir()
    (folder / "b.wav.part").symlink_to("b.wav.part")
    with capture_logs() as said:
        assert list(recover(str(folder))) == [dead.path]
    assert [(line["session"], line["event"], line["error"]) for line in said] == [
        ("a", "an unfinished recording was left as it is", "Is a directory"),
        ("b", "an unfinished recording was left as it is", "Too many levels of symbolic links"),
    ]
    assert names(tmp_path) == ["a.wav.part", "b.wav.part", "dead.wav"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as said:
        assert list(recover(str(tmp_path / "file"))) == []
    assert [line["event"] for line in said] == ["a folder of recordings cannot be read"]


def test_a_call_is_recorded_beside_a_part_that_cannot_be_opened(tmp_path) -> None:
    (tmp_path / "recordings" / "s1.wav.part").mkdir(parents=True)
    goes_on = begin(tmp_path)
    with capture_logs() as said:
        finish(goes_on)
    assert [line["event"] for line in said] == ["an unfinished recording was left as it is"]
    assert names(tmp_path) == ["s1.2.wav", "s1.wav.part"]


def test_a_part_without_a_byte_is_removed(tmp_path) -> None:
    os.close(create(str(tmp_path / "recordings"), "s1", "wav").descriptor)
    goes_on = begin(tmp_path)
    finish(goes_on)
    assert names(tmp_path) == ["s1.2.wav"]
    os.close(create(str(tmp_path / "recordings"), "s2", "wav").descriptor)
    with capture_logs() as said:
        assert list(recover(str(tmp_path / "recordings"))) == []
    assert names(tmp_path) == ["s1.2.wav"] and not said


def test_one_whose_part_another_process_takes_begins_in_the_next(tmp_path, monkeypatch) -> None:
    """A gateway that starts, in the moment between the part and its lock."""
    lock, taken = folder.fcntl.flock, []

    def taken_before(descriptor: int, how: int) -> None:
        if not taken:
            taken.append(os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR))
            lock(taken[0], how)
        lock(descriptor, how)

    monkeypatch.setattr(folder.fcntl, "flock", taken_before)
    begun = begin(tmp_path)
    assert begun.path.name == "s1.2.wav"
    monkeypatch.undo()
    os.close(taken[0])
    finish(begun)


def test_a_recording_that_was_removed_meanwhile_stays_removed(tmp_path) -> None:
    recording = begin(tmp_path)
    assert remove(recording.path) == 1
    finish(recording)
    assert names(tmp_path) == []


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_one_that_is_removed_while_it_is_made_stays_removed(tmp_path, steps) -> None:
    """By another process, at any moment: `gateway forget` on a machine whose gateways run."""
    recording = create(str(tmp_path / "recordings"), "s1", "wav")
    recording.write(pack([("begin", 0.0, 0.0, b"8000"), *(("caller", n, n, bytes(16000)) for n in range(0, 9, 2))]))
    making = recording.complete()
    for _ in range(steps):
        next(making)
    assert remove(recording.path) == 1 + (steps > 0)
    list(making)
    assert names(tmp_path) == []


def test_all_files_of_a_session_are_removed_and_no_others(tmp_path) -> None:
    folder = tmp_path / "recordings"
    running, first, second = begin(tmp_path, "other"), begin(tmp_path), begin(tmp_path)
    finish(first)
    beside(second.path, ".new").write_text("being made")
    for name in ("s1.txt", "s10.wav", "notes.wav", "s1.flac.bak"):
        (folder / name).write_text("")
    assert remove_sessions(["", str(folder), str(tmp_path / "none")], {"s1": str(first.path), "s3": ""}) == 1
    assert names(tmp_path) == ["notes.wav", "other.wav.part", "s1.flac.bak", "s1.txt", "s10.wav"]
    finish(second)
    finish(running)


def test_no_recording_begins_on_a_disk_that_is_nearly_full(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(folder, "MIN_FREE", 1 << 62)
    with pytest.raises(OSError, match="are free"):
        begin(tmp_path)


@pytest.mark.parametrize("session", ["../../etc/passwd", "a/b", "x" * 400, "a.2"])
def test_no_session_leads_out_of_the_folder(session, tmp_path) -> None:
    recording = begin(tmp_path, session)
    finish(recording)
    assert recording.path.parent == tmp_path / "recordings"
    assert first_file(recording.path) == recording.path
    assert len(names(tmp_path)) == 1
