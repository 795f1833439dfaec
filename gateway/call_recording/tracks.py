"""The two sides of a recording on one clock. Sans-I/O: audio in by its time, stereo blocks out, in order.

Where a sample stands is decided by when it was heard, or said, not by how many came before it:

- The bot's audio stands where the carrier plays it, by our estimate of the playout; what a clear drops is taken out.
- The caller's audio is a stream that comes with jitter. It is laid end to end, and moved only by lateness (or
  earliness) that does not go away: a gap, or a clock that drifts. So a frame is placed when those behind it have come.

What is older than `DELAY` is final, and given out; what comes later for it is left out, as silence stands there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from gateway.audio.format import AudioFormat
from gateway.audio.g711 import Pcm
from gateway.audio.transcoder import Transcoder

LOOKAHEAD = 0.5
"""Seconds for which a frame waits for those behind it: they tell jitter, which they make up for, from a gap."""
DELAY = 1.0
"""Seconds until a place is final: what is late by less stands in its place, and later audio is silence there. TCP
repairs a loss within 0.2 s, and a second one within 0.6."""
SLACK = 0.01
"""Seconds by which a caller's audio may be off its time before it is moved; each move is heard as a click."""
JOINT = SLACK
"""Seconds: audio of the bot's that begins so close behind the last is its continuation. The carrier plays it so."""
TINY = 1e-6
MAX_AHEAD = 15.0
"""Seconds behind `start` that a track holds: a playout's lead of at most 5, and what came while no block was taken."""

MAX_BLOCK = 3.0
"""Seconds of one block: what is written of a long silence in one go, a millisecond or two of work."""


class Track:
    """One side: samples from `start` on, silence where there are none. Positions are samples since the beginning."""

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.int16)
        self.start = 0
        self._end = 0

    def put(self, at: int, pcm: Pcm) -> None:
        """Lay samples down at a position. What is before `start`, or beyond the capacity, is left out."""
        if at < self.start:
            pcm, at = pcm[self.start - at :], self.start
        offset = at - self.start
        pcm = pcm[: max(0, len(self._samples) - offset)]
        if pcm.size:
            self._samples[offset : offset + pcm.size] = pcm
            self._end = max(self._end, at + pcm.size)

    def cut(self, at: int) -> None:
        """Take out all that stands at `at` and behind."""
        offset = max(0, at - self.start)
        self._samples[offset : max(offset, self._end - self.start)] = 0
        self._end = min(self._end, self.start + offset)

    def take(self, size: int) -> Pcm:
        """Give out so many samples from the start, at most the capacity."""
        out = self._samples[:size].copy()
        left = max(0, self._end - self.start - size)
        if left:
            self._samples[:left] = self._samples[size : size + left].copy()
        self._samples[left : left + size] = 0
        self.start += size
        self._end = max(self._end, self.start)
        return out


class CallTracks:
    """Both sides. Times are of any clock that only grows, in seconds. rate: of the recording, Hz."""

    def __init__(self, rate: int, began: float) -> None:
        self.rate = rate
        self._began = began
        self._capacity = int(MAX_AHEAD * rate)
        self._block = int(MAX_BLOCK * rate)
        self._left, self._right = Track(self._capacity), Track(self._capacity)
        self._waiting: list[tuple[float, bytes]] = []
        """Frames of the caller's that have no place yet: when each came, and its payload."""
        self._caller_end: int | None = None
        self._caller_format(AudioFormat.of("l16", rate))
        self._bot: Transcoder | None = None
        self._bot_bytes_per_second = 1
        self._run: list[bytes] = []
        """Audio of the bot's that is played without a pause, and is not on the track yet."""
        self._run_ends = 0.0
        self._bot_end = 0

    def _position(self, at: float) -> int:
        """The sample that stands at this time."""
        return round((at - self._began) * self.rate)

    # The caller.

    def caller_format(self, audio: AudioFormat) -> None:
        """The caller's audio comes in this format from now on; at first it is PCM at the recording's rate."""
        if self._waiting:
            self._place_caller(self._waiting[-1][0] + TINY)
        self._caller_format(audio)

    def _caller_format(self, audio: AudioFormat) -> None:
        self._caller = Transcoder(audio, AudioFormat.of("l16", self.rate), long_blocks=True)
        self._caller_samples_per_byte = self.rate / audio.bytes_for_ms(1000)

    def caller(self, frames: Iterable[tuple[float, bytes]]) -> None:
        """Take what the caller said: when each frame came, and its payload in the format said before."""
        self._waiting += frames

    def _place_caller(self, before: float) -> None:
        """Place the caller's frames that came before this time."""
        frames = self._waiting
        count = sum(at < before for at, _ in frames)
        if not count:
            return
        placed, self._waiting = [data for _, data in frames[:count]], frames[count:]
        if self._caller_end is None:
            self._caller_end = self._position(frames[0][0])
        lateness = self._lateness(frames, self._caller_end)
        slack, shift, first = SLACK * self.rate, 0, 0
        # Of each frame with all behind it the least counts: others make up for jitter. It never falls from one frame
        # to the next, so that of the first and that of the last say it all in the usual case.
        if min(lateness) < -slack or min(lateness[count - 1 :]) > slack:
            _make_lasting(lateness)
            for i in range(count):
                if abs(lateness[i] - shift) > slack:
                    self._put_caller(placed[first:i])
                    self._caller_end += lateness[i] - shift
                    first, shift = i, lateness[i]
        self._put_caller(placed[first:])

    def _lateness(self, frames: list[tuple[float, bytes]], end: int) -> list[int]:
        """Return by how many samples each frame is late if all are laid end to end from `end` on; early: negative."""
        late, rate, began, per_byte = [], self.rate, self._began, self._caller_samples_per_byte
        place = float(end)
        for at, data in frames:
            late.append(round((at - began) * rate - place))
            place += len(data) * per_byte
        return late

    def _put_caller(self, run: list[bytes]) -> None:
        pcm = np.frombuffer(self._caller.feed(b"".join(run)), "<i2")
        assert self._caller_end is not None
        self._left.put(self._caller_end, pcm)
        self._caller_end += pcm.size

    # The bot.

    def format(self, audio: AudioFormat) -> None:
        """The bot's audio comes in this format from now on."""
        self._end_run()
        self._bot = Transcoder(audio, AudioFormat.of("l16", self.rate), long_blocks=True)
        self._bot_bytes_per_second = audio.bytes_for_ms(1000)

    def bot(self, frames: Iterable[tuple[float, bytes]]) -> None:
        """Take what the carrier plays: from when on, and each payload in the format said before."""
        if self._bot is None:
            return
        ends, per_second = self._run_ends, self._bot_bytes_per_second
        for at, payload in frames:
            if not -JOINT < at - ends < JOINT:
                self._end_run()
                self._bot.reset()
                self._bot_end = self._position(at)
                ends = at
            self._run.append(payload)
            ends += len(payload) / per_second
        self._run_ends = ends

    def _end_run(self) -> None:
        if self._run and self._bot is not None:
            pcm = np.frombuffer(self._bot.feed(b"".join(self._run)), "<i2")
            self._run = []
            self._right.put(self._bot_end, pcm)
            self._bot_end += pcm.size

    # Both.

    def cut(self, at: float) -> None:
        """The bot's audio from this time on is not heard."""
        self._end_run()
        self._right.cut(self._position(at))
        self._run_ends = -1.0  # what comes next is no continuation

    def silence(self, at: float) -> None:
        """Neither side is recorded from this time on; what comes next stands where its time says."""
        self._place_caller(at + TINY)
        self._waiting = []
        self._caller_end = None
        self._left.cut(self._position(at))
        self.cut(at)

    def take(self, now: float) -> Iterator[bytes]:
        """Give out what is final: stereo, 16 bit little-endian, caller left. now: the time up to which all is known."""
        self._place_caller(now - LOOKAHEAD)
        self._end_run()
        return self._until(self._position(now - DELAY))

    def finish(self, now: float) -> Iterator[bytes]:
        """Give out the rest, up to this time."""
        self._place_caller(now + TINY)
        self.cut(now)
        return self._until(self._position(now))

    def _until(self, position: int) -> Iterator[bytes]:
        while (size := min(position - self._left.start, self._block)) > 0:
            stereo = np.empty((size, 2), "<i2")
            stereo[:, 0], stereo[:, 1] = self._left.take(size), self._right.take(size)
            yield stereo.tobytes()


def _make_lasting(lateness: list[int]) -> None:
    """Let each value be the least of it and all behind it."""
    for i in range(len(lateness) - 2, -1, -1):
        if lateness[i + 1] < lateness[i]:
            lateness[i] = lateness[i + 1]
