"""What the carriers' streams have in common.

JSON text messages with an `event`, media in base64.

A carrier's own file says what its `start` holds, how its commands are written, and what is its alone.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from binascii import a2b_base64, b2a_base64
from collections.abc import Collection, Mapping, Sequence
from json import dumps
from typing import Any, ClassVar

import orjson

from serializers.base import (
    Cleared,
    Connected,
    Dtmf,
    Event,
    Failure,
    Mark,
    Media,
    MediaFormat,
    Reason,
    Rejected,
    Serializer,
    Start,
    Stop,
)
from serializers.fields import folded, text_of
from serializers.lost_media import InOrder
from serializers.marks import MarkTracker
from serializers.numbers import e164

MAX_MESSAGE = 256 * 1024
"""Characters or bytes of one message; the socket allows less. Carriers send 20 to 200 ms of audio at once."""

MAX_EARLY = 250
"""Media messages that are kept when they come before `start` (clones of Plivo do that): five seconds of audio, after
which a stream without `start` is closed."""
MAX_EARLY_BYTES = 160 * 1024
"""Five seconds of the widest audio that a carrier sends unasked, 16 kHz in 16 bits."""

MAX_NUMBER = 12
"""Characters of a chunk's number: a thousand years of 20 ms have fewer."""

DIGITS = frozenset("0123456789*#ABCD")
"""ITU-T Q.23."""


def rejected(reason: Reason) -> Sequence[Event]:
    """Make the events of a message that gave nothing.

    Made once: a flood of bad messages should cost little.
    """
    return (Rejected(reason),)


BINARY = rejected("binary")
OVERSIZED = rejected("oversized")
NOT_JSON = rejected("not_json")
NOT_OBJECT = rejected("not_object")
UNKNOWN_EVENT = rejected("unknown_event")
FOREIGN_TRACK = rejected("foreign_track")
BAD_BASE64 = rejected("bad_base64")
BAD_MEDIA = rejected("bad_media")
BAD_DTMF = rejected("bad_dtmf")
EARLY_MEDIA = rejected("early_media")
BAD_START = rejected("bad_start")
SECOND_START = rejected("second_start")

CLEARED: Sequence[Event] = (Cleared(),)


class JsonStream(Serializer):
    """A stream of JSON messages; one subclass per carrier."""

    names_stream: ClassVar[re.Pattern[str] | None] = None
    """Where the stream's id stands in a message, of either side, up to the id itself. A key in a string of somebody
    else's is written with backslashes, and so is none. None: messages name no stream."""
    default_format: ClassVar[MediaFormat] = MediaFormat("mulaw", 8000)
    """Of both directions, where neither `start` nor our own XML says otherwise."""

    def __init__(self, *, negotiated: MediaFormat | None = None, region: str | None = None) -> None:
        super().__init__(negotiated=negotiated, region=region)
        self.marks = MarkTracker()
        self._early: list[tuple[object, bytes]] = []
        self._early_bytes = 0
        self.stream_id = '""'  # as JSON
        self._order = InOrder(self.default_format)
        self._wide = False  # two bytes a sample: audio that ends within one is no audio
        self.media_head, self.media_tail = '{"event":"media","media":{"payload":"', '"}}'

    @classmethod
    def recognizes(cls, handshake: Mapping[str, Any]) -> bool:
        start = handshake.get("start")
        if handshake.get("event", "start") != "start" or not isinstance(start, dict):
            return False
        return cls.owns_start(folded(handshake), folded(start), start)

    @classmethod
    @abstractmethod
    def owns_start(cls, top: Mapping[str, Any], start: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
        """Say whether these are this carrier's names.

        top, start: of the message, folded. raw: `start` as it came.
        """

    # In

    def decode(self, message: str | bytes, *, text: bool = True, now: float = 0.0) -> Sequence[Event]:
        if not text:
            return BINARY
        if len(message) > MAX_MESSAGE:
            return OVERSIZED
        try:
            fields = orjson.loads(message)
        except orjson.JSONDecodeError:
            return NOT_JSON
        if type(fields) is not dict:
            return NOT_OBJECT
        event = fields.get("event")
        if event != "media":
            return self.read_event(event, fields, now) if isinstance(event, str) else UNKNOWN_EVENT

        # The hot path, 50 times a second and call: written out, for each call or check costs a twentieth of it.
        try:
            media = fields["media"]
            track = media.get("track")
            audio = a2b_base64(media["payload"], strict_mode=True)
        except ValueError:
            return BAD_BASE64
        except (KeyError, TypeError, AttributeError):
            return BAD_MEDIA
        if track != "inbound" and is_foreign(track):
            return self.foreign_track()
        if not audio or (self._wide and len(audio) & 1):
            return BAD_MEDIA
        if self.started is None:
            return self._keep_early(media, audio)
        return self.deliver(media.get("chunk"), audio, now)

    def deliver(self, chunk: object, audio: bytes, now: float) -> Sequence[Event]:
        """Give out audio of the caller, and silence for what was lost before it.

        chunk: its number, as the carrier wrote it.
        """
        order = self._order
        number = chunk_number(chunk)
        if number == order.due:
            order.due = number + 1
        elif number >= 0:
            return (*order.skipped(number, audio), Media(audio))
        return (Media(audio),)

    def foreign_track(self) -> Sequence[Event]:
        """Media of a track that is not the caller's."""
        return FOREIGN_TRACK

    def _keep_early(self, media: Mapping[str, Any], audio: bytes) -> Sequence[Event]:
        full = len(self._early) >= MAX_EARLY or self._early_bytes + len(audio) > MAX_EARLY_BYTES
        if full:
            return EARLY_MEDIA
        self._early.append((media.get("chunk"), audio))
        self._early_bytes += len(audio)
        return ()

    def read_event(self, event: str, fields: dict[str, Any], now: float) -> Sequence[Event]:
        """Every other message. A carrier's own events are looked at before these."""
        match event:
            case "connected":
                return (Connected(),)
            case "start":
                return self._start(fields, now)
            case "dtmf":
                return _dtmf(folded(fields.get("dtmf")))
            case "mark":
                name = text_of(folded(fields.get("mark")), "name") or text_of(fields, "name")
                return self.marks.echoed(name)
            case "stop":
                return self.read_stop(fields)
            case "error":
                return (failure(fields),)
        return UNKNOWN_EVENT

    def _start(self, fields: dict[str, Any], now: float) -> Sequence[Event]:
        if self.started is not None:
            return SECOND_START
        start = self.read_start(folded(fields), folded(fields.get("start")))
        ids = self.ids
        if start is None or not ids.is_call(start.call_id):
            return BAD_START
        if not (ids.is_stream(start.stream_id) and ids.is_account(start.account_id)):
            return BAD_START
        self.started = start
        self._wide = start.inbound.encoding == "l16"
        self._order = InOrder(start.inbound)
        self.write_heads(start)
        early, self._early = self._early, []
        events: list[Event] = [start]
        for chunk, audio in early:
            if not (self._wide and len(audio) & 1):
                events += self.deliver(chunk, audio, now)
        return events

    def read_stop(self, fields: dict[str, Any]) -> Sequence[Event]:
        return (Stop(text_of(folded(fields.get("stop")), "reason") or text_of(fields, "reason")),)

    @abstractmethod
    def read_start(self, top: Mapping[str, Any], start: Mapping[str, Any]) -> Start | None:
        """Read the handshake out of the message and its `start`, both folded.

        None where an id is missing.
        """

    @abstractmethod
    def write_heads(self, start: Start) -> None:
        """Whatever of the outgoing messages is known from now on."""

    def party_numbers(self, raw_from: object, raw_to: object) -> dict[str, str | None]:
        """Fill CallData's four fields for the two numbers.

        A number that is not there stays what it is: "" or None.
        """
        sender, callee = text_of({"from": raw_from}, "from"), text_of({"to": raw_to}, "to")
        return {
            "from": self.e164_of(sender, callee) if sender or raw_from == "" else None,
            "to": self.e164_of(callee, sender) if callee or raw_to == "" else None,
            "raw_from": sender,
            "raw_to": callee,
        }

    def e164_of(self, number: str, other: str) -> str:
        """A number of this carrier's as E.164. other: the one at the other end."""
        return e164(number, self.region)

    # Out

    def media(self, payload: bytes) -> str:
        return self.media_head + b2a_base64(payload, newline=False).decode() + self.media_tail

    def with_stream_id(self, message: str, stream_id: str) -> str:
        if self.names_stream is None:
            return message
        written = json_text(stream_id)
        return self.names_stream.sub(lambda found: found[1] + written, message)

    def flush_marks(self) -> list[Mark]:
        return self.marks.flush()

    def mark_set(self, message: bytes) -> str | None:
        return mark_name(message, ("mark",))

    def mark_answered(self, message: bytes) -> str | None:
        return mark_name(message, ("mark",))


def mark_name(message: bytes, events: Collection[str]) -> str | None:
    """Return the name in a message about a mark, by the events that are one; None: it is another, or has no name."""
    if not any(event.encode() in message for event in events):  # without parsing it
        return None
    try:
        fields = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict) or fields.get("event") not in events:
        return None
    return text_of(folded(fields.get("mark")), "name") or text_of(fields, "name") or None


def chunk_number(chunk: object) -> int:
    """The number of a media message: a decimal string as a rule; -1 if it has none."""
    if type(chunk) is not int:
        if type(chunk) is not str or len(chunk) > MAX_NUMBER:
            return -1
        try:
            chunk = int(chunk)
        except ValueError:
            return -1
    return chunk if chunk >= 0 else -1


def is_foreign(track: object) -> bool:
    """Say whether this track is not the caller's.

    Unknown words pass: silence for a whole call is the worse mistake.
    """
    return isinstance(track, str) and track.lower().startswith("outbound")


def _dtmf(dtmf: Mapping[str, Any]) -> Sequence[Event]:
    if is_foreign(dtmf.get("track")):
        return FOREIGN_TRACK
    digit = text_of(dtmf, "digit").upper()
    return (Dtmf(digit),) if digit in DIGITS else BAD_DTMF


def failure(fields: Mapping[str, Any]) -> Failure:
    """Read a complaint in any of the shapes seen.

    `payload: {code, title, detail}`, `error: {reason}`, or flat.
    """
    event = text_of(fields, "event")
    inner = next((f for name in ("payload", "error", event) if (f := folded(fields.get(name)))), fields)
    words = [text_of(inner, "title"), text_of(inner, "detail", "reason", "message", "error")]
    code = text_of(inner, "code") or event
    return Failure(code, ": ".join(filter(None, words)))


def id_under(*keys: str) -> re.Pattern[str]:
    """Find the id that stands under one of these keys. The first group is what stands before it."""
    return re.compile(rf'("(?:{"|".join(keys)})"\s*:\s*)"(?:[^"\\]|\\.)*"')


def json_text(text: str) -> str:
    """Write `text` as a JSON string, pure ASCII.

    It can be put into a message by concatenation.
    """
    return dumps(text)
