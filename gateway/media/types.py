"""What a bridge is given, and what it reports: limits, counts, the stream that it plays to, and the session's side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.media.playout import PlayoutLimits
from gateway.protocol import pcm
from gateway.sockets import Socket
from serializers.base import Event, Serializer, Start


@dataclass(frozen=True, slots=True)
class BridgeLimits:
    """Seconds, unless said otherwise."""

    playout: PlayoutLimits = PlayoutLimits()
    backlog: float = 3.0
    """Caller audio kept while there is no bot to hear it; the oldest is dropped."""
    backlog_on_hold: float = 0.3
    """Caller audio kept once they hear hold audio: what was said under it is old, and would make the bot late."""
    stream_unsent: int = 256 * 1024
    """Bytes not yet taken by the kernel for a carrier beyond which audio is dropped: it does not read."""
    stream_backpressure: int = 64 * 1024
    """Bytes not yet taken by the kernel for a carrier beyond which a relayed bot is not read until they are half: it
    waits, as where it has the carrier's socket to itself. Five seconds of mulaw; a carrier that reads has a few frames
    at most."""
    backpressure_max_seconds: float = 4.0
    """A relayed bot is kept waiting so long at most: a link whose pongs are not read would be taken for dead."""
    link_unsent: int = 256 * 1024
    """Bytes not yet taken by the kernel for a worker beyond which its audio is dropped: it hangs or is too slow."""
    link_ping: float = 1.0
    """Between pings to a worker. They queue behind the audio, so a pong proves that the audio before it has arrived."""
    link_slow: float = 5.0
    """Pings unanswered this long: new audio is dropped and counted rather than piled up in front of the bot."""
    link_dead: float = 10.0
    """Pings unanswered this long: the worker is lost."""
    stream_quiet: float = 10.0
    """A carrier that sends no media is asked by a ping; a leg on hold is silent, so silence alone proves nothing."""
    stream_pong: float = 5.0
    """The carrier has this long to answer that ping."""
    silence_after: float = 10.0
    """Carriers that drop a call to which nothing is sent get a frame of silence this often."""
    hold_after: float = 1.0
    """A caller without a bot hears hold audio after this: shorter gaps are heard as a breath, not as a dead line."""
    playback_grace: float = 2.0
    """What waits for the last word to be heard waits this long beyond our own estimate of it."""


class BridgeEvents(Protocol):
    """What the bridge tells the session. Called in the loop; must not block."""

    def stream_stopped(self, reason: str) -> None:
        """The carrier has said that the stream is over."""

    def stream_dead(self) -> None:
        """The carrier does not answer any more."""

    def link_dead(self) -> None:
        """The worker does not answer any more."""

    def bridge_failed(self) -> None:
        """The bridge's tick has raised for a second: a bug. Nothing of what lives by time happens any more."""

    def bot_hangup(self, reason: str) -> None:
        """The bot has ended the call, and its last word has been heard."""

    def bot_transfer(self, to: str) -> None:
        """The bot hands the caller over, and its last word has been heard."""

    def bot_digits(self, digits: str) -> None:
        """The bot presses keys, and this carrier's stream cannot."""

    def bot_state(self, state: bytes) -> None:
        """The bot leaves this for the worker that goes on if it is lost."""


CARRIER_ERROR = "carrier_error"
MAX_REASONS = 40
"""Reasons of bad messages that one call keeps apart: a stranger can make up any error numbers."""


@dataclass(slots=True)
class Counts:
    """What passed and what did not. Frames are messages of audio; on a relay, all messages."""

    from_carrier: int = 0
    to_carrier: int = 0
    to_bot: int = 0
    from_bot: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    first_audio: float = 0.0
    """When the first audio went to the carrier (loop time); 0.0 before."""

    def take_over(self, other: Counts) -> None:
        """Count on from what another bridge of the same call has counted."""
        for name in ("from_carrier", "to_carrier", "to_bot", "from_bot"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.dropped.update(other.dropped)
        self.bad.update(other.bad)
        self.first_audio = self.first_audio or other.first_audio

    def note_carrier_error(self, code: str) -> None:
        """Count a carrier's complaint.

        By its error number, where it has one like other errors' numbers.
        """
        numbered = len(code) <= 6 and code.isascii() and code.isdecimal() and len(self.bad) < MAX_REASONS
        self.bad[f"{CARRIER_ERROR}_{code}" if numbered else CARRIER_ERROR] += 1


@dataclass(frozen=True, slots=True)
class EarlyMedia:
    """Media that came before `start`.

    messages: as they came.
    events: what they mean, once `start` has said how they are to be read.
    """

    messages: tuple[bytes, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """A carrier's stream after its handshake.

    handshake: its messages up to `start`, as they came.
    early: what came before `start`.
    resumes: our own answer asked for it, and it leads the carrier to /resume when the stream has ended.
    verified: a webhook or an upgrade that the carrier signed has named the call.
    """

    socket: Socket
    serializer: Serializer
    start: Start
    handshake: tuple[bytes, ...] = ()
    early: EarlyMedia = EarlyMedia()
    resumes: bool = False
    verified: bool = False


class MediaPath(Protocol):
    """What joins a session's stream and its link: a `Bridge` by PCM, a `Relay` by the carrier's own messages.

    Times are loop time, in seconds.
    """

    counts: Counts

    @property
    def streaming(self) -> bool:
        """True if there is a stream."""

    def unplayed(self, now: float) -> float:
        """Seconds of audio that the caller has still to hear, as far as it is known. Of a relay nothing is known: 0."""

    def attach_stream(self, stream: Stream, now: float) -> None:
        """Serve this stream from now on. Raises UnsupportedCodec, and nothing changes; a relay never does."""

    def detach_stream(self, now: float) -> None:
        """Serve no stream."""

    def stream_received(self, data: bytes, text: bool, now: float) -> None:
        """Take one message of the carrier's."""

    def attach_link(self, link: Socket, start: pcm.Start, now: float, news: Sequence[pcm.Status] = ()) -> None:
        """Tell the bot of the call, and then all that has waited for it.

        start, news: what a bot of our own protocol is told first; one on the carrier's wire gets the handshake.
        """

    def detach_link(self, now: float, *, final: bool = False) -> None:
        """Note that the bot is gone. final: no other comes, so the caller is not on hold."""

    def link_received(self, data: bytes, text: bool, now: float) -> None:
        """Take one message of the bot's."""

    def tell(self, message: pcm.ToWorker) -> None:
        """Say something to the bot. On the carrier's wire there are no words but the end."""

    def clear(self, now: float) -> None:
        """Drop what the caller has not heard, here and at the carrier; of a relay only hold audio is known."""

    def after_playback(self, action: Callable[[], None], now: float) -> None:
        """Call `action` when all audio so far has been heard; at once where only the carrier has it."""

    def send_keys(self, digits: str, now: float) -> None:
        """Press keys for an operator, behind what the bot has said."""

    def refuse_keys(self, reason: str) -> None:
        """Tell the bot that its keys are not pressed. On the carrier's wire bots press keys themselves."""

    def tick(self, now: float) -> None:
        """Do what is due. Called every 20 ms."""
