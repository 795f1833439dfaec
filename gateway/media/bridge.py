"""Joins a stream and a link: the carrier's bytes to the bot's PCM, and back.

It writes to both sockets, never awaits, and knows no clock but the one passed in: a process-wide ticker calls
`tick(now)` every 20 ms for release, padding and every deadline. It belongs to the session, not to a connection: streams
and links come and go under it, and what the caller has still to hear, or the bot to be told, stays here.

Frames cross in one step: decode, transcode, send. No task, no queue, no log line for a frame.

What the bot asks for behind its speech waits

| what | where | until |
|---|---|---|
| keys, a recording that is resumed | `playout` | we estimate that the speech has been played |
| hang-up, transfer | `playback_barriers` | the carrier's mark says so, or a deadline has passed |
| all that follows keys which the carrier presses outside of the stream | `deferred` | the new stream is there |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from gateway.audio.format import FRAME_SECONDS, AudioFormat
from gateway.call_recording.recorder import CallRecorder
from gateway.media.caller_audio import CallerAudio
from gateway.media.deferred import COMMANDS, PORTION, TOO_MUCH_WAITS, AfterKeys, DeferredItem, DeferredMessages
from gateway.media.hold import BLOCK_SECONDS, HoldAudio
from gateway.media.playback_barriers import MAX_COMMANDS, PlaybackBarriers, is_ours
from gateway.media.playing import PlayingStream
from gateway.media.playout import Dropped
from gateway.media.recording_tap import RecordingTap
from gateway.media.types import BridgeEvents, BridgeLimits, Counts, Stream
from gateway.protocol import pcm
from gateway.sockets import Socket
from serializers.base import Dtmf, Failure, Mark, Media, Rejected, Silence, Stop

PLAYED_EVERY = 1.0
"""Seconds between two reports to the bot of what has been heard."""
AT_ONCE = pcm.Clear | pcm.State | pcm.PauseRecording
"""What takes effect ahead of the audio that the bot has sent before."""


class Bridge:
    """Carries one session's audio.

    link_rate: of the bot's PCM, Hz.
    hold_audio: PCM at that rate, played over and over to a caller without a bot.
    """

    def __init__(self, link_rate: int, limits: BridgeLimits, events: BridgeEvents, hold_audio: bytes = b"") -> None:
        self.counts = Counts()
        self.pcm_format = AudioFormat.of("l16", link_rate)
        self._limits = limits
        self._events = events
        self._stream: PlayingStream | None = None
        self._caller = CallerAudio(self.pcm_format, limits, self.counts)
        self._next_played = 0.0
        self._hold = HoldAudio(hold_audio, self.pcm_format.bytes_for_ms(BLOCK_SECONDS * 1000), limits.hold_after)
        self.tap = RecordingTap()
        self._played_offset_ms = 0
        """Added to what this stream has played, ms; the sum is what was heard of the present bot, on all streams."""
        self._barriers = PlaybackBarriers()
        self._deferred = DeferredMessages(int(limits.playout.capacity * self.pcm_format.bytes_for_ms(1000)))
        self._overflowing = False

    # The stream's side.

    @property
    def streaming(self) -> bool:
        """There is a stream to play to."""
        return self._stream is not None

    def record(self, recorder: CallRecorder | None, *, paused: bool = False, wait_for_bot: bool = False) -> None:
        """Record from now on, when it is resumed (paused), or when the bot is there; None: no more."""
        self.tap.begin(recorder, paused=paused, wait_for_bot=wait_for_bot)

    def unplayed(self, now: float) -> float:
        """Seconds of audio that the caller has still to hear, as far as it is known."""
        # What waits behind keys has no known length: not zero, so that it is not taken for a pause.
        at_least = FRAME_SECONDS if self._deferred.must_defer else 0.0
        return max(at_least, self._stream.playout.unplayed(now)) if self._stream is not None else at_least

    def attach_stream(self, stream: Stream, now: float) -> None:
        """Play to this stream from now on. Raises UnsupportedCodec, and nothing changes."""
        playing = PlayingStream.of(
            stream, self.pcm_format, self._limits, now, send_audio=self._to_carrier, send_text=self._send_text
        )
        self.detach_stream(now)
        self._stream = playing
        self.tap.stream(playing.to_bot.source, playing.playout.format, now)
        self._deferred.resume()
        for event in stream.early.events:
            self._stream_event(event, now)

    def detach_stream(self, now: float) -> None:
        """Play to no stream; tell the bot that what was unplayed was not heard."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        marks = tuple(mark.name for mark in stream.serializer.flush_marks())
        self._played_offset_ms += stream.playout.played_ms(now)
        self.tap.cut(now)
        self._tell_flushed(marks + stream.playout.clear(now).marks)
        self._barriers.finish()

    def stream_received(self, data: bytes, text: bool, now: float) -> None:
        """One message of the carrier's."""
        stream = self._stream
        if stream is None:
            return
        for event in stream.serializer.decode(data, text=text, now=now):
            if type(event) is Media:
                stream.keepalive.heard = now
                self.counts.from_carrier += 1
                self.tap.said(event.payload, now)
                self._caller.add(stream.hear(event), now)
            else:
                self._stream_event(event, now)

    def _stream_event(self, event: object, now: float) -> None:
        match event:
            case Media(payload) if self._stream is not None:
                self.counts.from_carrier += 1
                self.tap.said(payload, now)
                self._caller.add(self._stream.hear(event), now, lost=isinstance(event, Silence))
            case Dtmf(digit):
                self.tell(pcm.Dtmf(digit))
            case Mark(name, played):
                if not is_ours(name):
                    self.tell(pcm.MarkReached(name, played))
                elif played:
                    self._barriers.reached(name)
            case Stop(reason):
                self._events.stream_stopped(reason)
            case Failure(code, _):
                self.counts.note_carrier_error(code)
            case Rejected(reason):
                self.counts.bad[reason] += 1

    # The link's side.

    def attach_link(self, link: Socket, start: pcm.Start, now: float, news: Sequence[pcm.Status] = ()) -> None:
        """Tell the bot of the call and what has become of it, then all that the caller has said meanwhile."""
        flushed = self._end_hold(now)
        self._played_offset_ms -= self._played(now)
        self._caller.attach(link, (start, *news), now)
        self.tap.bot_joined(now)
        self._tell_flushed(flushed)

    def detach_link(self, now: float, *, final: bool = False) -> None:
        """Let the caller's audio wait for the next bot. final: none comes, nor hold audio."""
        self._caller.detach()
        self._hold.bot_left(final=final, at=now)

    def tell(self, message: pcm.ToWorker) -> None:
        """Say something to the bot."""
        self._caller.tell(message)

    def link_received(self, data: bytes, text: bool, now: float) -> None:
        """One message of the bot's."""
        if not text and not self._deferred.must_defer:  # the usual case
            self._bot_audio(data, now)
            return
        self._take_in_order(pcm.decode_to_gateway(data) if text else data, now)

    def _take_in_order(self, message: DeferredItem | None, now: float) -> None:
        if isinstance(message, pcm.ResumeRecording):  # as of now: a pause that comes while it waits is newer
            message = AfterKeys(partial(self._resume_recording, self.tap.pauses))
        if self._deferred.must_defer and not isinstance(message, AT_ONCE | None):
            self._defer(message)
        else:
            self._take(message, now)

    def _take(self, message: DeferredItem | None, now: float) -> None:
        match message:
            case bytes():
                self._bot_audio(message, now)
            case None:
                self.counts.bad["link_message"] += 1
            case pcm.Clear():
                self.clear(now)
            case pcm.SetMark(name):
                self._set_mark(name, now)
            case pcm.SendDtmf(digits):
                self._send_keys(digits, now)
            case pcm.Hangup(reason):
                self._command_after_playback("hangup", lambda: self._events.bot_hangup(reason), now)
            case pcm.Transfer(to):
                self._command_after_playback("transfer", lambda: self._events.bot_transfer(to), now)
            case pcm.State(state):
                self._events.bot_state(state)
            case pcm.PauseRecording():
                self.tap.pause(now)
            case AfterKeys(action):
                action(now)

    def _resume_recording(self, pauses: int, now: float) -> None:
        self.tap.resume_after(self._stream.playout if self._stream is not None else None, pauses, now)

    def _bot_audio(self, data: bytes, now: float) -> None:
        stream = self._stream
        self.counts.from_bot += 1
        if stream is None:
            self.counts.dropped["no_stream"] += 1
            return
        lost = stream.playout.play(stream.to_carrier.feed(data), now)
        if lost or self._overflowing:
            self._note_overflow(bool(lost))

    def _note_overflow(self, lost: bool) -> None:
        """Count audio that is lost, and tell the bot when it begins."""
        if lost:
            self.counts.dropped["playout_overflow"] += 1
            if not self._overflowing:
                self.tell(pcm.Status("playout_overflow", {}))
        self._overflowing = lost

    def _defer(self, message: DeferredItem) -> None:
        """Keep a message behind keys, or refuse it as a full playout queue does."""
        if self._deferred.add(message):
            return
        if isinstance(message, pcm.SetMark):
            self.counts.dropped["playout_overflow"] += 1
            self.tell(pcm.MarkReached(message.name, played=False))
        elif command := COMMANDS.get(type(message)):
            self._refuse(command)
        else:
            self._note_overflow(True)

    def clear(self, now: float) -> None:
        """Drop what the caller has not heard, here and at the carrier."""
        self._tell_flushed(mark.name for mark in self._deferred.clear())
        stream = self._stream
        if stream is None:
            return
        played, dropped = self._played(now), self._drop_unplayed(stream, now)
        self._tell_flushed(dropped.marks)
        self.tell(pcm.Cleared(played, dropped.ms))
        self._barriers.finish()

    def _drop_unplayed(self, stream: PlayingStream, now: float) -> Dropped:
        self.tap.cut(now)
        return stream.drop_unplayed(now)

    def _played(self, now: float) -> int:
        """Milliseconds of the present bot's audio that have been heard."""
        return self._played_offset_ms + (self._stream.playout.played_ms(now) if self._stream is not None else 0)

    # Hold.

    def announce(self, audio: bytes, now: float) -> float:
        """Play this ahead of the bot. Returns how many seconds it lasts.

        Meanwhile the caller does not count as one without a bot. It is lost with its stream.

        audio: PCM at the link's rate.
        """
        if self._stream is None:
            return 0.0
        self._stream.play(audio, now)
        unplayed = self._stream.playout.unplayed(now)
        self._hold.bot_left(at=now + unplayed)
        return unplayed

    def _end_hold(self, now: float) -> tuple[str, ...]:
        """Drop what is left of the hold audio. Returns the marks that go with it.

        They are of a bot that was lost, and stand behind speech that may not have been heard.
        """
        if not self._hold.bot_joined() or self._stream is None:
            return ()
        dropped = self._drop_unplayed(self._stream, now)
        self._barriers.finish()
        return dropped.marks

    def _tell_flushed(self, marks: Iterable[str]) -> None:
        for name in marks:
            if not is_ours(name):
                self.tell(pcm.MarkReached(name, played=False))

    # Behind the audio.

    def _set_mark(self, name: str, now: float) -> None:
        if self._stream is not None:
            if self._stream.playout.mark(name, now):
                return
            self.counts.dropped["playout_overflow"] += 1
        self.tell(pcm.MarkReached(name, played=False))

    def send_keys(self, digits: str, now: float) -> None:
        """Press keys for an operator, behind what the bot has said."""
        self._take_in_order(pcm.SendDtmf(digits), now)

    def _send_keys(self, digits: str, now: float) -> None:
        if (stream := self._stream) is None:
            self._press(digits)
            return
        if stream.serializer.dtmf(digits) is None:  # the carrier leaves the stream to press them
            self._deferred.pause()
        if not stream.playout.at_playback_end(lambda: self._press(digits), now):
            self._deferred.resume()
            self._refuse("dtmf")

    def refuse_keys(self, reason: str) -> None:
        """Tell the bot that its keys are not pressed; what stands behind them is played."""
        self._deferred.resume()
        self.tell(pcm.Status("refused", {"what": "dtmf", "reason": reason}))

    def _press(self, digits: str) -> None:
        stream = self._stream
        message = stream.serializer.dtmf(digits) if stream is not None else None
        if message is not None:
            self._send_text(message)
        else:
            self._events.bot_digits(digits)

    def _command_after_playback(self, what: str, action: Callable[[], None], now: float) -> None:
        if len(self._barriers) < MAX_COMMANDS:
            self._add_barrier(action, now)
        else:
            self._refuse(what)

    def _refuse(self, what: str) -> None:
        self.counts.dropped["playout_overflow"] += 1
        self.tell(pcm.Status("refused", {"what": what, "reason": TOO_MUCH_WAITS}))

    def after_playback(self, action: Callable[[], None], now: float) -> None:
        """Call `action` when all audio so far has been heard, by the carrier's mark.

        At the latest `playback_grace` after we expect that: where no mark can be sent, or none comes back, the deadline
        is what is left. Behind what waits already, in order: any of it may yet be refused.
        """
        if self._deferred.must_defer:
            self._deferred.add_action(AfterKeys(lambda later: self._add_barrier(action, later)))
        else:
            self._add_barrier(action, now)

    def _add_barrier(self, action: Callable[[], None], now: float) -> None:
        if self._stream is None:
            action()
            return
        playout = self._stream.playout
        playout.mark(self._barriers.add(action, now + playout.unplayed(now) + self._limits.playback_grace), now)

    # To the carrier.

    def _to_carrier(self, payload: bytes, now: float) -> None:
        stream = self._stream
        if stream is None:
            return
        if stream.socket.unsent > self._limits.stream_unsent:
            self.counts.dropped["stream_slow"] += 1
            return
        stream.socket.send(stream.serializer.media(payload))
        stream.last_sent = now
        if self.tap.recorder is not None:
            self.tap.recorder.heard(payload, now, max(now, stream.playout.playback_end))
        self.counts.to_carrier += 1
        if not self.counts.first_audio:
            self.counts.first_audio = now

    def _send_text(self, message: str) -> None:
        if self._stream is not None:
            self._stream.socket.send(message)

    # Time.

    def tick(self, now: float) -> None:
        """Every 20 ms."""
        self.tap.tick(now)
        if self._stream is not None:
            self._tick_stream(self._stream, now)
        if self._deferred.must_defer:
            self._take_deferred(now)
        self._barriers.tick(now)
        if self._caller.tick(now):
            self.detach_link(now)
            self._events.link_dead()

    def _take_deferred(self, now: float) -> None:
        """Take a portion of what has waited behind keys."""
        for _ in range(PORTION):
            if (message := self._deferred.pop_due()) is not None:
                self._take(message, now)

    def _tick_stream(self, stream: PlayingStream, now: float) -> None:
        for event in stream.serializer.tick(now):
            self._stream_event(event, now)
        stream.playout.tick(now)
        stream.keep_alive(self._limits.silence_after, now)
        if stream.keepalive.tick(now):
            self._events.stream_dead()
        if self._caller.link is None and self._hold.tick(stream, now):
            self._caller.keep_less()
        if now >= self._next_played:
            self._next_played = now + PLAYED_EVERY
            if stream.playout.unplayed(now) > 0:
                self.tell(pcm.Played(self._played(now)))
