"""What the caller hears: the carrier's playback buffer, with its time passed in.

Payloads are played back to back, each no earlier than it arrived. A clear cuts what has not been played. A mark is
played when all before it has been. All four carriers describe this same buffer; they differ in what becomes of the
marks that a clear overtakes, and that is the caller's business (`clear` returns them).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class Heard:
    """A payload as it was played, whole or cut by a clear. start: the clock's seconds."""

    start: float
    payload: bytes


class Playout:
    """The buffer of one stream.

    bytes_per_second   of the payloads: 8000 for G.711, 16000 for s16le at 8 kHz
    sample_bytes       a cut falls between samples
    """

    def __init__(self, bytes_per_second: int, sample_bytes: int) -> None:
        self.heard: list[Heard] = []
        """All that was or will be played, in order."""
        self._rate = bytes_per_second
        self._width = sample_bytes
        self._end = 0.0
        self._total = 0
        self._marks: deque[tuple[float, str]] = deque()

    @property
    def total(self) -> int:
        """Bytes played or still to be played."""
        return self._total

    @property
    def end(self) -> float:
        """When the last of it has been played; 0.0 when there never was any."""
        return self._end

    def buffered(self, now: float) -> float:
        """Return the seconds of audio that are still unplayed."""
        return max(0.0, self._end - now)

    def played(self, now: float) -> int:
        """Count the bytes that have been played."""
        return self._total - int(self.buffered(now) * self._rate)

    def play(self, now: float, payload: bytes) -> None:
        start = max(now, self._end)
        self.heard.append(Heard(start, payload))
        self._total += len(payload)
        self._end = start + len(payload) / self._rate

    def mark(self, now: float, name: str) -> None:
        self._marks.append((max(now, self._end), name))

    def due(self, now: float) -> list[str]:
        """Return the marks that have been reached, each once."""
        names: list[str] = []
        while self._marks and self._marks[0][0] <= now:
            names.append(self._marks.popleft()[1])
        return names

    @property
    def next_due(self) -> float | None:
        """When the next mark will be reached."""
        return self._marks[0][0] if self._marks else None

    def clear(self, now: float) -> list[str]:
        """Drop what is unplayed.

        Returns the marks that will now never be reached by playing.
        """
        while self.heard and self.heard[-1].start >= now:
            self._total -= len(self.heard.pop().payload)
        if self.heard:
            last = self.heard[-1]
            kept = round((now - last.start) * self._rate) // self._width * self._width
            if kept < len(last.payload):
                self._total -= len(last.payload) - kept
                last.payload = last.payload[:kept]
        self._end = min(self._end, now)
        overtaken = [name for _, name in self._marks]
        self._marks.clear()
        return overtaken
