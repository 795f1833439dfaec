from __future__ import annotations

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from gateway.audio.format import AudioFormat
from gateway.call_recording import folder
from gateway.call_recording import recorder as module
from gateway.call_recording.folder import recover
from gateway.call_recording.recorder import MAX_CONTROL, MAX_QUEUE, CallRecorder

RATE = 8000
FRAME = np.full(160, 1000, "<i2").tobytes()
L16 = AudioFormat.of("l16", RATE)


class Call:
    """A recorder in virtual time, and the path of what it made."""

    def __init__(self, folder, began: float = 50.0) -> None:
        self.done: list = []
        self.recorder = CallRecorder("s1", str(folder), "wav", RATE, began, self.done.append)
        self.recorder.stream(L16, L16, began)
        self.now = began

    def goes_on(self, seconds: float, *, advance: bool = True) -> None:
        """Both sides speak."""
        for n in range(round(seconds * 50)):
            self.recorder.said(FRAME, self.now)
            self.recorder.heard(FRAME, self.now, self.now)
            self.now += 0.02
            if advance and n % 15 == 0:
                assert not self.recorder.advance()

    def over(self) -> list:
        self.recorder.finish(self.now)
        assert self.recorder.advance()
        assert not list(filter(None, self.recorder.complete()))
        return self.done

    def end(self) -> np.ndarray:
        [path] = self.over()
        return soundfile.read(path, dtype="int16")[0]


def spoken(stereo: np.ndarray, side: int) -> float:
    """Seconds of a side that are no silence."""
    return np.count_nonzero(stereo[:, side]) / RATE


def test_all_that_was_said_and_heard_is_in_the_file(tmp_path) -> None:
    call = Call(tmp_path)
    call.goes_on(3.0)
    stereo = call.end()
    assert len(stereo) == 3 * RATE and spoken(stereo, 0) == spoken(stereo, 1) == 3.0


def test_a_paused_stretch_holds_no_speech_and_none_is_queued(tmp_path) -> None:
    call = Call(tmp_path)
    call.goes_on(1.0)
    call.recorder.heard(FRAME * 50, call.now, call.now)  # a second that is still to be heard
    call.recorder.pause(call.now)
    call.recorder.pause(call.now)
    waiting = len(call.recorder._queue)
    call.goes_on(1.0, advance=False)
    assert len(call.recorder._queue) == waiting
    call.recorder.resume()
    call.goes_on(1.0)
    stereo = call.end()
    assert len(stereo) == 3 * RATE and not stereo[RATE : 2 * RATE].any()
    assert stereo[:RATE].all() and stereo[2 * RATE :].all()


@pytest.mark.parametrize("first", ["caller", "bot"])
@pytest.mark.parametrize("seconds", [0.0, 14.5, 20.0, 61.0])
def test_what_comes_behind_a_long_silence_is_whole(tmp_path, seconds, first) -> None:
    """Its first frame, too, also where nothing was said or heard from the beginning."""
    call = Call(tmp_path)
    for _ in range(2):
        call.now += seconds
        if first == "bot":
            call.recorder.heard(FRAME * 50, call.now, call.now)
            call.now += 1.0
        else:
            call.goes_on(1.0)
    stereo = call.end()
    silence = round(seconds * RATE)
    assert len(stereo) == 2 * (silence + RATE)
    for begins in (silence, 2 * silence + RATE):
        assert stereo[begins : begins + RATE, 1].all()


def test_a_forgotten_call_leaves_no_file(tmp_path) -> None:
    call = Call(tmp_path)
    call.goes_on(1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["s1.wav.part"]
    waiting = list(call.recorder._queue)
    call.recorder.discard()
    for begin in (call.recorder.resume, lambda: call.recorder.start(paused=False)):  # another stream came, say
        begin()
        call.goes_on(0.2, advance=False)
        assert list(call.recorder._queue) == waiting
    assert call.over() == [None] and call.recorder.result == "discarded"
    assert not list(tmp_path.iterdir())


def test_a_file_that_could_not_be_made_is_left_for_the_next_start(tmp_path, monkeypatch) -> None:
    call = Call(tmp_path)
    call.goes_on(1.0)
    (tmp_path / "s1.wav.new").mkdir()
    with capture_logs() as said:
        assert call.over() == [None]
    assert call.recorder.result == "failed"
    assert [line["event"] for line in said] == ["a recording was not made, the next start tries again"]
    (tmp_path / "s1.wav.new").rmdir()
    assert [path.name for path in recover(str(tmp_path))] == ["s1.wav"]


def test_a_full_queue_drops_and_counts_and_silence_keeps_the_time(tmp_path) -> None:
    call = Call(tmp_path)
    call.goes_on(40.0, advance=False)
    assert call.recorder.dropped == 4000 + 3 - MAX_QUEUE
    assert len(call.recorder._queue) == MAX_QUEUE
    call.recorder.advance()
    call.goes_on(1.0)
    stereo = call.end()
    assert len(stereo) == 41 * RATE
    assert stereo[: 29 * RATE].all() and not stereo[31 * RATE : 40 * RATE].any() and stereo[40 * RATE :].all()


def test_a_recording_that_could_miss_a_pause_ends(tmp_path) -> None:
    call = Call(tmp_path)
    call.goes_on(40.0, advance=False)
    call.recorder.advance()
    call.goes_on(40.0, advance=False)
    with capture_logs() as said:
        for _ in range(MAX_CONTROL + 1):
            call.recorder.cut(call.now)
    [line] = said
    assert (line["event"], line["error"]) == ("recording ended early", "more pauses and cuts than the queue holds")
    assert call.recorder.finished and call.recorder.advance()
    assert len(call.recorder._queue) == 0
    assert len(call.over()) == 1 and call.recorder.result == "cut_short"


def test_a_call_without_a_moment_leaves_no_file(tmp_path) -> None:
    call = Call(tmp_path / "calls")
    assert call.over() == [None] and not list((tmp_path / "calls").iterdir())
    assert call.recorder.result == "empty"


def test_a_folder_that_cannot_be_written_ends_the_recording_only(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    call = Call(tmp_path / "file")
    call.goes_on(2.0)
    assert call.over() == [None] and call.recorder.result == "failed"


def test_a_disk_that_is_full_from_the_start_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(folder, "MIN_FREE", 1 << 62)
    call = Call(tmp_path)
    with capture_logs() as said:
        call.goes_on(1.0)
    [line] = said
    assert line["event"] == "recording ended early" and line["error"].endswith(" MB are free")
    assert call.over() == [None] and call.recorder.result == "failed"


def test_a_disk_that_runs_full_keeps_what_is_written(tmp_path, monkeypatch) -> None:
    call = Call(tmp_path)
    call.goes_on(12.0)
    monkeypatch.setattr(module, "free_bytes", lambda folder: 0)
    call.goes_on(12.0)
    assert RATE * 11 < len(call.end()) < RATE * 23
    assert call.recorder.result == "cut_short"


def test_a_bug_of_ours_keeps_what_is_written_and_is_counted(tmp_path) -> None:
    call = Call(tmp_path)
    call.goes_on(1.0)
    call.recorder._queue.append(("no kind", call.now, call.now, b""))
    with capture_logs() as said:
        call.goes_on(1.0)
    assert [line["event"] for line in said] == ["recording ended early: a bug"]
    assert 0.6 * RATE < len(call.end()) <= RATE and call.recorder.result == "cut_short"


def test_what_is_not_to_be_recorded_is_not_counted_as_lost(tmp_path) -> None:
    call = Call(tmp_path)
    call.goes_on(30.0, advance=False)
    dropped = call.recorder.dropped
    call.recorder.pause(call.now)
    call.goes_on(1.0, advance=False)
    assert call.recorder.dropped == dropped
