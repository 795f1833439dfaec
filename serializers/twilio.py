"""Twilio Media Streams, bidirectional (<Connect><Stream>).

https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from serializers.base import IdPatterns, Start
from serializers.call_data import CallData, own_parameters_removed
from serializers.exotel import has_twilio_ids, is_exotel
from serializers.fields import media_format, parameters, text_of
from serializers.stream import JsonStream, id_under, json_text


class TwilioSerializer(JsonStream):
    """Media, mark and clear are all that may be sent.

    Anything else ends the stream (error 31924).
    """

    carrier: ClassVar[str] = "twilio"
    names_stream: ClassVar[re.Pattern[str] | None] = id_under("streamSid")
    ids: ClassVar[IdPatterns] = IdPatterns(call=r"CA[A-Za-z0-9_-]{1,64}")

    @classmethod
    def owns_start(cls, top: Mapping[str, Any], start: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
        return has_twilio_ids(top, start) and not is_exotel(start, raw)

    def read_start(self, top: Mapping[str, Any], start: Mapping[str, Any]) -> Start | None:
        stream_id = text_of(start, "streamsid") or text_of(top, "streamsid")
        call_id = text_of(start, "callsid") or text_of(top, "callsid")
        if not stream_id or not call_id:
            return None
        media = media_format(start.get("mediaformat"), self.negotiated or self.default_format)
        custom = parameters(start.get("customparameters"))
        # `start` names no numbers: they travel as parameters, under the names that Pipecat reads.
        call = CallData.model_validate(
            {
                "stream_id": stream_id,
                "call_id": call_id,
                **self.party_numbers(custom.get("from_number"), custom.get("to_number")),
                "body": own_parameters_removed(custom),
                "carrier": self.carrier,
                "encoding": media.encoding,
                "sample_rate": media.sample_rate,
            }
        )
        account_id = text_of(start, "accountsid") or text_of(top, "accountsid")
        return Start(call, stream_id, call_id, account_id, inbound=media, outbound=media, custom=custom)

    def write_heads(self, start: Start) -> None:
        self.stream_id = json_text(start.stream_id)
        self.media_head = f'{{"event":"media","streamSid":{self.stream_id},"media":{{"payload":"'

    def clear(self) -> str:
        return f'{{"event":"clear","streamSid":{self.stream_id}}}'

    def mark(self, name: str) -> str:
        name = json_text(self.marks.put(name))
        return f'{{"event":"mark","streamSid":{self.stream_id},"mark":{{"name":{name}}}}}'

    def mark_answer(self, name: str) -> str:
        return f'{{"event":"mark","streamSid":{self.stream_id},"mark":{{"name":{json_text(name)}}}}}'
