"""Follows an echo while the call goes on: its delay, and what of it was lost.

In bounded memory.

The echo's place is its lag: sample k of what was said is sample k + lag of what is heard (both without gaps). It is
constant while nothing is lost or inserted between. So each second of speech is looked at once, a while after it was
said: where the lag is known every 20 ms of it is compared with what was heard there, and only where that is something
else is the lag searched for again. 0.2 ms of CPU for a second of a call; `simulator.echo` looks at whole calls
afterwards, and needs all their audio.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from gateway.audio.files import convert
from gateway.simulator.load.percentiles import Percentiles
from gateway.simulator.plan import Pcm
from gateway.simulator.playout import Playout
from gateway.simulator.voice import Encoding

Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

PATIENCE = 2.0
"""Seconds until what was said is looked for though its echo is not there yet. One that comes later counts as lost."""
MEMORY = 5.0
"""Seconds of audio kept: those of PATIENCE, the second that is looked at, one until the next look, and one to spare."""
FORGET = 32
"""Payloads that are forgotten at a time: taking one off the front of a list moves all others."""
BLOCK_FRAMES = 50
WINDOW_FRAMES = 10
AUDIBLE = 200.0
"""RMS of a frame that is worth comparing; below it G.711's own noise decides."""
SAME = 0.5
"""Correlation of one frame with its echo at the right place; 160 samples of something else have less."""
FOUND = 0.85
"""Correlation of a window of 200 ms where its place is searched for: neighbouring periods of a voice are alike, too."""
NEAR_FRAMES = 6
"""A gap or a loss is mostly a few frames long: a search near the old place costs a tenth of one through all."""
MAX_SEARCHES = 3
"""In one second of speech: one through all costs milliseconds, and other calls are waiting."""
GIVE_UP = 5
"""Seconds of speech without any echo, after which there is none: searching through all costs milliseconds."""


class ShortPlayout(Playout):
    """A playback buffer that forgets what was played long ago.

    forgotten     bytes before `heard[0]`
    first_clear   when it was cleared first, and the bytes that had been heard by then
    """

    def __init__(self, bytes_per_second: int, sample_bytes: int) -> None:
        super().__init__(bytes_per_second, sample_bytes)
        self.forgotten = 0
        self.first_clear: tuple[float, int] | None = None

    def play(self, now: float, payload: bytes) -> None:
        super().play(now, payload)
        if len(self.heard) > 2 * FORGET and self.heard[FORGET].start < now - MEMORY:
            self.forgotten += sum(len(old.payload) for old in self.heard[:FORGET])
            del self.heard[:FORGET]

    def clear(self, now: float) -> list[str]:
        overtaken = super().clear(now)
        if self.first_clear is None:
            self.first_clear = now, self.total
        return overtaken


class EchoFollower:
    """The echo of one stream.

    found     there is one
    delays    from sending a message to hearing its first sample again, ms; of those whose echo was verified by ear
    lost      20 ms frames of speech whose echo was not heard
    sought    20 ms frames of speech that were looked for
    """

    def __init__(self, said: Encoding, heard: Encoding, playout: ShortPlayout) -> None:
        self.delays = Percentiles()
        self.found = False
        self.lost = 0
        self.sought = 0
        self._encoding = said
        self._heard = heard
        self._playout = playout
        self._frame = heard.rate // 50
        self._said: deque[tuple[float, bytes]] = deque()
        self._said_at = 0
        """Bytes said before `_said[0]`."""
        self._next = 0
        """Bytes that have been looked at."""
        self._total = 0
        self._lag: int | None = None
        self._missing = 0
        """Frames up to now that were not where they should be, and might only have moved."""
        self._skipped = False
        self._searches = 0

    def said(self, at: float, payload: bytes) -> None:
        """Note a message with this audio, as sent."""
        self._said.append((at, payload))
        self._total += len(payload)

    def follow(self, now: float) -> None:
        """Look at what was said long enough ago. To be called about once a second."""
        block = self._encoding.bytes_per_second * BLOCK_FRAMES // 50
        while self._total - self._next >= block:
            age = now - self._when(self._next + block - 1)
            if age < PATIENCE and not (
                self._lag is not None and self._heard_after(self._place(self._next)) >= BLOCK_FRAMES
            ):
                return
            self._look(block)

    def skip(self) -> None:
        """Leave what was said so far: no bot heard it, and it is not looked for."""
        self._said.clear()
        self._said_at = self._next = self._total
        self._skipped = True

    def finish(self, *, whole: bool) -> None:
        """Look at what is left when the stream is over.

        whole: the caller stayed for the tail of the echo, so what was not heard of it is lost.
        """
        frame = self._encoding.bytes_per_second // 50
        while (rest := (self._total - self._next) // frame) > 0:
            self._look(min(rest, BLOCK_FRAMES) * frame, whole=whole)

    @property
    def gave_up(self) -> bool:
        return not self.found and self._searches >= GIVE_UP

    # Inside

    def _when(self, byte: int) -> float:
        """Return when this byte was sent."""
        at = self._said_at
        for sent, payload in self._said:
            at += len(payload)
            if byte < at:
                return sent
        return self._said[-1][0]

    def _heard_after(self, sample: int) -> int:
        """Count the frames heard from this sample of what was said on.

        If the echo is where it was.
        """
        assert self._lag is not None
        return (self._playout.total // self._heard.sample_bytes - self._lag - sample) // self._frame

    def _place(self, byte: int) -> int:
        """Turn a byte of what was said into a sample at the rate of what is heard."""
        return byte // self._encoding.sample_bytes * self._heard.rate // self._encoding.rate

    def _look(self, size: int, *, whole: bool = True) -> None:
        """Look at the next `size` bytes. whole: what was not heard by now is lost."""
        start, at = self._next, self._place(self._next)
        messages = self._take(start, size)
        self._next += size
        if self.gave_up:
            return
        wire = b"".join(payload for _, _, payload in messages)
        pcm = self._encoding.decode(wire[start - messages[0][0] :][:size])
        frames = _frames(convert(pcm, self._encoding.rate, self._heard.rate), self._frame)
        audible = np.sqrt(np.mean(frames * frames, axis=1)) >= AUDIBLE
        if not audible.any():
            return
        self.sought += int(audible.sum())
        first = int(np.flatnonzero(audible)[0])
        if self._lag is None:
            begun = self._begin(frames, audible, at)
            if begun is None:
                return
            first = begun
        heard = len(frames) if whole else max(0, min(len(frames), self._heard_after(at)))
        good = self._compare(frames[:heard], audible[:heard], at, first)
        self._time([(byte, sent) for byte, sent, _ in messages if byte >= start], start, good)

    def _take(self, start: int, size: int) -> list[tuple[int, float, bytes]]:
        """Take (place, time, audio) of the messages in this stretch.

        Those before the next stretch are forgotten.
        """
        taken: list[tuple[int, float, bytes]] = []
        byte = self._said_at
        for sent, payload in self._said:
            if byte >= start + size:
                break
            if byte + len(payload) > start:
                taken.append((byte, sent, payload))
            byte += len(payload)
        while self._said and self._said_at + len(self._said[0][1]) <= start + size:
            self._said_at += len(self._said.popleft()[1])
        return taken

    def _compare(self, frames: Float, audible: Mask, at: int, index: int) -> Mask:
        """Tell which of these frames were heard; count those that were not.

        index: where counting begins. at: the first sample.
        """
        good = np.zeros(len(frames), np.bool_)
        for search in range(MAX_SEARCHES + 1):
            correlation = self._correlation(frames[index:], at + index * self._frame)
            good[index:] = audible[index:] & (correlation >= SAME)
            bad = index + np.flatnonzero(audible[index:] & ~good[index:])
            if not len(bad):
                self._missing = 0
                break
            if bad[0] > index:
                self._missing = 0
            index = int(bad[0])
            found = self._search_on(frames, index, at) if search < MAX_SEARCHES else None
            if found is None:
                self.lost += len(bad)
                self._missing += len(bad)
                break
            index = self._go_on(index, bad, *found)
        return good

    def _go_on(self, index: int, bad: npt.NDArray[np.int_], where: int, moved: int) -> int:
        """Return the frame from which to go on comparing.

        From frame `index` on the echo was not at its place, and at `where` it is again.
        """
        if not moved:  # something else was heard in place of those between
            gone = int(np.count_nonzero(bad < max(where, index + 1)))
            self.lost += gone
            self._missing = 0
            return max(where, index + 1)
        # Backwards: so many were left out, and what follows came in their place. Forwards: it only came later.
        gone = round(max(0, -moved) / self._frame)
        self.lost += gone - self._missing  # those of the last second looked missing, and had only moved
        ahead = max(0, gone - self._missing)
        self._missing = 0
        return index + ahead

    def _begin(self, frames: Float, audible: Mask, at: int) -> int | None:
        """Find the echo for the first time.

        The first frame that can have been heard; those before it are lost. Silence is not: a gateway may leave out what
        its bot was not yet there to hear.
        """
        first = int(np.flatnonzero(audible)[0])
        self._lag = 0  # of a gateway that neither loses nor inserts, but for the delay of its filters
        if self._search_on(frames, first, at) is None:
            self._lag = None
            self._searches += 1
            return None
        self.found = True
        gone = round(max(0, -self._lag) / self._frame)
        if self._skipped:
            return first
        gone_here = max(0, gone - at // self._frame)
        earlier = self.sought - int(np.count_nonzero(audible))  # speech that was looked for, and nothing was found
        self.lost += min(gone, earlier) + int(np.count_nonzero(audible[:gone_here]))
        return max(first, gone_here)

    def _search_on(self, frames: Float, index: int, at: int) -> tuple[int, int] | None:
        """Look for the echo from this frame on, in three places.

        Of a longer gap the first are within it.

        Returns the frame from which it was found, and by how many samples the lag has changed.
        """
        for where in range(index, min(index + 3 * WINDOW_FRAMES, len(frames)), WINDOW_FRAMES):
            moved = self._search(frames, where, at)
            if moved is not None:
                return where, moved
        return None

    def _correlation(self, frames: Float, at: int) -> Float:
        """Correlate each frame with what was heard at its place."""
        assert self._lag is not None
        heard = self._slice(at + self._lag, frames.size).reshape(frames.shape)
        energy = np.maximum(np.sum(frames * frames, axis=1) * np.sum(heard * heard, axis=1), 1.0)
        result: Float = np.sum(frames * heard, axis=1) / np.sqrt(energy)
        return result

    def _search(self, frames: Float, index: int, at: int) -> int | None:
        """Look for the 200 ms from this frame on, first near where it should be.

        By how much the lag has changed.
        """
        assert self._lag is not None
        piece = frames[index : index + WINDOW_FRAMES].ravel()
        place = at + index * self._frame + self._lag
        start = self._playout.forgotten // self._heard.sample_bytes
        end = self._playout.total // self._heard.sample_bytes
        near = NEAR_FRAMES * self._frame
        areas = [(place - near, place + len(piece) + near)]
        if len(piece) >= WINDOW_FRAMES // 2 * self._frame:  # a shorter one is like many things
            areas.append((start, end))
        for low, high in areas:
            best, correlation = _best(piece, self._slice(low, high - low))
            if correlation >= FOUND:
                moved = low + best - place
                self._lag += moved
                return moved
        return None

    def _slice(self, low: int, count: int) -> Float:
        """Return `count` samples of what was heard.

        Silence where there is nothing, or nothing any more.
        """
        width = self._heard.sample_bytes
        out = np.zeros(max(count, 0))
        byte = self._playout.forgotten
        first, last = low * width, (low + count) * width
        pieces: list[bytes] = []
        begin: int | None = None
        for heard in self._playout.heard:
            after = byte + len(heard.payload)
            if after > first and byte < last:
                if begin is None:
                    begin = byte
                pieces.append(heard.payload)
            elif byte >= last:
                break
            byte = after
        if begin is None:
            return out
        pcm = self._heard.decode(b"".join(pieces))
        offset = begin // width - low
        source, target = max(0, -offset), max(0, offset)
        size = min(len(pcm) - source, len(out) - target)
        out[target : target + size] = pcm[source : source + size]
        return out

    def _time(self, messages: list[tuple[int, float]], start: int, good: Mask) -> None:
        """Note the delay of those messages whose first frame was heard."""
        assert self._lag is not None
        places, starts = [], []
        byte = self._playout.forgotten
        for heard in self._playout.heard:
            places.append(byte // self._heard.sample_bytes)
            starts.append(heard.start)
            byte += len(heard.payload)
        end = byte // self._heard.sample_bytes
        origin = self._place(start)
        for said, sent in messages:
            sample = self._place(said)
            frame = (sample - origin) // self._frame
            place = sample + self._lag
            if frame < len(good) and good[frame] and places and places[0] <= place < end:
                index = int(np.searchsorted(places, place, "right")) - 1
                self.delays.note((starts[index] + (place - places[index]) / self._heard.rate - sent) * 1000)


def correlation_of(piece: Pcm, heard: Pcm) -> float:
    """Correlate `piece` with its best place in `heard`; 1 is the same."""
    return _best(piece.astype(np.float64), heard.astype(np.float64))[1]


def _frames(pcm: Pcm, frame: int) -> Float:
    whole = -(-len(pcm) // frame)
    padded = np.zeros(whole * frame)
    padded[: len(pcm)] = pcm
    return padded.reshape(whole, frame)


def _best(piece: Float, area: Float) -> tuple[int, float]:
    """Find the place in `area` that is most like `piece`, and its correlation."""
    if len(area) < len(piece) or not len(piece):
        return 0, 0.0
    size = 1 << (len(area) - 1).bit_length()
    spectrum = np.fft.rfft(area, size) * np.conj(np.fft.rfft(piece, size))
    products = np.fft.irfft(spectrum, size)[: len(area) - len(piece) + 1]
    energy = np.cumsum(np.concatenate(([0.0], area * area)))
    norms = np.sqrt(np.maximum(energy[len(piece) :] - energy[: -len(piece)], 1.0) * float(piece @ piece) + 1.0)
    correlation = products / norms
    best = int(np.argmax(correlation))
    return best, float(correlation[best])
