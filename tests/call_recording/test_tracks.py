"""The two sides of a recording, with time passed in: 8 kHz, so 20 ms are 160 samples."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.format import AudioFormat
from gateway.call_recording.tracks import MAX_AHEAD, MAX_BLOCK, CallTracks, Track

RATE = 8000
FRAME = 160
L16 = AudioFormat.of("l16", RATE)


def frame(value: int, frames: int = 1) -> bytes:
    return np.full(FRAME * frames, value, "<i2").tobytes()


def sides(blocks) -> tuple[list[int], list[int]]:
    """What stands on each side, a value for each 20 ms."""
    stereo = np.frombuffer(b"".join(blocks), "<i2").reshape(-1, 2)[::FRAME]
    return stereo[:, 0].tolist(), stereo[:, 1].tolist()


@pytest.fixture
def tracks() -> CallTracks:
    tracks = CallTracks(RATE, 100.0)
    tracks.format(L16)
    return tracks


def test_both_sides_stand_where_their_time_says(tracks) -> None:
    tracks.caller([(100.0, frame(1))])
    tracks.bot([(100.04, frame(2))])
    assert sides(tracks.finish(100.1)) == ([1, 0, 0, 0, 0], [0, 0, 2, 0, 0])


def test_what_a_clear_dropped_is_not_in_it(tracks) -> None:
    for n in range(10):
        tracks.bot([(100.0 + n * 0.02, frame(2))])
    tracks.cut(100.06)
    tracks.bot([(100.08, frame(3))])
    assert sides(tracks.finish(100.2))[1] == [2, 2, 2, 0, 3, 0, 0, 0, 0, 0]


def test_what_is_unplayed_at_the_end_is_not_in_it(tracks) -> None:
    tracks.bot([(100.0, frame(2, 10))])
    assert sides(tracks.finish(100.06))[1] == [2, 2, 2]


def test_jitter_moves_nothing(tracks) -> None:
    arrivals = [0.0, 0.035, 0.041, 0.12, 0.12, 0.12, 0.121]
    for n, at in enumerate(arrivals):
        tracks.caller([(100.0 + at, frame(n + 1))])
    assert sides(tracks.finish(100.14))[0] == [1, 2, 3, 4, 5, 6, 7]


def test_a_first_frame_that_was_late_is_put_right(tracks) -> None:
    tracks.caller([(100.05, frame(1))])
    for n in range(2, 8):
        tracks.caller([(100.0 + n * 0.02, frame(n))])
    assert sides(tracks.finish(100.16))[0] == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_gap_is_silence(tracks) -> None:
    for n in (0, 1, 5, 6, 7, 8):
        tracks.caller([(100.0 + n * 0.02, frame(n + 1))])
    assert sides(tracks.finish(100.18))[0] == [1, 2, 0, 0, 0, 6, 7, 8, 9]


def test_a_drifting_clock_is_followed(tracks) -> None:
    """A carrier whose second is 0.2 ms too long, a hundred times what crystals do."""
    blocks = []
    for n in range(3000):
        tracks.caller([(100.0 + n * 0.020004, frame(n % 50 + 1))])
        if n % 15 == 0:
            blocks += list(tracks.take(100.0 + n * 0.020004))
    blocks += list(tracks.finish(100.0 + 3000 * 0.020004))
    left = np.frombuffer(b"".join(blocks), "<i2").reshape(-1, 2)[:, 0]
    last = np.flatnonzero(left == 2999 % 50 + 1)
    assert abs(last[-FRAME] - 2999 * 0.020004 * RATE) <= 0.011 * RATE


def test_audio_that_is_late_by_much_is_left_out_and_keeps_nothing_back(tracks) -> None:
    blocks = list(tracks.take(100.0))
    for n in range(5):
        tracks.caller([(100.0 + n * 0.02, frame(n + 1))])
    blocks += list(tracks.take(102.6))  # silence stands there until 101.6
    for n in range(5, 105):
        tracks.caller([(102.1, frame(n + 1))])
    for n in range(105, 110):
        tracks.caller([(100.0 + n * 0.02, frame(n + 1))])
    left = sides([*blocks, *tracks.finish(102.2)])[0]
    assert left[:6] == [1, 2, 3, 4, 5, 0] and left[-10:] == [101, 102, 103, 104, 105, 106, 107, 108, 109, 110]
    assert left[78:82] == [0, 0, 81, 82]


def test_a_pause_is_silence_on_both_sides_at_once(tracks) -> None:
    for n in range(5):
        tracks.caller([(100.0 + n * 0.02, frame(1))])
    tracks.bot([(100.0, frame(2, 50))])  # a second, of which 0.1 s are heard
    tracks.silence(100.1)
    tracks.caller([(100.2, frame(3))])
    tracks.bot([(100.22, frame(4))])
    left, right = sides(tracks.finish(100.26))
    assert left == [1] * 5 + [0] * 5 + [3, 0, 0]
    assert right == [2] * 5 + [0] * 6 + [4, 0]


def test_the_bots_audio_is_written_at_the_recordings_rate() -> None:
    tracks = CallTracks(16000, 0.0)
    tracks.format(AudioFormat.of("mulaw", 8000))
    for n in range(50):
        tracks.bot([(n * 0.02, b"\x80" * 160)])  # the loudest
    right = np.frombuffer(b"".join(tracks.finish(1.0)), "<i2").reshape(-1, 2)[:, 1]
    assert len(right) == 16000 and right[100:15900].min() > 31000


def test_the_callers_audio_is_written_at_the_recordings_rate() -> None:
    """Also where its format changes, as with another carrier's stream."""
    tracks = CallTracks(16000, 0.0)
    tracks.caller_format(AudioFormat.of("mulaw", 8000))
    tracks.caller((n * 0.02, b"\x80" * 160) for n in range(50))  # the loudest
    tracks.caller_format(AudioFormat.of("l16", 24000))
    tracks.caller((1.0 + n * 0.02, np.full(480, 30000, "<i2").tobytes()) for n in range(50))
    left = np.frombuffer(b"".join(tracks.finish(2.0)), "<i2").reshape(-1, 2)[:, 0]
    assert len(left) == 32000 and left[100:15900].min() > 31000 and abs(left[16100:31900] - 30000).max() < 100


def test_a_long_time_without_a_block_needs_no_more_memory(tracks) -> None:
    tracks.caller([(100.0, frame(1))])
    tracks.caller([(100.0 + 3 * MAX_AHEAD, frame(2))])
    blocks = list(tracks.finish(100.0 + 3 * MAX_AHEAD))
    assert max(map(len, blocks)) == MAX_BLOCK * RATE * 4 and sum(map(len, blocks)) == 3 * MAX_AHEAD * RATE * 4


def test_a_track_gives_each_sample_out_once() -> None:
    track = Track(10)
    track.put(2, np.array([1, 2, 3], np.int16))
    assert track.take(4).tolist() == [0, 0, 1, 2]
    track.put(2, np.array([9, 9, 9, 4], np.int16))  # too late for the first two
    assert track.take(3).tolist() == [9, 4, 0]
    track.put(20, np.array([5], np.int16))  # beyond the capacity
    assert not track.take(10).any()
