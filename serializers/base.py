"""What every carrier's wire is made of.

Events in, commands out, and the serializer between.

A serializer is one object for one stream. It does no I/O and knows no clock: `decode()` turns one WebSocket
message into typed events, the command methods turn a command into the message that this carrier understands.

Only this edge is lenient. `decode()` is total: any message gives events, at worst one `Rejected` that says
why, and never an exception, for the bytes come from a stranger.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from serializers.call_data import CallData


@dataclass(frozen=True, slots=True)
class MediaFormat:
    """How audio is written on the wire.

    encoding: "mulaw", "alaw" or "l16" (s16le mono); anything else is the carrier's own word, lower case, for
    a codec that we do not know. sample_rate: in Hz.
    """

    encoding: str
    sample_rate: int

    @property
    def bytes_per_sample(self) -> int:
        """2 for l16, 1 for the G.711 laws."""
        return 2 if self.encoding == "l16" else 1


@dataclass(frozen=True, slots=True)
class Connected:
    """The carrier's greeting, before `Start`. Not every carrier sends it."""


@dataclass(frozen=True, slots=True)
class Start:
    """The handshake is complete.

    inbound: the format of what we shall receive. outbound: of what we must send. custom: every custom
    parameter as it came, our own among them; `call.body` holds those that are not ours.
    """

    call: CallData
    stream_id: str
    call_id: str
    account_id: str
    inbound: MediaFormat
    outbound: MediaFormat
    custom: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)  # not frozen: one is made for each frame, and a frozen one takes twice as long
class Media:
    """Audio of the caller: payload in the inbound format, base64 removed."""

    payload: bytes


@dataclass(slots=True)
class Silence(Media):
    """Silence in place of audio that was lost on the way.

    The carrier numbered it, and it never came; as long as that was.

    more: bytes of the same gap that follow at once, in further events. after: the audio that came behind the gap.
    """

    more: int = 0
    after: bytes = b""


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key of the caller: one of 0-9 * # A-D."""

    digit: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark of ours came back.

    played: all audio before it was heard; False: it was flushed by a clear.
    """

    name: str
    played: bool


@dataclass(frozen=True, slots=True)
class Cleared:
    """The carrier says that it has dropped what it had not played.

    Plivo does; Exotel's page lists it too.
    """


@dataclass(frozen=True, slots=True)
class Stop:
    """The carrier said that the stream is over. reason: its own word, or ""."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The carrier complains in band, and the stream goes on.

    Telnyx `error`, Plivo `playFailed`.
    """

    code: str
    text: str


Reason: TypeAlias = Literal[
    "not_json",  # not JSON, not UTF-8, or nested beyond reason
    "not_object",
    "binary",
    "oversized",
    "unknown_event",
    "foreign_track",  # our own audio echoed back to us, or a track that we did not ask for
    "bad_base64",
    "bad_media",
    "bad_dtmf",
    "bad_mark",
    "bad_start",
    "second_start",
    "early_media",  # sound, and more than is kept of what comes before `start`
    "duplicate",  # media that came twice
    "late",  # media that came after its gap was closed with silence
]


@dataclass(frozen=True, slots=True)
class Rejected:
    """One message that gave nothing: count it under its reason and go on."""

    reason: Reason


Event: TypeAlias = Connected | Start | Media | Dtmf | Mark | Cleared | Stop | Failure | Rejected


@dataclass(frozen=True, slots=True)
class Wire:
    """What a carrier's stream can and cannot do.

    The bridge goes by this and never by the carrier's name.
    """

    chunk: int = 0
    """Outgoing audio goes in multiples of this many bytes (Exotel: 320); 0: of 20 ms."""
    chunk_min: int = 0
    """The least bytes of one outgoing media message (Exotel: 3,200); 0: one 20 ms frame."""
    silence: bool = False
    """The carrier drops calls to which nothing is sent: keep them alive with silence."""


@dataclass(frozen=True, slots=True)
class IdPatterns:
    """How a carrier writes its ids.

    What does not match is no id, and goes into no URL, key or log.

    Regular expressions that the whole id matches. Looser than what the carriers write today, but without "." and "/",
    and apart from each other's where the carriers' are.
    """

    call: str
    account: str = r"[A-Za-z0-9_-]{1,64}"
    stream: str = r"[A-Za-z0-9:_-]{1,128}"

    def is_call(self, text: str) -> bool:
        """Whether the text can be a call's id."""
        return re.fullmatch(self.call, text) is not None

    def is_account(self, text: str) -> bool:
        """Whether the text can be an account's id, or names none."""
        return text == "" or re.fullmatch(self.account, text) is not None

    def is_stream(self, text: str) -> bool:
        """Whether the text can be a stream's id, or names none."""
        return text == "" or re.fullmatch(self.stream, text) is not None


class Serializer(ABC):
    """One stream's wire. Subclasses: one per carrier.

    negotiated: the format that our own XML asked of the carrier for what we send; None where nothing of ours asked
    (a static stream). region: how national numbers are read ("IN"), or None.
    """

    carrier: ClassVar[str]
    ids: ClassVar[IdPatterns]
    wire: ClassVar[Wire] = Wire()

    def __init__(self, *, negotiated: MediaFormat | None = None, region: str | None = None) -> None:
        self.negotiated = negotiated
        self.region = region
        self.started: Start | None = None

    @classmethod
    @abstractmethod
    def recognizes(cls, handshake: Mapping[str, Any]) -> bool:
        """Say whether this JSON message is the `start` of this carrier alone.

        Never raises.

        For URLs that do not name the carrier (`/ws`).
        """

    @abstractmethod
    def decode(self, message: str | bytes, *, text: bool = True, now: float = 0.0) -> Sequence[Event]:
        """Events of one WebSocket message, in order; never raises.

        message: the payload of a text frame (str, or its undecoded bytes) or, with text=False, of a binary
        one. now: monotonic seconds; only carriers whose media come out of order look at it.
        """

    def tick(self, now: float) -> Sequence[Event]:
        """Give out what time alone brings.

        Media kept back for an earlier chunk that never came.
        """
        return ()

    # Commands. Each gives the text message to send. Only after `Start`.

    @abstractmethod
    def media(self, payload: bytes) -> str:
        """Play `payload` (outbound format) behind what has been sent before."""

    @abstractmethod
    def clear(self) -> str:
        """Drop what has not been played.

        Pending marks are reported by `flush_marks()`, not the carrier.
        """

    @abstractmethod
    def mark(self, name: str) -> str:
        """Ask to be told when all audio sent so far has been played."""

    def with_stream_id(self, message: str, stream_id: str) -> str:
        """Write this carrier's message, of either side, for the stream of this id.

        For a bot that speaks the wire: it knows the id of its first stream, and the call may be on another by now.
        """
        return message

    def mark_set(self, message: bytes) -> str | None:
        """Return the name of the mark that this message of a bot's sets; None: it sets none.

        Of a bot that speaks the wire itself, as the two below.
        """
        return None

    def mark_answered(self, message: bytes) -> str | None:
        """Return the name of the mark that this message of the carrier's answers; None: it answers none."""
        return None

    def mark_answer(self, name: str) -> str:
        """Write what the carrier answers to a mark of this name, once it has been played or cleared."""
        return self.mark(name)

    def dtmf(self, digits: str) -> str | None:
        """Send keys to the other side; None where this wire cannot."""
        return None

    @abstractmethod
    def flush_marks(self) -> list[Mark]:
        """All marks still out, as not played; a later echo of one of them is swallowed.

        Called with every clear, and when the stream is lost.
        """
