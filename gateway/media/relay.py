"""The other way to speak to a worker: the carrier's own messages pass through untouched, `connected` and `start` first.

This is the contract of Pipecat Cloud's worker image, so those bots run unmodified. Nothing is decoded but what ends the
stream; audio costs what a proxy costs. What a bot cannot say on the carrier's wire it cannot say here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.media.keepalive import LinkKeepalive, StreamKeepalive
from gateway.media.types import BridgeEvents, BridgeLimits, Counts, Stream
from gateway.protocol import pcm
from gateway.sockets import Socket
from serializers.base import Serializer, Stop

MAX_WAITING = 150
"""Messages kept while there is no worker: 3 s at 50 a second. The oldest audio is dropped."""


class Relay:
    """One session's messages, in the place of a `Bridge`."""

    def __init__(self, limits: BridgeLimits, events: BridgeEvents) -> None:
        self.counts = Counts()
        self._limits = limits
        self._events = events
        self._stream: Socket | None = None
        self._serializer: Serializer | None = None
        self._stream_watch: StreamKeepalive | None = None
        self._link: Socket | None = None
        self._link_watch: LinkKeepalive | None = None
        self._handshake: tuple[bytes, ...] = ()
        self._waiting: deque[tuple[bytes, bool, bool, float]] = deque()
        """Message, is it text, is it audio, when it came."""
        self._alone_since = 0.0
        self._ticked = 0.0
        """The time of the last tick: when a worker was lost is not told."""

    @property
    def streaming(self) -> bool:
        """There is a stream."""
        return self._stream is not None

    def unplayed(self, now: float) -> float:
        """Nothing waits here; what the carrier has still to play, only the bot knows."""
        return 0.0

    def attach_stream(self, stream: Stream, now: float) -> None:
        """Relay this stream from now on, beginning with its handshake."""
        self._stream, self._serializer = stream.socket, stream.serializer
        self._stream_watch = StreamKeepalive(stream.socket, self._limits, now)
        self._handshake, self._alone_since = stream.handshake, now
        for message in stream.early.messages:
            self._waiting.append((message, True, True, now))

    def detach_stream(self, now: float) -> None:
        self._stream = self._stream_watch = self._serializer = None

    def stream_received(self, data: bytes, text: bool, now: float) -> None:
        """One message of the carrier's."""
        audio = not text or b'"media"' in data
        self._to_bot(data, text, audio, now)
        self.counts.from_carrier += 1
        if self._stream_watch is not None:
            self._stream_watch.heard = now
        # Audio is most of it, and is not looked at: only a stop matters, and it is short.
        if not audio and self._serializer is not None and len(data) < 512:
            for event in self._serializer.decode(data, text=text, now=now):
                if isinstance(event, Stop):
                    self._events.stream_stopped(event.reason)

    def _to_bot(self, data: bytes, text: bool, audio: bool, now: float) -> None:
        link, watch = self._link, self._link_watch
        if link is None or watch is None:
            self._waiting.append((data, text, audio, now))
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self.counts.dropped["no_bot"] += 1
        elif link.unsent > self._limits.link_unsent or (audio and watch.slow):
            self.counts.dropped["link_slow"] += 1
        else:
            self.counts.to_bot += 1
            link.send(data.decode(errors="replace") if text else data)

    def attach_link(self, link: Socket, start: pcm.Start, now: float) -> None:
        """Send the handshake, then what has waited. The worker needs no `start` of ours: it has the carrier's.

        A caller who was held is heard from now on: of the audio only the last moment is sent.
        """
        self._link, self._link_watch = link, LinkKeepalive(link, self._limits, now)
        for message in self._handshake:
            self._to_bot(message, True, False, now)
        waiting, self._waiting = self._waiting, deque()
        held = now - self._alone_since > self._limits.hold_after
        for data, text, audio, came in waiting:
            if audio and held and now - came > self._limits.waiting_on_hold:
                self.counts.dropped["no_bot"] += 1
            else:
                self._to_bot(data, text, audio, now)

    def detach_link(self) -> None:
        """The worker is gone; another one begins with the handshake."""
        if self._link is not None:
            self._alone_since = self._ticked
        self._link = self._link_watch = None

    def tell(self, message: pcm.ToWorker) -> None:
        """The carrier's wire has no words for what we might say, except that the stream has ended: by closing."""
        if isinstance(message, pcm.Stop) and self._link is not None:
            self._link.close()

    def link_received(self, data: bytes, text: bool, now: float) -> None:
        """One message of the bot's."""
        self.counts.from_bot += 1
        stream = self._stream
        if stream is None:
            self.counts.dropped["no_stream"] += 1
        elif stream.unsent > self._limits.stream_unsent:
            self.counts.dropped["stream_slow"] += 1
        else:
            self.counts.to_carrier += 1
            self.counts.first_audio = self.counts.first_audio or now
            stream.send(data.decode(errors="replace") if text else data)

    def drain(self, action: Callable[[], None], now: float) -> None:
        """What the bot has sent is the carrier's already."""
        action()

    def refuse_keys(self, reason: str) -> None:
        """Nothing: a relayed bot presses keys on the carrier's own wire."""

    def tick(self, now: float) -> None:
        """Every 20 ms: is everybody still there? Workers of others answer a ping, too: RFC 6455 5.5.2 demands it."""
        self._ticked = now
        if self._stream_watch is not None and self._stream_watch.tick(now):
            self._events.stream_dead()
        if self._link_watch is not None and self._link_watch.tick(now):
            self.detach_link()
            self._events.link_dead()
