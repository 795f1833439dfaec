"""What the caller has still to hear: one queue per stream, in the carrier's codec. Sans-I/O; the clock is passed in.

The carrier plays what it is sent back to back, and drops what it has not played when told to clear. So we keep an
estimate of when it will have played all that it was sent (the playback's end), and send at once while it has less than
the target buffer unplayed; the rest waits here, where a clear costs nothing. Keys, and recordings that are resumed,
wait in the same queue until we estimate that the audio before them has been played. Hang-up and transfer wait for the
carrier's mark: see `playback_barriers`.

Audio leaves in whole units: 20 ms frames, or the carrier's own chunks. A remainder is carried to the next audio, and
padded with silence when none comes: padded too early it would put a gap into a word, too late it would cut its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import TypeAlias

from gateway.audio.format import FRAME_MS, AudioFormat
from gateway.media.excess_delay import ExcessDelay
from serializers.base import Wire


@dataclass(frozen=True, slots=True)
class PlayoutLimits:
    """Seconds."""

    target_buffer: float = 0.2
    """How much the carrier may have unplayed: its jitter buffer and our ticks want some, a clear wants little. The
    setting `playout_lead_ms`."""
    capacity: float = 120.0
    """Speech beyond this is dropped, the newest first: a bot that sends more has lost its way. As many marks and
    actions may wait behind it as frames of 20 ms."""
    standing: float = 0.01
    """Unplayed audio, as it is just before more comes, that a real-time bot may have for good: half a frame, as leaving
    one out takes away a whole one. More is delay that never goes away by itself: left by a stall, or by clocks that
    drift apart."""
    standing_for: float = 2.0
    """After so long without relief, in which jitter has had no need of it, silent frames are left out until it is
    gone. A shorter pause is not noticed."""
    jitter: float = 0.5
    """A real-time bot's audio is early or late by no more than this without a stall: TCP repairs a loss within it."""
    pad_after: float = 0.06
    """How late a real-time bot may be before the remainder of a unit is padded out: three frames."""


@dataclass(frozen=True, slots=True)
class SendMark:
    """Put a mark behind the audio."""

    name: str


@dataclass(frozen=True, slots=True)
class AtPlaybackEnd:
    """Do this when the audio before it has been played (by our estimate)."""

    action: Callable[[], None]


PlayoutItem: TypeAlias = SendMark | AtPlaybackEnd


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a clear took away.

    marks: those that had not been sent yet.
    ms: milliseconds of audio not heard.
    """

    marks: tuple[str, ...]
    ms: int


class Playout:
    """Queues the audio of one stream, and estimates the end of its playback.

    Sizes are bytes of the carrier's codec.

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
        # Ten frames of 20 ms are, in floats, a hair less than 200: an eleventh would be sent.
        self._target_buffer = limits.target_buffer - 1e-6
        self._send_audio = send_audio
        self._send_mark = send_mark
        # The least that the carrier takes in one message.
        self._message_bytes = max(wire.chunk_min, wire.chunk or audio.bytes_for_ms(FRAME_MS))
        self._bytes_per_second = audio.bytes_for_ms(1000)
        self._capacity_bytes = int(limits.capacity * self._bytes_per_second)
        self._queue: deque[bytes | PlayoutItem] = deque()
        self._queued_bytes = 0
        self._items = 0
        self._items_max = int(limits.capacity * 1000) // FRAME_MS
        self._partial = b""
        self._arrived = 0.0
        """When audio came last."""
        self._expected = 0.0
        """When more is due, if the bot speaks in real time: audio of 100 ms is followed by more 100 ms later."""
        self._sent_bytes = 0
        self._dropped_bytes = 0
        self._long_chunks = self._message_bytes > audio.bytes_for_ms(FRAME_MS)
        self._excess = ExcessDelay(
            max_excess=limits.standing,
            stop_below=limits.standing / 2,
            stand_seconds=limits.standing_for,
            jitter=limits.jitter,
        )
        self.skipped = 0
        """Bytes of silence left out."""
        self.playback_end = 0.0
        """When the carrier will have played all that it was sent."""

    @property
    def idle(self) -> bool:
        """Nothing waits here. The carrier may still be playing."""
        return not self._queue and not self._partial

    def unplayed(self, now: float) -> float:
        """Seconds of audio not heard yet, here and at the carrier."""
        return (self._queued_bytes + len(self._partial)) / self._bytes_per_second + max(0.0, self.playback_end - now)

    def played_ms(self, now: float) -> int:
        """Return how much has been heard so far, by our estimate.

        Silence left out counts as heard: nothing more will come of it.
        """
        ahead = max(0.0, self.playback_end - now) * self._bytes_per_second
        heard = self._sent_bytes + self.skipped - self._dropped_bytes - ahead
        return max(0, int(heard * 1000 / self._bytes_per_second))

    def play(self, payload: bytes, now: float) -> int:
        """Queue audio, and send what is due. Returns how many bytes did not fit."""
        if self._is_late(len(payload), now) and payload == self.format.silence(len(payload)):
            self.skipped += len(payload)
            return 0
        room = max(0, self._capacity_bytes - self._queued_bytes - len(self._partial))
        lost = max(0, len(payload) - room)
        if lost:
            payload = payload[:room]
        self._arrived = now
        self._expected = max(self._expected, now) + len(payload) / self._bytes_per_second
        if len(payload) == self._message_bytes and self.idle and self.playback_end - now < self._target_buffer:
            self._emit(payload, now)  # the usual case: a real-time bot, one frame at a time
            return lost
        data = self._partial + payload if self._partial else payload
        whole = len(data) - len(data) % self._message_bytes
        for at in range(0, whole, self._message_bytes):
            self._queue.append(data[at : at + self._message_bytes])
        self._queued_bytes += whole
        self._partial = data[whole:]
        self._send_due(now)
        return lost

    def _is_late(self, size: int, now: float) -> bool:
        """Return whether audio that has come is to be left out if it is silence. size: in bytes.

        If less than its length is excess, the carrier runs dry for the rest, which sounds the same: silence. Not so
        where chunks are longer than what comes: then the gap is at a chunk's beginning, which may be in a word.
        """
        whole = self._message_bytes
        # What comes in parts of a message waits for the others: that much always stands.
        inherent = (whole - gcd(whole, size)) / self._bytes_per_second
        length = size / self._bytes_per_second
        late = self._excess.should_trim(length, self.unplayed(now) - inherent, now)
        return late and (not self._long_chunks or self._excess.excess >= length)

    def mark(self, name: str, now: float) -> bool:
        """Send a mark behind the audio so far. False: too many wait, it is lost."""
        return self._enqueue(SendMark(name), now)

    def at_playback_end(self, action: Callable[[], None], now: float) -> bool:
        """Call `action` when the audio so far has been played, by our estimate.

        False: too many wait already, it never will be.
        """
        return self._enqueue(AtPlaybackEnd(action), now)

    def clear(self, now: float) -> Dropped:
        """Forget all that has not been heard. The bridge sends the carrier's clear.

        What was to happen behind the audio happens at once: there is nothing left to wait for.
        """
        ahead = max(0.0, self.playback_end - now)
        ms = int((self._queued_bytes + len(self._partial)) * 1000 / self._bytes_per_second + ahead * 1000)
        marks = tuple(item.name for item in self._queue if isinstance(item, SendMark))
        actions = [item.action for item in self._queue if isinstance(item, AtPlaybackEnd)]
        self._queue.clear()
        self._queued_bytes = self._items = 0
        self._partial = b""
        self._dropped_bytes += int(ahead * self._bytes_per_second)
        self.playback_end = self._expected = now
        self._excess.reset()
        for action in actions:
            action()
        return Dropped(marks, ms)

    def tick(self, now: float) -> None:
        """Send what is due; pad a remainder that has waited long enough."""
        if self._partial and now >= self._pad_at():
            self._pad()
        if self._queue:
            self._send_due(now)

    def _enqueue(self, item: PlayoutItem, now: float) -> bool:
        if self._items >= self._items_max:
            return False
        if self._partial:  # it belongs behind audio that is not a whole unit yet: that leaves padded
            self._pad()
        self._queue.append(item)
        self._items += 1
        self._send_due(now)
        return True

    def _pad_at(self) -> float:
        """Return when to pad: when a real-time bot is late.

        Or, after a burst, just before the carrier runs dry.
        """
        # The next part of a burst comes after a gap (speech is made in pieces): wait for longer than in real time.
        burst_over = max(self._arrived + 4 * self._limits.pad_after, self.playback_end - FRAME_MS / 1000)
        return min(self._expected + self._limits.pad_after, burst_over)

    def _pad(self) -> None:
        missing = -len(self._partial) % self._message_bytes
        self._queue.append(self._partial + self.format.silence(missing))
        self._queued_bytes += len(self._partial) + missing
        self._partial = b""

    def _send_due(self, now: float) -> None:
        queue = self._queue
        while queue:
            item = queue[0]
            if isinstance(item, bytes):  # audio: up to the target buffer
                if self.playback_end - now >= self._target_buffer:
                    return
                queue.popleft()
                self._queued_bytes -= len(item)
                self._emit(item, now)
            else:  # a mark goes out at once: the carrier orders it behind the audio. An action waits for the playback
                if isinstance(item, AtPlaybackEnd) and self.playback_end > now:
                    return
                queue.popleft()
                self._items -= 1
                if isinstance(item, AtPlaybackEnd):
                    item.action()
                else:
                    self._send_mark(item.name)

    def _emit(self, payload: bytes, now: float) -> None:
        self._send_audio(payload, now)
        self._sent_bytes += len(payload)
        start = self.playback_end if self.playback_end > now else now
        self.playback_end = start + len(payload) / self._bytes_per_second
