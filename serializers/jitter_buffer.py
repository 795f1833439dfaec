"""Media in the order of their chunk numbers.

Without waiting while they come in order.

Telnyx: "media frame order is not guaranteed", with a number in each to order them by. What is early is held
back for the one before it, 60 ms at most; then silence takes the place of what did not come, so that the
caller's timeline stays whole. The numbers are a stranger's: whatever they are, the audio goes on, silence and
memory are bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

from serializers.base import Event, Media, MediaFormat, Rejected
from serializers.lost_media import LostMedia

MAX_WAIT = 0.06
"""Seconds that audio is held back for an earlier chunk: three frames."""

_TICK_ERROR = 1e-6
"""A tick that comes 60 ms later by the clock may be a rounding error short of it."""

MAX_HELD = 32
"""Chunks held back at once: after a stall on the way many come in one instant, and 60 ms are not over yet."""

MAX_GAP = 50
"""Chunks ahead of the next one that belong to this timeline: one second. Beyond it the numbering jumped."""

MAX_STRAYS = 5
"""So many in a row that fit nowhere mean that the numbering has jumped: 100 ms are lost, not the call."""

MAX_REMEMBERED = 256
"""Chunks replaced by silence that are remembered, to tell the late from the duplicate."""

_DUPLICATE: Sequence[Event] = (Rejected("duplicate"),)
_LATE: Sequence[Event] = (Rejected("late"),)
_ASTRAY: Sequence[Event] = (Rejected("bad_media"),)


class JitterBuffer:
    """The media of one track, in this format."""

    def __init__(self, media: MediaFormat) -> None:
        self._lost = LostMedia(media)
        self._since_gap = 0  # the number after the last gap
        self._next = -1  # the chunk that is due; -1: none has come yet
        self._held: dict[int, tuple[bytes, float]] = {}  # chunk -> audio, when it came
        self._strays = 0
        self._replaced: dict[int, None] = {}  # a set that knows which is the oldest
        self._last_size = 0  # bytes of the last audio given out: the size of a frame
        self._numbered = True

    def push(self, chunk: int | None, audio: bytes, now: float) -> Sequence[Event]:
        """Audio came: what can be given out now. chunk: its number, None if it has none."""
        if chunk == self._next and not self._held:
            self._next += 1
            self._strays = 0
            self._last_size = len(audio)
            return (Media(audio),)
        if chunk is None or not self._numbered:
            return (Media(audio),)
        return self._push_unexpected(chunk, audio, now)

    def tick(self, now: float) -> Sequence[Event]:
        """What has waited long enough at `now`."""
        return self._close_gaps(now) if self._held else ()

    def flush(self) -> Sequence[Event]:
        """All that is held back: the stream has ended."""
        return self._close_gaps(float("inf")) if self._held else ()

    def give_up(self) -> Sequence[Event]:
        """Let media pass as they come from now on.

        The numbers turn out not to be this track's own.
        """
        self._numbered = False
        return self.flush()

    def _push_unexpected(self, chunk: int, audio: bytes, now: float) -> Sequence[Event]:
        if self._next < 0:
            # Streams begin with chunk 1; Telnyx' own example shows 2. If the first to come is a little later,
            # the ones before it may be on their way. Nothing was heard yet, so nothing needs silence.
            self._next = 1 if 1 < chunk <= 1 + 3 else chunk
        ahead = chunk - self._next
        if ahead < 0 and chunk in self._replaced:
            del self._replaced[chunk]
            return _LATE
        if chunk in self._held:
            return _DUPLICATE
        if not 0 <= ahead <= MAX_GAP:
            return self._stray(chunk, audio, now)
        self._strays = 0
        self._held[chunk] = (audio, now)
        events = self._in_order()
        return [*events, *self._close_gaps(now)] if self._held else events

    def _stray(self, chunk: int, audio: bytes, now: float) -> Sequence[Event]:
        self._strays += 1
        if self._strays < MAX_STRAYS:
            return _DUPLICATE if chunk < self._next else _ASTRAY
        # The numbering jumped. Forward, the chunks between were lost: with these five, and up to some seconds.
        events = list(self.flush())
        events += self._fill(self._next, chunk, audio) if self._next < chunk else []
        self._since_gap = self._next = chunk
        self._strays = 0
        self._replaced.clear()
        return [*events, *self.push(chunk, audio, now)]

    def _in_order(self) -> list[Event]:
        """Those held that are due, up to the next gap."""
        events: list[Event] = []
        while (held := self._held.pop(self._next, None)) is not None:
            audio, _ = held
            events.append(Media(audio))
            self._last_size = len(audio)
            self._next += 1
        return events

    def _close_gaps(self, now: float) -> list[Event]:
        """Put silence into each gap that audio has waited behind for too long.

        Go on after it.
        """
        events: list[Event] = []
        while self._held:
            oldest = min(came for _, came in self._held.values())
            if now - oldest < MAX_WAIT - _TICK_ERROR and len(self._held) <= MAX_HELD:
                break
            events += self._silence_until(min(self._held))
            events += self._in_order()
        return events

    def _silence_until(self, chunk: int) -> list[Event]:
        missing = range(self._next, chunk)
        self._next = chunk
        if not self._last_size:
            return []  # before the first audio there is no timeline to keep
        for number in missing:
            self._replaced[number] = None
            if len(self._replaced) > MAX_REMEMBERED:
                del self._replaced[next(iter(self._replaced))]
        return self._fill(missing.start, chunk, self._held[chunk][0])

    def _fill(self, start: int, end: int, after: bytes) -> list[Event]:
        """Silence for the chunks from `start` until `end`, whose audio is `after`."""
        received, self._since_gap = max(0, start - self._since_gap), end
        return list(self._lost.fill(end - start, self._last_size, received, after))
