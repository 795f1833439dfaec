"""Silence in place of media that a carrier numbered and that never came.

The caller's timeline stays whole.

The numbers are a stranger's. So a gap is filled for seconds, not for hours, and all silence together is at most as long
as all audio that did come, and those seconds: a message of a hundred bytes does not become a minute of sound.
"""

from __future__ import annotations

from collections.abc import Sequence

from serializers.base import Event, MediaFormat, Silence

MAX_SECONDS = 5.0
"""The most silence at once."""

MAX_CHUNKS = 250
"""The longest gap that is a loss, five seconds of 20 ms each; what jumps farther has another numbering."""

MAX_LATE = 50
"""Chunks behind the one due that are still of the same numbering: a second of them."""

NONE_YET = -2
"""The number due before any has come: no message has it, numbered or not."""

_SILENT = {"mulaw": b"\xff", "alaw": b"\xd5"}
"""The byte of silence (ITU-T G.711); in every other encoding it is 0."""


def silent_byte(encoding: str) -> bytes:
    """Return the byte that silence is made of."""
    return _SILENT.get(encoding, b"\x00")


class LostMedia:
    """Makes the silence of one stream."""

    def __init__(self, media: MediaFormat) -> None:
        self._byte = silent_byte(media.encoding)
        self._most = int(media.sample_rate * media.bytes_per_sample * MAX_SECONDS)
        self._left = self._most

    def fill(self, missing: int, size: int, received: int, after: bytes) -> Sequence[Event]:
        """Make silence for `missing` chunks of `size` bytes, one each.

        received: chunks that came since the last gap. after: the audio that came behind this one.
        """
        self._left = min(self._most, self._left + received * size)
        if not size or missing > MAX_CHUNKS:
            return ()
        filled = min(missing, self._left // size)
        self._left -= filled * size
        silence = self._byte * size
        return [Silence(silence, more * size, after) for more in range(filled - 1, -1, -1)]


class InOrder:
    """The numbers of media that come in order, as TCP keeps it.

    What is skipped is lost.
    """

    def __init__(self, media: MediaFormat) -> None:
        self._lost = LostMedia(media)
        self.due = NONE_YET  # the number of the next
        self._since_gap = 0  # the number after the last gap

    def skipped(self, number: int, audio: bytes) -> Sequence[Event]:
        """Fill the place of what is missing before this number.

        It is not the one due. audio: of this number.
        """
        due, self.due = self.due, number + 1
        if due < 0 or number < due - MAX_LATE:  # the first; or the numbering has begun again
            self._since_gap = number
            return ()
        if number < due:  # twice, or late: it is heard, and nothing was lost
            self.due = due
            return ()
        received, self._since_gap = due - self._since_gap, number
        return self._lost.fill(number - due, len(audio), received, audio)
