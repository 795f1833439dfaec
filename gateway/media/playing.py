"""A stream's parts as the bridge needs them: concealment, transcoders, playout, keepalive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.audio.concealment import Concealment
from gateway.audio.format import FRAME_MS, AudioFormat
from gateway.audio.transcoder import Transcoder
from gateway.media.keepalive import StreamKeepalive
from gateway.media.playout import Dropped, Playout
from gateway.media.types import BridgeLimits, Stream
from gateway.sockets import Socket
from serializers.base import Media, Serializer, Silence


@dataclass(slots=True)
class PlayingStream:
    """A stream with its transcoders, its playout queue and its keepalive.

    last_sent: loop time at which audio went to it last; at first, when the stream came.
    """

    socket: Socket
    serializer: Serializer
    concealment: Concealment
    to_bot: Transcoder
    to_carrier: Transcoder
    playout: Playout
    keepalive: StreamKeepalive
    last_sent: float

    @classmethod
    def of(
        cls,
        stream: Stream,
        pcm: AudioFormat,
        limits: BridgeLimits,
        now: float,
        *,
        send_audio: Callable[[bytes, float], None],
        send_text: Callable[[str], None],
    ) -> PlayingStream:
        """Prepare to play to this stream. pcm: the bot's format. Raises UnsupportedCodec."""
        start, serializer = stream.start, stream.serializer
        inbound = AudioFormat.of(start.inbound.encoding, start.inbound.sample_rate)
        outbound = AudioFormat.of(start.outbound.encoding, start.outbound.sample_rate)
        to_bot, to_carrier = Transcoder(inbound, pcm), Transcoder(pcm, outbound)
        playout = Playout(
            outbound,
            serializer.wire,
            limits.playout,
            send_audio=send_audio,
            send_mark=lambda name: send_text(serializer.mark(name)),
        )
        keepalive = StreamKeepalive(stream.socket, limits, now)
        concealment = Concealment(inbound)
        return cls(stream.socket, serializer, concealment, to_bot, to_carrier, playout, keepalive, last_sent=now)

    def hear(self, media: Media) -> bytes:
        """PCM for the bot: the caller's audio, or what stands for it where it was lost."""
        payload = media.payload
        if type(media) is Silence:
            payload = self.concealment.conceal(len(payload), media.more, media.after)
        self.concealment.heard(payload)
        return self.to_bot.feed(payload)

    def play(self, audio: bytes, now: float) -> None:
        """Queue audio of our own. audio: in the bot's format."""
        self.playout.play(self.to_carrier.feed(audio), now)

    def drop_unplayed(self, now: float) -> Dropped:
        """Clear it, here and at the carrier. Returns what was not heard, with the marks of both."""
        self.to_carrier.reset()
        marks = tuple(mark.name for mark in self.serializer.flush_marks())
        self.socket.send(self.serializer.clear())
        dropped = self.playout.clear(now)
        return Dropped(marks + dropped.marks, dropped.ms)

    def keep_alive(self, after: float, now: float) -> None:
        """Send silence to a carrier that drops a call to which nothing is sent.

        It counts as played, as hold audio does: the carrier plays it in the time of the bot's audio.

        after: seconds without audio.
        """
        if self.serializer.wire.silence and now - self.last_sent > after:
            self.playout.play(self.playout.format.silence(self.playout.format.bytes_for_ms(FRAME_MS)), now)
            self.last_sent = now
