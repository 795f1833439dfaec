"""What a bridge is given, and what it tells: limits, counts, the stream it plays to, and the session's ear."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from gateway.media.playout import PlayoutLimits
from gateway.sockets import Socket
from serializers.base import Event, Serializer, Start


@dataclass(frozen=True, slots=True)
class BridgeLimits:
    """Seconds, unless said otherwise."""

    playout: PlayoutLimits = PlayoutLimits()
    waiting: float = 3.0
    """Caller audio kept while there is no bot to hear it; the oldest is dropped."""
    waiting_on_hold: float = 0.3
    """The same once the caller hears hold audio: what was said under it is old, and would make the bot late."""
    stream_unsent: int = 256 * 1024
    """Bytes not yet taken by the kernel for a carrier beyond which audio is dropped: it does not read."""
    link_unsent: int = 256 * 1024
    """Bytes not yet taken by the kernel for a worker beyond which its audio is dropped: it hangs or is too slow."""
    link_ping: float = 1.0
    """A link is asked this often, behind the audio: bytes handed to TCP are gone, a pong is not."""
    link_slow: float = 5.0
    """Unanswered this long: new audio is dropped and counted rather than piled up in front of the bot."""
    link_dead: float = 10.0
    """Unanswered this long: the worker is lost."""
    stream_quiet: float = 10.0
    """A carrier that sends no media is asked by a ping; a leg on hold is silent, so silence alone proves nothing."""
    stream_pong: float = 5.0
    """And given this long to answer."""
    silence_after: float = 10.0
    """Carriers that drop a call to which nothing is sent get a frame of silence this often."""
    hold_after: float = 1.0
    """A caller without a bot hears hold audio after this: shorter gaps are heard as a breath, not as a dead line."""
    behind: float = 2.0
    """What waits for the last word to be heard waits this long beyond our own estimate of it."""


class BridgeEvents(Protocol):
    """What the bridge tells the session. Called in the loop; must not block."""

    def stream_stopped(self, reason: str) -> None:
        """The carrier ended the stream in good order."""

    def stream_dead(self) -> None:
        """The carrier does not answer any more."""

    def link_dead(self) -> None:
        """The worker does not answer any more."""

    def bot_hangup(self, reason: str) -> None:
        """The bot has ended the call, and its last word has been heard."""

    def bot_transfer(self, to: str) -> None:
        """The bot hands the caller over, and its last word has been heard."""

    def bot_digits(self, digits: str) -> None:
        """The bot presses keys, and this carrier's stream cannot."""

    def bot_state(self, state: bytes) -> None:
        """The bot leaves this for its successor."""


CARRIER_ERROR = "carrier_error"
MAX_REASONS = 40
"""Reasons of bad messages that one call keeps apart: a stranger can make up error numbers as he likes."""


@dataclass(slots=True)
class Counts:
    """What passed and what did not. Frames are messages of audio."""

    from_carrier: int = 0
    to_carrier: int = 0
    to_bot: int = 0
    from_bot: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    first_audio: float = 0.0
    """When the first audio went to the carrier (the clock's time), 0 before."""

    def note_carrier_error(self, code: str) -> None:
        """A carrier has complained. Counted by its error number, where it has one like other errors' numbers."""
        numbered = len(code) <= 6 and code.isascii() and code.isdecimal() and len(self.bad) < MAX_REASONS
        self.bad[f"{CARRIER_ERROR}_{code}" if numbered else CARRIER_ERROR] += 1


@dataclass(frozen=True, slots=True)
class EarlyMedia:
    """Media that came before `start`.

    messages: as they came. events: what they mean, once `start` has said how they are to be read.
    """

    messages: tuple[bytes, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """A carrier's stream after its handshake.

    handshake: its messages up to `start`, as they came. early: what came before `start`.
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
