"""The worker's end of a session, without I/O: what the bot hears, what is unplayed.

Messages of the link go in (`received`), events for the bot come out (`next_event`). The asyncio side is in `api`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from gateway.audio.quiet import is_quiet
from gateway.protocol import pcm

MAX_BACKLOG = 30.0
"""Seconds of the caller's audio that wait for a bot that does not read. What is older needs no answer."""
MAX_EVENTS = 4000
"""Events that wait, of all kinds: 30 s of 20 ms audio are 1,500."""
MAX_KEYS = 256
"""Keys that wait for the one who collects them; further ones are dropped: no caller presses so many at once."""


@dataclass(frozen=True, slots=True)
class Audio:
    """What the caller says.

    pcm: 16 bit little-endian, mono.
    sample_rate: Hz, the same for the whole call.
    """

    pcm: bytes
    sample_rate: int


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed a key. digit: one of 0-9 * # A-D."""

    digit: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What was played before `call.mark(name)` has been heard.

    played: False if it was flushed, and never will be heard.
    """

    name: str
    played: bool


@dataclass(frozen=True, slots=True)
class Status:
    """Something happened to the call.

    status: one of the constants below; a newer gateway may send others.
    fields: what comes with it.
    """

    status: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    RINGING: ClassVar = "ringing"
    """The phone of a call that we placed has rung. The bot's call begins when it is answered: this and ANSWERED are the
    first events of such a call, ahead of all audio."""
    ANSWERED: ClassVar = "answered"
    """It was picked up."""
    HUMAN: ClassVar = "human"
    """By a human, as far as the carrier can tell. Comes only where `machine_detection` was asked for."""
    MACHINE: ClassVar = "machine"
    """By an answering machine."""
    REATTACHED: ClassVar = "reattached"
    """The connection to the caller or to the gateway was lost and is back; what was playing was not heard to its
    end."""
    TRANSFER_FAILED: ClassVar = "transfer_failed"
    """Nobody answered the transfer; the caller is back."""
    REFUSED: ClassVar = "refused"
    """What the bot asked for was not done. `fields`: `what` ("transfer", "dtmf", "hangup") and `reason`."""
    ENDING: ClassVar = "ending"
    """The call reaches its longest duration soon. `fields["seconds"]`: until then. What the bot has said by then is
    heard to its end."""
    PLAYOUT_OVERFLOW: ClassVar = "playout_overflow"
    """The bot is far ahead of the caller (120 s): its newest audio was dropped."""
    AUDIO_DROPPED: ClassVar = "audio_dropped"
    """The bot has not read for so long that `fields["ms"]` of the caller's audio were dropped."""


Event: TypeAlias = Audio | Dtmf | Mark | Status


class Conversation:
    """One session, over however many links."""

    def __init__(self, start: pcm.Start) -> None:
        self.start = start
        self.sample_rate = start.sample_rate
        self.end_reason = ""
        """An `EndReason` once the call is over."""
        self.reports = 0
        """The number of the gateway's reports of what was played."""
        self._events: deque[Event] = deque()
        self._keys: deque[Dtmf] | None = None  # those that wait to be collected; None: keys are events
        self._backlog = 0  # bytes of audio among the events
        self._backlog_max = int(MAX_BACKLOG * self.sample_rate) * 2
        self._dropped = 0  # bytes of audio that the bot has not been told of
        self._unplayed = 0.0  # ms sent and not reported as played or dropped
        # The gateway counts what was played over the whole session. A worker that comes in later does not know where
        # the count stands, and takes the first report as zero.
        self._played: int | None = None if start.resumed else 0

    @property
    def ended(self) -> bool:
        """True if the call is over; what it said before may still be read."""
        return self.end_reason != ""

    def end(self, reason: str) -> None:
        """Note that the call is over. The first reason counts."""
        self.end_reason = self.end_reason or reason or "unknown_end"

    def attached(self) -> None:
        """Note that another link serves the session: what the old one had not played is gone."""
        self._unplayed, self._played = 0.0, None
        self._put(Status("reattached"))

    # From the gateway.

    def received(self, data: bytes, text: bool) -> None:
        """Take one message of the link's. What cannot be understood is ignored, as the protocol asks."""
        if self.ended:
            return
        if not text:
            self._heard(data)
            return
        match pcm.decode_to_worker(data):
            case pcm.Dtmf(digit):
                self._pressed(Dtmf(digit))
            case pcm.MarkReached(name, played):
                self._put(Mark(name, played))
            case pcm.Played(ms):
                self._report(ms, 0)
            case pcm.Cleared(played_ms, dropped_ms):
                self._report(played_ms, dropped_ms)
            case pcm.Status(status, fields):
                if status == "reattached":
                    self.forget_unplayed()  # it was lost with the carrier's stream
                self._put(Status(status, fields))
            case pcm.Stop(reason):
                self.end(reason)

    def _heard(self, data: bytes) -> None:
        data = data[: len(data) & ~1]  # whole samples
        if data:
            self._backlog += len(data)
            self._put(Audio(data, self.sample_rate))

    def _pressed(self, key: Dtmf) -> None:
        if self._keys is None:
            self._put(key)
        elif len(self._keys) < MAX_KEYS:
            self._keys.append(key)

    def _put(self, event: Event) -> None:
        self._events.append(event)
        while self._backlog > self._backlog_max or len(self._events) > MAX_EVENTS:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop the oldest audio; another event only when there is no audio."""
        for i, event in enumerate(self._events):
            if isinstance(event, Audio):
                self._backlog -= len(event.pcm)
                self._dropped += len(event.pcm)
                del self._events[i]
                return
        self._events.popleft()

    # To the bot.

    def skip_first_silence(self) -> None:
        """Forget the silence that has waited ahead of the caller's first word, as the bot begins to listen.

        A bot that answers as it hears, an echo, an interpreter, would be late by it for the whole call.
        """
        kept = list[Event]()
        while self._events:
            event = self._events[0]
            if isinstance(event, Audio) and not is_quiet(event.pcm):
                break
            self._events.popleft()
            if isinstance(event, Audio):
                self._backlog -= len(event.pcm)
            else:
                kept.append(event)
        self._events.extendleft(reversed(kept))

    def next_event(self) -> Event | None:
        """Take what the bot hears next, None if there is nothing (yet)."""
        if self._dropped:
            ms, self._dropped = self._ms(self._dropped), 0
            return Status("audio_dropped", {"ms": round(ms)})
        if not self._events:
            return None
        event = self._events.popleft()
        if isinstance(event, Audio):
            self._backlog -= len(event.pcm)
        return event

    # Keys that are collected: they are no events meanwhile.

    @property
    def collecting(self) -> bool:
        """True while keys are collected."""
        return self._keys is not None

    def collect_keys(self) -> None:
        """Collect keys from now on, beginning with those that the bot has not read yet."""
        self._keys = deque(event for event in self._events if isinstance(event, Dtmf))
        if self._keys:
            self._events = deque(event for event in self._events if not isinstance(event, Dtmf))

    def next_key(self) -> str:
        """Take the next collected key, "" if there is none (yet)."""
        return self._keys.popleft().digit if self._keys else ""

    def stop_collecting(self) -> None:
        """Let keys be events again, first those that were not taken."""
        left, self._keys = self._keys or (), None
        self._events.extendleft(reversed(left))

    # What the bot says, as far as the caller has not heard it.

    @property
    def unplayed(self) -> float:
        """Seconds of audio sent that the gateway has not reported as played or dropped."""
        return self._unplayed / 1000

    def sent(self, audio: bytes) -> None:
        """Note that this audio went to the gateway."""
        self._unplayed += self._ms(len(audio))

    def forget_unplayed(self) -> None:
        """Take all that was sent for played."""
        self._unplayed = 0.0

    def _report(self, played: int, dropped: int) -> None:
        """Count differences only, and never below 0: an error of the count heals with the next silence."""
        before = played if self._played is None else self._played
        self._played = max(before, played)
        self._unplayed = max(0.0, self._unplayed - max(0, played - before) - max(0, dropped))
        self.reports += 1

    def _ms(self, length: int) -> float:
        return length / 2 / self.sample_rate * 1000
