"""Hold audio for callers of relayed bots, in the carrier's wire: our own PCM, as a bridge plays it."""

from __future__ import annotations

from gateway.audio.format import AudioFormat
from gateway.errors import UnsupportedCodec
from gateway.media.hold import BLOCK_SECONDS, HoldAudio
from gateway.media.playing import PlayingStream
from gateway.media.types import BridgeLimits, Stream


class RelayHold:
    """Plays to the caller while there is no bot, and not for a frame longer. audio: PCM at `rate` Hz."""

    def __init__(self, audio: bytes, rate: int, limits: BridgeLimits) -> None:
        self._limits = limits
        self._pcm = AudioFormat.of("l16", rate)
        self._hold = HoldAudio(audio, self._pcm.bytes_for_ms(BLOCK_SECONDS * 1000), limits.hold_after)
        self._stream: PlayingStream | None = None

    def attach_stream(self, stream: Stream, now: float) -> None:
        """Play to this stream, if its codec is one of ours: its bot may have another."""
        self.detach_stream()
        try:
            self._stream = PlayingStream.of(
                stream, self._pcm, self._limits, now, send_audio=self._send, send_text=stream.socket.send
            )
        except UnsupportedCodec:
            self._stream = None

    def detach_stream(self) -> None:
        self._stream = None

    def bot_left(self, *, final: bool = False) -> None:
        """Note that the bot is gone. final: no other one comes."""
        self._hold.bot_left(final=final)

    def tick(self, now: float) -> None:
        """Call it while there is no bot: queue a block, if it is due."""
        stream = self._stream
        if stream is None or not self._hold.tick(stream, now):
            return
        stream.keep_alive(self._limits.silence_after, now)
        stream.playout.tick(now)

    def bot_joined(self, now: float) -> None:
        """There is a bot: drop what is left, here and at the carrier."""
        if self._hold.bot_joined() and self._stream is not None:
            self._stream.drop_unplayed(now)

    def _send(self, payload: bytes, now: float) -> None:
        stream = self._stream
        if stream is not None and stream.socket.unsent <= self._limits.stream_unsent:
            stream.socket.send(stream.serializer.media(payload))
            stream.last_sent = now
