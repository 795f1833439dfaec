"""What the caller has still to hear: one queue per stream, in the carrier's codec. Sans-I/O; the clock is passed in.

The carrier plays what it is sent back to back, and drops what it has not played when told to clear. So we keep an
estimate of how far it is (`horizon`: when it will have played all it was sent) and send at once while it has less
than the lead unplayed; the rest waits here, where a clear costs nothing. What must happen *behind* the audio (keys,
hang-up, transfer) waits in the same queue until the horizon has passed.

Audio leaves in whole units: 20 ms frames, or the carrier's own chunks. A remainder is carried to the next audio, and
padded with silence when none comes: padded too early it would put a gap into a word, too late it would cut its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.audio.format import AudioFormat
from gateway.media.excess_delay import ExcessDelay
from serializers.base import Wire

FRAME_MS = 20


@dataclass(frozen=True, slots=True)
class PlayoutLimits:
    """Seconds."""

    lead: float = 0.2
    """How much the carrier may have unplayed: its jitter buffer and our ticks want some, a clear wants little."""
    capacity: float = 120.0
    """Speech beyond this is dropped, the newest first: a bot that sends more has lost its way. Of marks and actions
    behind the audio as many may wait as frames: one for each."""
    standing: float = 0.1
    """What a real-time bot may have standing unplayed beyond one message; more is delay that never goes away by itself:
    left by a stall, or by clocks that drift apart."""
    standing_for: float = 5.0
    """After so long without relief, silent frames are left out until it is gone. Nobody hears a shorter pause."""
    steady: float = 0.5
    """A real-time bot is not earlier or later than this, but for a stall. TCP repairs a loss in less."""
    pad_after: float = 0.06
    """How late a real-time bot may be before the remainder of a unit is padded out: three frames."""


@dataclass(frozen=True, slots=True)
class SendMark:
    """Put a mark behind the audio."""

    name: str


@dataclass(frozen=True, slots=True)
class AfterPlayback:
    """Do this when the audio before it has been played (by our estimate)."""

    action: Callable[[], None]


Item: TypeAlias = SendMark | AfterPlayback


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a clear took away. marks: those that had not been sent yet; ms: audio not heard."""

    marks: tuple[str, ...]
    ms: int


class Playout:
    """The queue and the horizon of one stream.

    send_audio(payload, now): one message's worth of audio goes to the carrier now; send_mark(name): likewise.
    """

    def __init__(
        self,
        audio: AudioFormat,
        wire: Wire,
        limits: PlayoutLimits,
        *,
        send_audio: Callable[[bytes, float], None],
        send_mark: Callable[[str], None],
    ) -> None:
        self.format = audio
        self._limits = limits
        self._lead = limits.lead - 1e-6  # ten frames of 20 ms are, in floats, a hair less than 200
        self._send_audio = send_audio
        self._send_mark = send_mark
        self._unit = wire.chunk or audio.bytes_for_ms(FRAME_MS)
        self._message = max(wire.chunk_min, self._unit)
        self._rate = audio.bytes_for_ms(1000)
        self._capacity = int(limits.capacity * self._rate)
        self._queue: deque[bytes | Item] = deque()
        self._queued = 0
        self._items = 0
        self._items_max = int(limits.capacity * 1000) // FRAME_MS
        self._rest = b""
        self._arrived = 0.0
        """When audio came last."""
        self._expected = 0.0
        """When more is due, if the bot speaks in real time: audio of 100 ms is followed by more 100 ms later."""
        self._sent = 0
        self._dropped_sent = 0
        message = self._message / self._rate
        self._excess = ExcessDelay(
            most=message + limits.standing,
            enough=message + FRAME_MS / 1000,
            stands=limits.standing_for,
            steady=limits.steady,
        )
        self.skipped = 0
        """Bytes of silence left out."""
        self._horizon = 0.0

    @property
    def idle(self) -> bool:
        """Nothing waits here. The carrier may still be playing."""
        return not self._queue and not self._rest

    @property
    def horizon(self) -> float:
        """When the carrier will have played all it was sent."""
        return self._horizon

    def unplayed(self, now: float) -> float:
        """Seconds of audio not heard yet, here and at the carrier."""
        return (self._queued + len(self._rest)) / self._rate + max(0.0, self._horizon - now)

    def played_ms(self, now: float) -> int:
        """All that has been heard so far, by our estimate. Silence left out is heard: nothing more will come of it."""
        ahead = max(0.0, self._horizon - now) * self._rate
        return max(0, int((self._sent + self.skipped - self._dropped_sent - ahead) * 1000 / self._rate))

    def play(self, payload: bytes, now: float) -> int:
        """Queue audio, and send what may go at once. Returns how many bytes did not fit and are lost."""
        late = self._excess.should_trim(len(payload) / self._rate, self.unplayed(now), now)
        if late and payload == self.format.silence(len(payload)):
            self.skipped += len(payload)
            return 0
        room = max(0, self._capacity - self._queued - len(self._rest))
        lost = max(0, len(payload) - room)
        if lost:
            payload = payload[:room]
        self._arrived = now
        self._expected = max(self._expected, now) + len(payload) / self._rate
        if len(payload) == self._message and self.idle and self._horizon - now < self._lead:
            self._emit(payload, now)  # the usual case: a real-time bot, one frame at a time
            return lost
        data = self._rest + payload if self._rest else payload
        whole = len(data) - len(data) % self._message
        for at in range(0, whole, self._message):
            self._queue.append(data[at : at + self._message])
        self._queued += whole
        self._rest = data[whole:]
        self._release(now)
        return lost

    def mark(self, name: str, now: float) -> bool:
        """Send a mark behind the audio so far. False: too many wait already, this one is lost."""
        return self._enqueue(SendMark(name), now)

    def behind(self, action: Callable[[], None], now: float) -> bool:
        """Call `action` when the audio so far has been played. False: too many wait already, it never will be."""
        return self._enqueue(AfterPlayback(action), now)

    def clear(self, now: float) -> Dropped:
        """Forget all that has not been heard. The caller of this sends the carrier's clear.

        What was to happen behind the audio happens at once: there is nothing left to wait for.
        """
        ahead = max(0.0, self._horizon - now)
        ms = int((self._queued + len(self._rest)) * 1000 / self._rate + ahead * 1000)
        marks = tuple(item.name for item in self._queue if isinstance(item, SendMark))
        actions = [item.action for item in self._queue if isinstance(item, AfterPlayback)]
        self._queue.clear()
        self._queued = self._items = 0
        self._rest = b""
        self._dropped_sent += int(ahead * self._rate)
        self._horizon = self._expected = now
        self._excess.reset()
        for action in actions:
            action()
        return Dropped(marks, ms)

    def tick(self, now: float) -> None:
        """Release what the lead allows; pad a remainder that has waited long enough."""
        if self._rest and now >= self._pad_at():
            self._pad()
        if self._queue:
            self._release(now)

    def _enqueue(self, item: Item, now: float) -> bool:
        if self._items >= self._items_max:
            return False
        if self._rest:  # it belongs behind audio that is not a whole unit yet: that leaves padded
            self._pad()
        self._queue.append(item)
        self._items += 1
        self._release(now)
        return True

    def _pad_at(self) -> float:
        """When a real-time bot is late; or, after a burst, just before the carrier runs dry."""
        burst_over = max(self._arrived + 4 * self._limits.pad_after, self._horizon - FRAME_MS / 1000)
        return min(self._expected + self._limits.pad_after, burst_over)

    def _pad(self) -> None:
        missing = -len(self._rest) % self._message
        self._queue.append(self._rest + self.format.silence(missing))
        self._queued += len(self._rest) + missing
        self._rest = b""

    def _release(self, now: float) -> None:
        queue = self._queue
        while queue:
            item = queue[0]
            if isinstance(item, bytes):
                if self._horizon - now >= self._lead:
                    return
                queue.popleft()
                self._queued -= len(item)
                self._emit(item, now)
            else:
                if isinstance(item, AfterPlayback) and self._horizon > now:
                    return
                queue.popleft()
                self._items -= 1
                if isinstance(item, AfterPlayback):
                    item.action()
                else:
                    self._send_mark(item.name)

    def _emit(self, payload: bytes, now: float) -> None:
        self._send_audio(payload, now)
        self._sent += len(payload)
        start = self._horizon if self._horizon > now else now
        self._horizon = start + len(payload) / self._rate
