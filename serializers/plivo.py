"""Plivo audio streaming, bidirectional, and clones of it.

<Stream bidirectional="true">.

https://www.plivo.com/docs/voice/xml/stream and the audio streaming reference
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from serializers.base import Event, IdPatterns, Start, Stop
from serializers.call_data import CallData, own_parameters_removed
from serializers.fields import media_format, parameters, text_of
from serializers.numbers import e164_of_digits
from serializers.stream import CLEARED, DIGITS, JsonStream, failure, id_under, json_text, mark_name

PLAYED = ("playedStream", "played")
"""What a checkpoint is answered by; the latter is in one support article."""
_CONTENT_TYPES = {"mulaw": "audio/x-mulaw", "alaw": "audio/x-alaw", "l16": "audio/x-l16"}


class PlivoSerializer(JsonStream):
    """`start` is the first message; clones send media before it.

    A mark is called checkpoint here.
    """

    carrier: ClassVar[str] = "plivo"
    names_stream: ClassVar[re.Pattern[str] | None] = id_under("streamId")
    # Plivo's own are UUIDs; clones of it have others.
    ids: ClassVar[IdPatterns] = IdPatterns(call=r"[A-Za-z0-9-]{1,64}")

    @classmethod
    def owns_start(cls, top: Mapping[str, Any], start: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
        return bool(text_of(start, "callid", "calluuid")) and not text_of(start, "callcontrolid")

    def read_event(self, event: str, fields: dict[str, Any], now: float) -> Sequence[Event]:
        match event:
            case _ if event in PLAYED:
                return self.marks.echoed(text_of(fields, "name"))
            case "clearedAudio":
                return CLEARED
            case "playFailed":
                return (failure(fields),)
            case "end":  # what Plivo's older SDKs knew
                return (Stop(text_of(fields, "reason")),)
        return super().read_event(event, fields, now)

    def read_start(self, top: Mapping[str, Any], start: Mapping[str, Any]) -> Start | None:
        stream_id = text_of(start, "streamid") or text_of(top, "streamid")
        call_id = text_of(start, "callid", "calluuid") or text_of(top, "callid", "calluuid")
        if not call_id:
            return None
        media = media_format(start.get("mediaformat"), self.negotiated or self.default_format)
        # The name that we gave is "key1"; some versions return it as the SIP header that it became.
        headers = parameters(top.get("extraheaders") or start.get("extraheaders"))
        custom = {name.removeprefix("X-PH-"): value for name, value in headers.items()}
        call = CallData.model_validate(
            {
                "stream_id": stream_id or None,
                "call_id": call_id,
                **self.party_numbers(
                    custom.get("from_number", custom.get("from")), custom.get("to_number", custom.get("to"))
                ),
                "body": own_parameters_removed(custom),
                "carrier": self.carrier,
                "encoding": media.encoding,
                "sample_rate": media.sample_rate,
            }
        )
        account_id = text_of(start, "accountid") or text_of(top, "accountid")
        return Start(call, stream_id, call_id, account_id, inbound=media, outbound=media, custom=custom)

    def e164_of(self, number: str, other: str) -> str:
        return e164_of_digits(number, other, self.region)

    def write_heads(self, start: Start) -> None:
        self.stream_id = json_text(start.stream_id)
        # The content type goes without ";rate=", which is how `<Stream>` itself wants it.
        content_type = json_text(_CONTENT_TYPES.get(start.outbound.encoding, start.outbound.encoding))
        self.media_head = (
            f'{{"event":"playAudio","media":{{"contentType":{content_type},'
            f'"sampleRate":{start.outbound.sample_rate},"payload":"'
        )

    def clear(self) -> str:
        return f'{{"event":"clearAudio","streamId":{self.stream_id}}}'

    def mark(self, name: str) -> str:
        name = json_text(self.marks.put(name))
        return f'{{"event":"checkpoint","streamId":{self.stream_id},"name":{name}}}'

    def mark_set(self, message: bytes) -> str | None:
        return mark_name(message, ("checkpoint",))

    def mark_answered(self, message: bytes) -> str | None:
        return mark_name(message, PLAYED)

    def mark_answer(self, name: str) -> str:
        return f'{{"event":"playedStream","streamId":{self.stream_id},"name":{json_text(name)}}}'

    def dtmf(self, digits: str) -> str | None:
        keys = "".join(d for d in digits.upper() if d in DIGITS)
        return f'{{"event":"sendDTMF","dtmf":"{keys}"}}' if keys else None
