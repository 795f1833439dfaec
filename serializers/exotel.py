"""Exotel AgentStream: the Voicebot applet's bidirectional stream.

https://developer.exotel.com/docs/agentstream/stream-voicebot-applet

No real capture is public; the shapes are those of its pages and of what others built, so both cases are read.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from serializers.base import Event, IdPatterns, MediaFormat, Start, Wire
from serializers.call_data import ExotelCallData, own_parameters_removed
from serializers.fields import media_format, parameters, text_of
from serializers.stream import CLEARED, JsonStream, id_under, json_text


class ExotelSerializer(JsonStream):
    """Audio is s16le, and what we send is numbered.

    Streams without numbers were reported to drop early.

    region: Exotel writes national numbers; India's unless said otherwise.
    """

    carrier: ClassVar[str] = "exotel"
    wire: ClassVar[Wire] = Wire(chunk=320, chunk_min=3_200, silence=True)  # "Minimum 3.2 KB, a multiple of 320 bytes"
    names_stream: ClassVar[re.Pattern[str] | None] = id_under(
        "stream_sid", "streamSid"
    )  # the second is what most bots for Exotel write
    ids: ClassVar[IdPatterns] = IdPatterns(call=r"[A-Za-z0-9_-]{1,64}")
    default_format: ClassVar[MediaFormat] = MediaFormat("l16", 8000)

    def __init__(self, *, negotiated: MediaFormat | None = None, region: str | None = None) -> None:
        super().__init__(negotiated=negotiated, region=region or "IN")
        self._sequence = 0  # of all our messages
        self._chunk = 0  # of our media
        self._sent = 0  # bytes of audio
        self._bytes_per_ms = 16

    @classmethod
    def owns_start(cls, top: Mapping[str, Any], start: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
        return has_twilio_ids(top, start) and is_exotel(start, raw)

    def read_event(self, event: str, fields: dict[str, Any], now: float) -> Sequence[Event]:
        return CLEARED if event == "clear" else super().read_event(event, fields, now)

    def read_start(self, top: Mapping[str, Any], start: Mapping[str, Any]) -> Start | None:
        stream_id = text_of(start, "streamsid") or text_of(top, "streamsid")
        call_id = text_of(start, "callsid") or text_of(top, "callsid")
        if not stream_id or not call_id:
            return None
        media = media_format(start.get("mediaformat"), self.negotiated or self.default_format)
        if media.encoding not in ("mulaw", "alaw"):
            # "base64", "raw", "audio/x-raw", "128kbps" …: the pages put anything here, and the audio is slin.
            media = MediaFormat("l16", media.sample_rate)
        given = start.get("customparameters", "")
        custom = parameters(given)
        body = own_parameters_removed(custom)
        account_id = text_of(start, "accountsid") or text_of(top, "accountsid")
        call = ExotelCallData.model_validate(
            {
                "stream_id": stream_id,
                "call_id": call_id,
                **self.party_numbers(start.get("from", ""), start.get("to", "")),
                "body": body,
                "carrier": self.carrier,
                "encoding": media.encoding,
                "sample_rate": media.sample_rate,
                "account_sid": account_id or None,
                # Text stays text, as Exotel gave it, unless there is something of ours in it.
                "custom_parameters": given if given is None or (isinstance(given, str) and body == custom) else body,
            }
        )
        return Start(call, stream_id, call_id, account_id, inbound=media, outbound=media, custom=custom)

    def write_heads(self, start: Start) -> None:
        self.stream_id = json_text(start.stream_id)
        self._bytes_per_ms = max(1, start.outbound.sample_rate * start.outbound.bytes_per_sample // 1000)

    def media(self, payload: bytes) -> str:
        self._chunk += 1
        timestamp = self._sent // self._bytes_per_ms
        self._sent += len(payload)
        audio = b2a_base64(payload, newline=False).decode()
        return (
            f'{{"event":"media","stream_sid":{self.stream_id},"sequence_number":"{self._counted()}",'
            f'"media":{{"chunk":"{self._chunk}","timestamp":"{timestamp}","payload":"{audio}"}}}}'
        )

    def clear(self) -> str:
        return f'{{"event":"clear","stream_sid":{self.stream_id},"sequence_number":"{self._counted()}"}}'

    def mark(self, name: str) -> str:
        name = json_text(self.marks.put(name))
        return (
            f'{{"event":"mark","stream_sid":{self.stream_id},"sequence_number":"{self._counted()}",'
            f'"mark":{{"name":{name}}}}}'
        )

    def mark_answer(self, name: str) -> str:
        return f'{{"event":"mark","stream_sid":{self.stream_id},"mark":{{"name":{json_text(name)}}}}}'

    def _counted(self) -> int:
        self._sequence += 1
        return self._sequence


def has_twilio_ids(top: Mapping[str, Any], start: Mapping[str, Any]) -> bool:
    """Say whether a `start` names call and stream as Twilio and Exotel do.

    No other carrier does.
    """
    if text_of(start, "callcontrolid", "callid", "calluuid"):
        return False
    return bool(text_of(start, "callsid") and (text_of(start, "streamsid") or text_of(top, "streamsid")))


def is_exotel(start: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
    """Say whether a `start` with ids as Twilio's is Exotel's.

    start: folded. raw: as it came.

    Exotel's names are in snake case as a rule, and only its `start` has numbers; else the account says it:
    Twilio's begin with AC.
    """
    if "call_sid" in raw or "custom_parameters" in raw or "media_format" in raw:
        return True
    if "from" in start or "to" in start:
        return True
    account = text_of(start, "accountsid")
    return bool(account) and not account.startswith("AC")
