"""The caller talks: media at absolute deadlines, the hang-up, the plan's faults.

Frame n of the call is due n · 20 ms after the first, whatever became of those before it: a relative sleep per frame
drifts, and starves the jitter buffer at the other end. A second stream of the same call goes on where the time is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

from gateway.simulator import clock
from gateway.simulator.carrier import Wire
from gateway.simulator.plan import CALLER_RATE, CallPlan
from gateway.simulator.stream import MediaStream
from gateway.simulator.voice import Voice, voice_for

TAIL = 0.3  # of the echo, beyond the audio's own length: resamplers, padding of the last chunk
NEVER_START_PATIENCE = 15.0
MISBEHAVE_AT = 0.2
OVERSIZED = 1 << 20


class Talk:
    """The call's own time, over all its streams.

    When the caller began, and what they have heard.
    """

    def __init__(self, plan: CallPlan) -> None:
        self.plan = plan
        self.began: float | None = None
        self.hangup_at: float | None = None
        self.audio_seconds = len(plan.audio) / CALLER_RATE
        self.heard_before = 0.0
        """Seconds heard on streams that are over."""
        self.streams = 0

    def begin(self, now: float) -> float:
        if self.began is None:
            self.began = now
            if self.plan.faults.hangup_at is not None:
                self.hangup_at = now + self.plan.faults.hangup_at
        return self.began

    def deadline(self, answered: float) -> float:
        """Return when the caller hangs up at the latest."""
        if self.hangup_at is not None:
            return self.hangup_at
        return (self.began if self.began is not None else answered) + self.plan.stay + self.plan.linger


class Speaker:
    """The driver of one stream."""

    def __init__(self, talk: Talk, *, silent: bool = False) -> None:
        self._talk = talk
        self._plan = talk.plan
        self._faults = talk.plan.faults
        self._silent = silent
        """Only listens for the gateway's close, as in `never_start`."""
        self._timers: set[asyncio.TimerHandle] = set()
        self._tick_timer: asyncio.TimerHandle | None = None
        self._slow: asyncio.TimerHandle | None = None
        self._index = 0
        self._held: tuple[bytes, bytes] | None = None

    def start(self, stream: MediaStream) -> None:
        self._stream = stream
        self._wire = stream.wire
        self._first = self._talk.streams == 0
        self._talk.streams += 1
        faults = self._faults
        if connected := self._wire.connected():
            for _ in range(2 if faults.connected_twice else 1):
                stream.send(connected)
        if faults.never_start or self._silent:
            self._timers.add(asyncio.get_running_loop().call_later(NEVER_START_PATIENCE, stream.drop, "caller"))
            return
        self._start_message = self._wire.start()
        stream.send(self._start_message)
        self._voice = self.voice(self._wire)
        self._frame = self._wire.frame_ms / 1000
        now = clock.now()
        self._began = self._talk.begin(now)
        self._opened = now
        self._index = math.ceil((now - self._began) / self._frame)
        self._frames = min(len(self._voice), math.ceil(self._plan.stay / self._frame))
        self._misbehave()
        self._tick()

    def voice(self, wire: Wire) -> Voice:
        """Return what is said on this stream, in its encoding."""
        return voice_for(self._plan.audio, wire.inbound, wire.frame_ms)

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        if self._slow is not None:
            self._slow.cancel()
        rate = self._wire.outbound.bytes_per_second
        self._talk.heard_before += self._stream.playout.played(clock.now()) / rate

    # Media

    def _tick(self) -> None:
        now = clock.now()
        # All that is due: after a stall a carrier's frames come in a burst.
        while self._began + self._index * self._frame <= now + clock.EARLY:
            if self._is_over(now):
                self._stream.hang_up()
                return
            self._say(self._index)
            self._index += 1
        self._tick_timer = clock.call_at(self._began + self._index * self._frame, self._tick)

    def _say(self, index: int) -> None:
        voice = self._voice
        at_ms = round((self._began + index * self._frame - self._opened) * 1000)
        # Past the plan's end the caller is silent, though the recording may go on.
        position = index if index < self._frames else len(voice)
        faults = self._faults
        payload = voice.payload(position)
        message = self._wire.media(max(at_ms, 0), voice.base64(position))
        if faults.shuffle_media and index % 10 == 5 and self._held is None:
            self._held = (message, payload)
            return
        self._stream.send(message, payload)
        if self._held is not None:
            held, held_payload = self._held
            self._held = None
            # Sent late, but said before: the sent audio stays in the order in which it was said.
            self._stream.send(held, held_payload)
            sent = self._stream.log.sent
            sent[-1].payload, sent[-2].payload = sent[-2].payload, sent[-1].payload
        if faults.duplicate_media and index % 10 == 8:
            self._stream.send(message)
        if faults.foreign_track:
            self._stream.send(self._wire.foreign_media(message))

    def _is_over(self, now: float) -> bool:
        """Tell whether the caller hangs up now.

        When the plan says so; or when all is said, and its echo was heard or waited for long enough.
        """
        talk = self._talk
        if talk.hangup_at is not None:
            return now >= talk.hangup_at
        if now < self._began + self._plan.stay:
            return False
        rate = self._wire.outbound.bytes_per_second
        heard = talk.heard_before + self._stream.playout.played(now) / rate
        said = min(talk.audio_seconds, self._plan.stay)
        return heard >= said + TAIL or now >= talk.deadline(now)

    # Misbehaviour

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        """Act at `seconds` of the call, unless that has passed on an earlier stream."""
        when = self._began + seconds
        if when >= self._opened:
            self._timers.add(clock.call_at(when, action))

    def _misbehave(self) -> None:
        faults, stream = self._faults, self._stream
        for seconds, digit in faults.dtmf:
            self._at(seconds, partial(self._press, digit))
        if self._first:
            if faults.drop_stream_at is not None:
                self._at(faults.drop_stream_at, stream.drop)
            if faults.close_stream_at is not None:
                self._at(faults.close_stream_at, stream.close)
            if faults.half_open_at is not None:
                self._at(faults.half_open_at, self._freeze)
            self._junk()
        if faults.second_start:
            self._at(1.0, lambda: stream.send(self._start_message))
        if faults.slow_reader:
            self._read_slowly(paused=True)

    def _press(self, digit: str) -> None:
        self._stream.send(self._wire.dtmf(digit))

    def _junk(self) -> None:
        faults, stream = self._faults, self._stream
        if faults.unknown_events:
            for tenth in range(1, 20):
                self._at(tenth / 10, lambda: stream.send('{"event":"weather","weather":{"sky":null}}'))
        if faults.binary_junk:
            self._at(MISBEHAVE_AT, lambda: stream.send_binary(bytes(range(256))))
        if faults.bad_json:
            for text in ("{", "[]", "null", '{"event":7}', '{"event":"media","media":null}', '"', ""):
                self._at(MISBEHAVE_AT, partial(stream.send, text))
        if faults.invalid_utf8:
            self._at(MISBEHAVE_AT, lambda: stream.send(b'{"event":"\xff\xfe"}'))
        if faults.oversized:
            self._at(MISBEHAVE_AT, lambda: stream.send('{"event":"' + "x" * OVERSIZED + '"}'))

    def _freeze(self) -> None:
        """Leave the stream half open.

        What the gateway does about it cannot be seen from here, so give up after the stay.
        """
        self._stream.freeze()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        runtime_timeout = self._plan.stay + self._plan.linger
        self._timers.add(asyncio.get_running_loop().call_later(runtime_timeout, self._stream.drop, "caller"))

    def _read_slowly(self, *, paused: bool) -> None:
        self._stream.pause_reading(paused)
        delay = 0.9 if paused else 0.1
        self._slow = asyncio.get_running_loop().call_later(delay, lambda: self._read_slowly(paused=not paused))
