"""One call of a load.

It talks as any simulated call does, and keeps seconds of its audio instead of all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from gateway.audio.files import convert
from gateway.simulator import clock
from gateway.simulator.call import Call
from gateway.simulator.carrier import SimulatedCarrier, Wire
from gateway.simulator.http import Http
from gateway.simulator.load.echoes import MEMORY, EchoFollower, ShortPlayout, correlation_of
from gateway.simulator.load.lateness import Lateness
from gateway.simulator.load.percentiles import Percentiles
from gateway.simulator.plan import CALLER_RATE, CallPlan, Pcm
from gateway.simulator.report import CallReport
from gateway.simulator.speaker import Speaker, Talk
from gateway.simulator.stream import Driver, MediaStream
from gateway.simulator.voice import FRAME_MS, Encoding, Voice

Result = Literal["answered", "refused", "failed"]

HOLD_MS = 200
"""So much of the first audio is compared with the hold audio."""
HOLD_REACH_MS = 60
HOLD_CORRELATION = 0.7
SOUGHT = 25
"""Frames of speech in which an echo must have been found, if there is any: half a second."""
SHORT = 0.5
"""Seconds by which a call that the gateway ended may be shorter than asked."""


class EndlessVoice(Voice):
    """A recording over and over.

    Its length is a number of frames that no call reaches.
    """

    def __len__(self) -> int:
        return 1 << 40

    def payload(self, index: int) -> bytes:
        return super().payload(self._place(index))

    def base64(self, index: int) -> bytes:
        return super().base64(self._place(index))

    def _place(self, index: int) -> int:
        return index % len(self.payloads) if index < len(self) else index


def is_hold_audio(heard: Pcm, opening: Pcm, rate: int) -> bool:
    """Return whether what was heard first is how the hold audio begins; False where too little was heard."""
    first = heard[: rate * HOLD_MS // 1000]
    if len(first) < rate * HOLD_REACH_MS // 1000 or not np.any(first):
        return False
    return correlation_of(first, opening) >= HOLD_CORRELATION


def hold_opening(hold_audio: Pcm, rate: int) -> Pcm:
    """Return how hold audio begins. hold_audio: int16 at CALLER_RATE. rate: of the result, in Hz."""
    return convert(hold_audio[: CALLER_RATE * (HOLD_MS + HOLD_REACH_MS) // 1000], CALLER_RATE, rate)


class Common:
    """What all calls of a load share."""

    def __init__(self, audio: Pcm, hold_audio: Pcm | None) -> None:
        self.lateness = Lateness()
        self._audio = audio
        self._hold_audio = hold_audio
        self._voices: dict[tuple[Encoding, int], Voice] = {}
        self._openings: dict[int, Pcm] = {}

    def voice(self, encoding: Encoding, frame_ms: int) -> Voice:
        """Return the recording, encoded once."""
        key = (encoding, frame_ms)
        if key not in self._voices:
            self._voices[key] = EndlessVoice(self._audio, encoding, frame_ms)
        return self._voices[key]

    def hold_opening(self, rate: int) -> Pcm | None:
        """Return how the hold audio begins."""
        if self._hold_audio is None:
            return None
        if rate not in self._openings:
            self._openings[rate] = hold_opening(self._hold_audio, rate)
        return self._openings[rate]


@dataclass(frozen=True, slots=True)
class CallSummary:
    """What is left of a call when it is over.

    at                 seconds since the load began when it was placed
    result             "answered" by a bot, "refused" by the gateway (busy, rejected, forwarded), or "failed"
    reason             why it was refused or failed
    held               seconds from the open stream to the bot, or to the end, for one that heard hold audio; else None
    frames_*           of 20 ms; lost: of speech, whose echo was not heard; None where there is no echo
    echo               whether there was one; None: too little was said to a bot to tell
    faults             why an answered call was not whole, a phrase each
    """

    at: float
    carrier: str
    result: Result
    reason: str
    webhook_ms: float | None
    first_audio_ms: float | None
    held: float | None
    seconds: float
    frames_sent: int
    frames_received: int
    frames_lost: int | None
    echo: bool | None
    faults: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}


class LoadCall(Call):
    """One call. `summary` reduces its report."""

    def __init__(self, plan: CallPlan, carrier: SimulatedCarrier, http: Http, common: Common) -> None:
        super().__init__(plan, carrier, http, None)
        self.talk.audio_seconds = plan.stay  # the caller never stops talking
        self._common = common
        self._streams: list[LoadStream] = []
        self._hung_up = False

    @property
    def talking(self) -> bool:
        """A stream is open."""
        return self.talk.began is not None

    @property
    def on_hold(self) -> bool:
        return bool(self._streams) and self._streams[-1].on_hold

    def hang_up(self) -> None:
        """End it before its time."""
        self._hung_up = True
        self.talk.hangup_at = clock.now()

    def delays(self) -> Iterator[Percentiles]:
        """Return the echo's delays, ms.

        None of a call that was held: what it said to the hold audio comes back late, by design.
        """
        return (stream.follower.delays for stream in self._streams if not any(s.held for s in self._streams))

    def media_stream(self, wire: Wire, url: str) -> MediaStream:
        stream = LoadStream(wire, url, self._common)
        self._streams.append(stream)
        return stream

    def driver(self) -> Driver:
        return LoadSpeaker(self.talk, self._common)

    def summary(self, report: CallReport, at: float) -> CallSummary:
        """Reduce the report of `run`, and what was heard, to a few numbers."""
        streams = self._streams
        for stream in streams:
            stream.finish(whole=stream.log.ended_by == "caller" and not self._hung_up)
        held = next((stream.held_for for stream in streams if stream.held), None)
        echo = any(stream.follower.found for stream in streams)
        result, reason = self._result(report)
        return CallSummary(
            at=at,
            carrier=report.carrier,
            result=result,
            reason=reason,
            webhook_ms=report.webhook_ms if report.answer or report.outcome == "busy" else None,
            first_audio_ms=report.first_audio_ms,
            held=held,
            seconds=report.seconds,
            frames_sent=sum(stream.frames_sent for stream in streams),
            frames_received=report.frames_received,
            frames_lost=sum(stream.follower.lost for stream in streams) if echo else None,
            echo=echo or (False if sum(stream.follower.sought for stream in streams) >= SOUGHT else None),
            faults=self._faults(report) if result == "answered" else (),
        )

    def _result(self, report: CallReport) -> tuple[Result, str]:
        if report.outcome in ("busy", "rejected"):
            return "refused", report.outcome
        if report.outcome != "completed":
            return "failed", report.outcome.removeprefix("failed: ")
        streams = self._streams
        on_hold = bool(streams) and all(stream.on_hold or not stream.heard for stream in streams)
        if report.dialled and (on_hold or not report.opened):
            return "refused", "forwarded"
        if not report.opened:
            return "failed", next(iter(report.notes), "no stream was opened")
        if on_hold and any(stream.held for stream in streams):
            if any(verb.startswith("Refuse") for verb in report.verbs) or report.ended_by == "gateway":
                return "refused", "busy after hold"
            return "failed", "still on hold when the caller gave up"
        if not any(stream.heard for stream in streams):
            return "failed", "nothing was heard"
        return "answered", ""

    def _faults(self, report: CallReport) -> tuple[str, ...]:
        faults = list(dict.fromkeys(report.violations))[:5]
        lost = sum(stream.follower.lost for stream in self._streams)
        if lost:
            faults.append("frames were lost")
        if not self._hung_up and report.ended_by != "caller" and report.seconds < self.plan.stay - SHORT:
            faults.append("the gateway ended it early")
        if not self._hung_up and report.ended_by == "caller":
            faults += [stream.log.error for stream in self._streams if stream.log.error]
        return tuple(faults)


class LoadSpeaker(Speaker):
    """Says the shared recording, and notes how late it is said."""

    def __init__(self, talk: Talk, common: Common) -> None:
        super().__init__(talk)
        self._common = common
        self._late: Callable[[float], None] = common.lateness.frames.note

    def voice(self, wire: Wire) -> Voice:
        return self._common.voice(wire.inbound, wire.frame_ms)

    def _say(self, index: int) -> None:
        self._late((clock.now() - self._began - index * self._frame) * 1000)
        super()._say(index)


class LoadStream(MediaStream):
    """A stream that counts its audio and follows its echo.

    It keeps no more of the audio than that needs.
    """

    def __init__(self, wire: Wire, url: str, common: Common) -> None:
        super().__init__(wire, url, None)
        encoding = wire.outbound
        self.playout: ShortPlayout = ShortPlayout(encoding.bytes_per_second, encoding.sample_bytes)
        self.log.playout = self.playout
        self.follower = EchoFollower(wire.inbound, encoding, self.playout)
        self.frames_sent = 0
        self.held = False
        self._opening = common.hold_opening(encoding.rate)
        self._judged = self._opening is None
        self._bot_came = False
        self._per_message = wire.frame_ms // FRAME_MS
        self._look_in = 1000 // wire.frame_ms

    @property
    def heard(self) -> bool:
        return self.log.received_bytes > 0

    @property
    def on_hold(self) -> bool:
        """The hold audio is, or was at the end, all that has been heard."""
        return self.held and not self.log.cleared

    @property
    def held_for(self) -> float:
        """Return the seconds from the open stream to the bot.

        To the clear of the hold audio, that is; else until now, or the end.
        """
        until = self.log.ended or clock.now()
        if self.log.cleared and self.playout.first_clear is not None:
            until = self.playout.first_clear[0]
        return until - self.log.opened

    def said(self, now: float, frame: bytes) -> None:
        self.follower.said(now, frame)
        self.frames_sent += self._per_message
        self._look_in -= 1
        if not self._look_in:
            self._look_in = 1000 // self.wire.frame_ms
            self._look(now)

    def finish(self, *, whole: bool) -> None:
        """Look at the rest, as the stream is over."""
        self._judge_opening()
        if not self.held:
            self.follower.finish(whole=whole)
        elif self._bot_came:
            self.follower.finish(whole=False)

    def _look(self, now: float) -> None:
        """Look at the last second of the stream."""
        self._judge_opening()
        if self.held and not self._bot_came:
            # What is said to hold audio reaches no bot, but for its last second.
            self.follower.skip()
            self._bot_came = not self.on_hold
        elif self.heard:
            self.follower.follow(now)
        elif now - self.log.opened > MEMORY:
            self.follower.skip()

    def _judge_opening(self) -> None:
        """Decide whether what is heard first is the hold audio."""
        if self._judged:
            return
        encoding = self.wire.outbound
        wanted = encoding.bytes_per_second * HOLD_MS // 1000
        first_clear = self.playout.first_clear
        total = first_clear[1] if first_clear is not None else self.playout.total
        if total < wanted and first_clear is None and not self.log.ended:
            return
        self._judged = True
        if self.playout.forgotten or self._opening is None:
            return
        heard = b"".join(piece.payload for piece in self.playout.heard[:HOLD_MS])[: min(total, wanted)]
        self.held = is_hold_audio(encoding.decode(heard), self._opening, encoding.rate)
