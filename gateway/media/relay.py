"""The other way to speak to a worker: the carrier's own messages pass through untouched, `connected` and `start` first.

This is the contract of Pipecat Cloud's worker image, so those bots run unmodified. Nothing is decoded but what ends the
stream; audio costs what a proxy costs. What a bot cannot say on the carrier's wire it cannot say here.

A bot is told one `start`. Where its call comes on another stream, that one's handshake is kept from it, and messages
name the stream that the other side knows: the bot's the new one, the carrier's the first. A bot that follows a lost one
is told the newest handshake.

While the carrier sends no media, or there is no stream, silence in the carrier's form keeps the bot's clock going.
While there is no bot, the caller hears hold audio. A bot whose carrier reads too slowly is read as slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.media.backlog import RelayBacklog, RelayedMessage
from gateway.media.caller_clock import CallerClock
from gateway.media.keepalive import LinkKeepalive, StreamKeepalive
from gateway.media.relay_hold import RelayHold
from gateway.media.relayed_marks import RelayedMarks
from gateway.media.types import BridgeEvents, BridgeLimits, Counts, Stream
from gateway.protocol import pcm
from gateway.sockets import Socket
from serializers.base import MediaFormat, Serializer, Stop
from serializers.for_bots import without_own_parameters
from serializers.silent_media import SilentMedia

MAX_STOP_BYTES = 2048
"""The longest `stop` that is read. Those of the four carriers name ids and a reason, in 150 to 400 bytes."""


class Relay:
    """One session's messages, in the place of a `Bridge`."""

    def __init__(self, limits: BridgeLimits, events: BridgeEvents, hold: RelayHold | None = None) -> None:
        self.counts = Counts()
        self._limits = limits
        self._events = events
        self._stream: Socket | None = None
        self._serializer: Serializer | None = None
        """The newest stream's."""
        self._stream_keepalive: StreamKeepalive | None = None
        self._link: Socket | None = None
        self._link_keepalive: LinkKeepalive | None = None
        self._handshake: tuple[bytes, ...] = ()
        self._hold = hold or RelayHold(b"", 16000, limits)
        self._stream_id = ""
        """Id of the newest stream."""
        self._bot_stream_id = ""
        """Id of the stream whose `start` the present bot has had."""
        self.known_stream_id: str | None = None
        """Id of the stream whose `start` the bot of the next link has had before; None: it has had none. Set before the
        link is attached."""
        self._marks = RelayedMarks()
        self._inbound: MediaFormat | None = None
        self._backlog = RelayBacklog()
        self._clock = CallerClock()
        self._media: bytes | None = None
        """The newest media since the last tick; None: none came."""
        self._last_media = b""
        self._silence: SilentMedia | None = None
        """Messages of silence that follow the last media."""
        self._slow_since: float | None = None
        """Since when the carrier does not read enough, and the bot is kept waiting for a time."""
        self._excused = 0.0
        """Until when the bot's pongs are not missed."""
        self._alone_since = 0.0  # when the stream came, or the last worker was lost

    @property
    def streaming(self) -> bool:
        """There is a stream."""
        return self._stream is not None

    def unplayed(self, now: float) -> float:
        """Nothing waits here; what the carrier has still to play, only the bot knows."""
        return 0.0

    def attach_stream(self, stream: Stream, now: float) -> None:
        """Relay this stream from now on, beginning with its handshake."""
        self._marks.stream_lost()
        self._stream, self._serializer = stream.socket, stream.serializer
        self._stream_keepalive = StreamKeepalive(stream.socket, self._limits, now)
        self._handshake = tuple(without_own_parameters(message) for message in stream.handshake)
        self._stream_id = stream.start.stream_id
        self._inbound = stream.start.inbound
        self._hold.attach_stream(stream, now)
        if self._link is None:
            self._alone_since = now
        for message in stream.early.messages:
            self._to_bot(message, True, True, now)
        self._answer_lost_marks()

    def _answer_lost_marks(self) -> None:
        """Answer what the bot waits for and the carrier never will, once it can be heard again."""
        if self._link is None or self._stream is None or self._serializer is None:
            return
        for name in self._marks.take_lost():
            self._link.send(self._named(self._serializer.mark_answer(name), self._bot_stream_id))

    def detach_stream(self, now: float) -> None:
        self._marks.stream_lost()
        self._stream = self._stream_keepalive = None
        self._hold.detach_stream()

    def stream_received(self, data: bytes, text: bool, now: float) -> None:
        """One message of the carrier's."""
        # A JSON parse for each frame would cost more than the rest of the relay. A stop has no such key.
        audio = not text or b'"media"' in data
        self._to_bot(data, text, audio, now)
        self.counts.from_carrier += 1
        if self._stream_keepalive is not None:
            self._stream_keepalive.heard = now
        if not audio and self._serializer is not None and len(data) <= MAX_STOP_BYTES:
            self._marks.answered_by_carrier(data, self._serializer)
            for event in self._serializer.decode(data, text=text, now=now):
                if isinstance(event, Stop):
                    self._events.stream_stopped(event.reason)

    def _to_bot(self, data: bytes, text: bool, audio: bool, now: float) -> None:
        link, keepalive = self._link, self._link_keepalive
        if link is None or keepalive is None:
            self._keep(data, text, audio, now)
            return
        if audio:
            self._media = data
        if link.unsent > self._limits.link_unsent or (audio and keepalive.slow):
            self.counts.dropped["link_slow"] += 1
        elif audio and self._clock.silence_owed and self._is_late(now):
            self.counts.dropped["late"] += 1
        else:
            self.counts.to_bot += 1
            link.send(self._named(data.decode(errors="replace"), self._bot_stream_id) if text else data)

    def _named(self, message: str, stream_id: str) -> str:
        """Write a message so that it names the stream that its reader knows, where that is not its writer's."""
        if self._bot_stream_id == self._stream_id or self._serializer is None:
            return message
        return self._serializer.with_stream_id(message, stream_id)

    def _keep(self, data: bytes, text: bool, audio: bool, now: float) -> None:
        dropped = self._backlog.add(RelayedMessage(data, text, audio, now))
        if dropped:
            self.counts.dropped[dropped] += 1

    def _is_late(self, now: float) -> bool:
        """Return whether silence has been sent in the place of these media.

        Their length is not read: they are taken to be as long as the last before the silence.
        """
        return self._silence is not None and not self._clock.admit_late_audio(self._silence.seconds, now)

    def _fill_in(self, now: float) -> None:
        """Send silence for media that did not come."""
        if self._media is not None:
            self._last_media, self._media = self._media, None
            if not self._clock.silence_owed:
                self._clock.audio_of_unknown_length_came(now)
                self._silence = None
        missing, link, keepalive = self._clock.silence_due(now), self._link, self._link_keepalive
        if not missing or link is None or keepalive is None:
            return
        if self._silence is None:
            self._silence = SilentMedia.like(self._last_media, self._inbound) if self._inbound is not None else None
            if self._silence is None:
                return
            # the last media's own length, which was not known until now, is not missing
            self._clock.set_length(self._silence.seconds)
            missing -= self._silence.seconds
        messages = int(missing / self._silence.seconds + 0.5)
        for _ in range(messages):
            if keepalive.slow or link.unsent > self._limits.link_unsent:
                self.counts.dropped["link_slow"] += 1
            else:
                self.counts.to_bot += 1
                link.send(self._named(self._silence.next(), self._bot_stream_id))
        self._clock.silence_given(messages * self._silence.seconds, now)

    def take_backlog(self, now: float) -> list[RelayedMessage]:
        """Take what has waited for a worker; of audio only the last moment, if the caller was held."""
        held, items = now - self._alone_since > self._limits.hold_after, self._backlog.take()
        longest = self._limits.backlog_on_hold if held else self._limits.backlog
        wanted = [m for m in items if not (m.audio and now - m.came > longest)]
        if len(wanted) < len(items):
            self.counts.dropped["no_bot"] += len(items) - len(wanted)
        return wanted

    def clear(self, now: float) -> None:
        """Drop what the caller has not heard of hold audio. What a bot has said is the carrier's."""
        self._hold.bot_joined(now)

    def attach_link(self, link: Socket, start: pcm.Start, now: float, news: Sequence[pcm.Status] = ()) -> None:
        """Send the handshake, then what has waited.

        The worker needs no `start` of ours: it has the carrier's, and no words for news. A caller who was held is heard
        from now on: of the audio only the last moment is sent.
        """
        self._slow_since = None
        self._hold.bot_joined(now)
        backlog = self.take_backlog(now)
        self._link, self._link_keepalive = link, LinkKeepalive(link, self._limits, now)
        self._clock.begin(now)
        self._bot_stream_id = self._stream_id if self.known_stream_id is None else self.known_stream_id
        if self.known_stream_id is None:
            self._marks.forget()
            for message in self._handshake:
                self._to_bot(message, True, False, now)
        self.known_stream_id = None
        for data, text, audio, _ in backlog:
            self._to_bot(data, text, audio, now)
        self._answer_lost_marks()

    def detach_link(self, now: float, *, final: bool = False) -> None:
        """The worker is gone; another one begins with the handshake. final: none does, so the caller is not on hold."""
        if self._link is not None:
            self._alone_since = now
        if self._link is not None or final:
            self._hold.bot_left(final=final)
        if self._slow_since is not None and self._link is not None:
            self._link.hold_reading(False)  # for its end to be seen
        self._link = self._link_keepalive = self._slow_since = None

    def tell(self, message: pcm.ToWorker) -> None:
        """Close the link where the session ends: the carrier's wire has no other words."""
        if isinstance(message, pcm.Stop) and self._link is not None:
            self._link.close()

    def link_received(self, data: bytes, text: bool, now: float) -> None:
        """One message of the bot's."""
        self.counts.from_bot += 1
        stream = self._stream
        if text and self._serializer is not None and b'"payload"' not in data:
            self._marks.set_by_bot(data, self._serializer)
        if stream is None:
            self._marks.stream_lost()
            self.counts.dropped["no_stream"] += 1
        elif stream.unsent > self._limits.stream_unsent:
            self.counts.dropped["stream_slow"] += 1
        else:
            self.counts.to_carrier += 1
            self.counts.first_audio = self.counts.first_audio or now
            stream.send(self._named(data.decode(errors="replace"), self._stream_id) if text else data)
            if stream.unsent > self._limits.stream_backpressure and self._slow_since is None and self._link is not None:
                self._slow_since = now
                self._link.hold_reading(True)

    def _read_on(self, now: float) -> None:
        """Read the bot again that was kept waiting, once the carrier has taken what there was, or does not take it."""
        stream, link = self._stream, self._link
        if self._slow_since is not None:
            taken = stream is None or stream.unsent <= self._limits.stream_backpressure // 2
            if link is not None and (taken or now - self._slow_since > self._limits.backpressure_max_seconds):
                link.hold_reading(False)
            self._excused = now + self._limits.link_dead
            if taken:
                self._slow_since = None
        if now < self._excused and self._link_keepalive is not None:
            self._link_keepalive.excuse(now)  # its pongs stand behind what it could not get rid of

    def after_playback(self, action: Callable[[], None], now: float) -> None:
        """What the bot has sent is the carrier's already."""
        action()

    def send_keys(self, digits: str, now: float) -> None:
        """Press keys for an operator, where the carrier's stream has a message for them."""
        message = self._serializer.dtmf(digits) if self._serializer is not None else None
        if message is None:  # the carrier leaves the stream for it, and the bot hears nothing of that
            self._events.bot_digits(digits)
        elif self._stream is not None:
            self._stream.send(message)

    def refuse_keys(self, reason: str) -> None:
        """Nothing: a relayed bot presses keys on the carrier's own wire."""

    def tick(self, now: float) -> None:
        """Every 20 ms: fill in for lost media, and see whether both ends are still there.

        Workers of others answer a ping, too: RFC 6455 5.5.2 demands it.
        """
        self._fill_in(now)
        self._read_on(now)
        if self._link is None:
            self._hold.tick(now)
        if self._stream_keepalive is not None and self._stream_keepalive.tick(now):
            self._events.stream_dead()
        if self._link_keepalive is not None and self._link_keepalive.tick(now):
            self.detach_link(now)
            self._events.link_dead()
