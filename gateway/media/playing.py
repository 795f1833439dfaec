"""What a bridge holds of the stream that it plays to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.audio.format import AudioFormat
from gateway.audio.transcoder import Transcoder
from gateway.media.keepalive import StreamKeepalive
from gateway.media.playout import Playout
from gateway.media.types import BridgeLimits, Stream
from gateway.sockets import Socket
from serializers.base import Serializer


@dataclass(slots=True)
class PlayingStream:
    """A stream with its transcoders, its playout queue and its keepalive. last_sent: when audio went to it last."""

    socket: Socket
    serializer: Serializer
    to_bot: Transcoder
    to_carrier: Transcoder
    playout: Playout
    watch: StreamKeepalive
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
        watch = StreamKeepalive(stream.socket, limits, now)
        return cls(stream.socket, serializer, to_bot, to_carrier, playout, watch, last_sent=now)
