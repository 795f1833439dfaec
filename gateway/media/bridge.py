"""What joins a stream and a link: bytes of the carrier in, PCM to the bot out, and back. It writes to both sockets.

The bridge never awaits and knows no clock but the one passed in; a process-wide ticker calls `tick(now)` every 20 ms
for release, padding and every deadline. It belongs to the session, not to a connection: streams and links come and
go under it, and what the caller has still to hear, or the bot to be told, stays here.

Frames cross in one step: decode, transcode, send. No task, no queue, no log line for a frame.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.audio.format import AudioFormat
from gateway.media.after_playback import PlaybackBarriers, is_ours
from gateway.media.backlog import CallerBacklog
from gateway.media.deferred import PORTION, AfterKeys, DeferredMessages
from gateway.media.hold import Hold
from gateway.media.keepalive import LinkKeepalive
from gateway.media.playing import PlayingStream
from gateway.media.types import BridgeEvents, BridgeLimits, Counts, Stream
from gateway.protocol import pcm
from gateway.sockets import Socket
from serializers.base import Dtmf, Failure, Mark, Media, Rejected, Stop

FRAME_SECONDS = 0.02
HOLD_BLOCK_MS = 100
MAX_WISHES = 16
"""Hang-ups and transfers of the bot's that wait. One ends the call, more are for those that may be refused."""
FULL = "too much is waiting already"


class Bridge:
    """One session's audio. link_rate: of the bot's PCM, Hz. hold_audio: PCM at that rate, played over and over to a
    caller who has no bot.
    """

    def __init__(self, link_rate: int, limits: BridgeLimits, events: BridgeEvents, hold_audio: bytes = b"") -> None:
        self.counts = Counts()
        self.pcm_format = AudioFormat.of("l16", link_rate)
        self._limits = limits
        self._events = events
        self._stream: PlayingStream | None = None
        self._link: Socket | None = None
        self._link_watch: LinkKeepalive | None = None
        self._frame = self.pcm_format.bytes_for_ms(20)
        self._second = self.pcm_format.bytes_for_ms(1000)
        self._backlog = CallerBacklog(int(limits.waiting * self._second))
        self._on_hold = False
        """The caller has been without a bot for so long that hold audio is due."""
        self._next_played = 0.0
        self._hold = Hold(hold_audio, self.pcm_format.bytes_for_ms(HOLD_BLOCK_MS)) if hold_audio else None
        self._alone_since: float | None = None
        """Since when the caller has had no bot; None while he has one."""
        self._played_before = 0
        """What earlier streams played, less what was not the present bot's."""
        self._drains = PlaybackBarriers()
        self._deferred = DeferredMessages(int(limits.playout.capacity * self._second))
        self._overflowing = False

    # The stream's side.

    @property
    def streaming(self) -> bool:
        """There is a stream to play to."""
        return self._stream is not None

    def unplayed(self, now: float) -> float:
        """Seconds of audio that the caller has still to hear, as far as it is known."""
        at_least = FRAME_SECONDS if self._deferred.waiting else 0.0
        return max(at_least, self._stream.playout.unplayed(now)) if self._stream is not None else at_least

    def attach_stream(self, stream: Stream, now: float) -> None:
        """Play to this stream from now on. Raises UnsupportedCodec, before anything has changed."""
        playing = PlayingStream.of(
            stream, self.pcm_format, self._limits, now, send_audio=self._to_carrier, send_text=self._say
        )
        self.detach_stream(now)
        self._stream = playing
        self._deferred.release()
        for event in stream.early.events:
            self._stream_event(event)

    def detach_stream(self, now: float) -> None:
        """The stream is gone: what it had not played was not heard, and the bot is told so."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        marks = stream.serializer.flush_marks()
        self._played_before += stream.playout.played_ms(now)
        dropped = stream.playout.clear(now)
        self._tell_flushed([m.name for m in marks], dropped.marks)
        self._drains.finish()

    def stream_received(self, data: bytes, text: bool, now: float) -> None:
        """One message of the carrier's."""
        stream = self._stream
        if stream is None:
            return
        for event in stream.serializer.decode(data, text=text, now=now):
            if type(event) is Media:
                stream.watch.heard = now
                self._caller_audio(stream, event.payload)
            else:
                self._stream_event(event)

    def _stream_event(self, event: object) -> None:
        match event:
            case Media(payload):
                if self._stream is not None:
                    self._caller_audio(self._stream, payload)
            case Dtmf(digit):
                self.tell(pcm.Dtmf(digit))
            case Mark(name, played):
                if not is_ours(name):
                    self.tell(pcm.MarkReached(name, played))
                elif played:
                    self._drains.reached(name)
            case Stop(reason):
                self._events.stream_stopped(reason)
            case Failure(code, _):
                self.counts.note_carrier_error(code)
            case Rejected(reason):
                self.counts.bad[reason] += 1

    def _caller_audio(self, stream: PlayingStream, payload: bytes) -> None:
        self.counts.from_carrier += 1
        data = stream.to_bot.feed(payload)
        if len(data) <= self._frame + self._frame // 2:
            self._to_bot(data)
        else:  # a carrier with longer frames: the bot gets about 20 ms each, as from the others
            for at in range(0, len(data), self._frame):
                self._to_bot(data[at : at + self._frame])

    def _to_bot(self, data: bytes) -> None:
        link, watch = self._link, self._link_watch
        if link is None or watch is None:
            self.counts.dropped["no_bot"] += self._backlog.add_audio(data)
        elif watch.slow or link.unsent > self._limits.link_unsent:
            self.counts.dropped["link_slow"] += 1
        else:
            self.counts.to_bot += 1
            link.send(data)

    # The link's side.

    def attach_link(self, link: Socket, start: pcm.Start, now: float) -> None:
        """Tell the bot of the call, then all that the caller has said meanwhile."""
        self._end_hold(now)
        self._link, self._link_watch, self._alone_since = link, LinkKeepalive(link, self._limits, now), None
        self._played_before -= self._played(now)
        link.send(pcm.encode(start))
        for said in self._backlog.take():
            self.counts.to_bot += 1
            link.send(said)
        self._on_hold = False
        self._backlog.limit(int(self._limits.waiting * self._second))

    def detach_link(self) -> None:
        """No bot for now: the caller's audio waits."""
        self._link = self._link_watch = None
        self._alone_since = None  # the next tick sees it

    def tell(self, message: pcm.ToWorker) -> None:
        """Say something to the bot. Without one, a key waits among the caller's audio; all else is old news by then."""
        if self._link is not None:
            self._link.send(pcm.encode(message))
        elif isinstance(message, pcm.Dtmf):
            self._backlog.add_key(pcm.encode(message))

    def link_received(self, data: bytes, text: bool, now: float) -> None:
        """One message of the bot's."""
        message = pcm.decode_to_gateway(data) if text else data
        if self._deferred.waiting and not isinstance(message, pcm.Clear | pcm.State | None):
            self._defer(message)
        else:
            self._take(message, now)

    def _take(self, message: bytes | pcm.ToGateway | None, now: float) -> None:
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
                self._wish("hangup", lambda: self._events.bot_hangup(reason), now)
            case pcm.Transfer(to):
                self._wish("transfer", lambda: self._events.bot_transfer(to), now)
            case pcm.State(state):
                self._events.bot_state(state)

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

    def _defer(self, message: bytes | pcm.ToGateway) -> None:
        """Keep what stands behind keys; what there is no place for is refused as it would be in the playout queue."""
        if self._deferred.add(message):
            return
        match message:
            case pcm.SendDtmf():
                self._refuse("dtmf")
            case pcm.Hangup():
                self._refuse("hangup")
            case pcm.Transfer():
                self._refuse("transfer")
            case pcm.SetMark(name):
                self.counts.dropped["playout_overflow"] += 1
                self.tell(pcm.MarkReached(name, played=False))
            case _:
                self._note_overflow(True)

    def clear(self, now: float) -> None:
        """Silence: drop what the caller has not heard, here and at the carrier."""
        self._tell_flushed([mark.name for mark in self._deferred.clear()])
        stream = self._stream
        if stream is None:
            return
        played = self._played(now)
        stream.to_carrier.reset()
        marks = stream.serializer.flush_marks()
        self._say(stream.serializer.clear())
        dropped = stream.playout.clear(now)
        self._tell_flushed([m.name for m in marks], dropped.marks)
        self.tell(pcm.Cleared(played, dropped.ms))
        self._drains.finish()

    def _played(self, now: float) -> int:
        """Milliseconds of the present bot's audio that have been heard."""
        return self._played_before + (self._stream.playout.played_ms(now) if self._stream is not None else 0)

    # Hold.

    def _play_hold(self, stream: PlayingStream, now: float) -> None:
        """Keep a little ahead of the carrier, as a real-time bot would. A block a tick is five times what it needs."""
        if self._alone_since is None:
            self._alone_since = now
        if now - self._alone_since < self._limits.hold_after:
            return
        if not self._on_hold:
            self._on_hold = True
            self.counts.dropped["no_bot"] += self._backlog.limit(int(self._limits.waiting_on_hold * self._second))
        if self._hold is None:
            return
        if stream.playout.unplayed(now) < HOLD_BLOCK_MS / 1000:
            stream.playout.play(stream.to_carrier.feed(self._hold.next()), now)

    def _end_hold(self, now: float) -> None:
        """The bot is here: what is left of the hold audio must not be in its way."""
        if self._hold is None or not self._hold.stop():
            return
        if self._stream is not None:
            self._stream.to_carrier.reset()
            self._stream.playout.clear(now)
            self._say(self._stream.serializer.clear())

    def _tell_flushed(self, *groups: list[str] | tuple[str, ...]) -> None:
        for names in groups:
            for name in names:
                if not is_ours(name):
                    self.tell(pcm.MarkReached(name, played=False))

    # Behind the audio.

    def _set_mark(self, name: str, now: float) -> None:
        if self._stream is not None:
            if self._stream.playout.mark(name, now):
                return
            self.counts.dropped["playout_overflow"] += 1
        self.tell(pcm.MarkReached(name, played=False))

    def _send_keys(self, digits: str, now: float) -> None:
        stream = self._stream
        if stream is None:
            self._press(digits)
            return
        if stream.serializer.dtmf(digits) is None:  # the carrier leaves the stream to press them
            self._deferred.hold()
        if not stream.playout.behind(lambda: self._press(digits), now):
            self._deferred.release()
            self._refuse("dtmf")

    def refuse_keys(self, reason: str) -> None:
        """Tell the bot that its keys are not pressed; what stands behind them is played."""
        self._deferred.release()
        self.tell(pcm.Status("refused", {"what": "dtmf", "reason": reason}))

    def _press(self, digits: str) -> None:
        stream = self._stream
        message = stream.serializer.dtmf(digits) if stream is not None else None
        if message is not None:
            self._say(message)
        else:
            self._events.bot_digits(digits)

    def _wish(self, what: str, action: Callable[[], None], now: float) -> None:
        if len(self._drains) < MAX_WISHES:
            self.drain(action, now)
        else:
            self._refuse(what)

    def _refuse(self, what: str) -> None:
        self.counts.dropped["playout_overflow"] += 1
        self.tell(pcm.Status("refused", {"what": what, "reason": FULL}))

    def drain(self, action: Callable[[], None], now: float) -> None:
        """Call `action` when all audio so far has been heard; at the latest `behind` after our estimate of that.

        Behind what is drained for already, in order: any of it may yet be refused. Where no mark can be sent, or none
        comes back, the deadline is what is left.
        """
        if self._deferred.waiting:
            self._deferred.add(AfterKeys(lambda: self.drain(action, now)))
            return
        if self._stream is None:
            action()
            return
        playout = self._stream.playout
        playout.mark(self._drains.add(action, now + playout.unplayed(now) + self._limits.behind), now)

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
        self.counts.to_carrier += 1
        if not self.counts.first_audio:
            self.counts.first_audio = now

    def _say(self, message: str) -> None:
        if self._stream is not None:
            self._stream.socket.send(message)

    # Time.

    def tick(self, now: float) -> None:
        """Every 20 ms."""
        if self._stream is not None:
            self._tick_stream(self._stream, now)
        if self._deferred.waiting:
            self._take_deferred(now)
        self._drains.tick(now)
        if self._link_watch is not None and self._link_watch.tick(now):
            self.detach_link()
            self._events.link_dead()

    def _take_deferred(self, now: float) -> None:
        """Take a portion of what has waited behind keys."""
        for _ in range(PORTION):
            match self._deferred.next():
                case None:
                    return
                case AfterKeys(action):
                    action()
                case message:
                    self._take(message, now)

    def _tick_stream(self, stream: PlayingStream, now: float) -> None:
        for event in stream.serializer.tick(now):
            self._stream_event(event)
        stream.playout.tick(now)
        if stream.serializer.wire.silence and now - stream.last_sent > self._limits.silence_after:
            stream.playout.play(stream.playout.format.silence(stream.playout.format.bytes_for_ms(20)), now)
            stream.last_sent = now
        if stream.watch.tick(now):
            self._events.stream_dead()
        if self._link is None:
            self._play_hold(stream, now)
        if now >= self._next_played:
            self._next_played = now + 1.0
            if stream.playout.unplayed(now) > 0:
                self.tell(pcm.Played(self._played(now)))
