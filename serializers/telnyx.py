"""Telnyx media streaming over WebSocket, bidirectional in rtp mode.

https://developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from serializers.base import Event, IdPatterns, MediaFormat, Start, Wire
from serializers.call_data import TelnyxCallData, own_parameters_removed
from serializers.fields import folded, media_format, parameters, text_of
from serializers.jitter_buffer import JitterBuffer
from serializers.stream import FOREIGN_TRACK, JsonStream, chunk_number, id_under, json_text


class TelnyxSerializer(JsonStream):
    """Media come in any order and are put into theirs. What we send names no stream.

    Inbound is the leg's own codec, outbound what was asked for by `bidirectionalCodec`: they may differ. How Telnyx
    writes L16 its documents do not say; what runs against it says little-endian.
    """

    carrier: ClassVar[str] = "telnyx"
    wire: ClassVar[Wire] = Wire(silence=True)
    names_stream: ClassVar[re.Pattern[str] | None] = id_under("stream_id")
    ids: ClassVar[IdPatterns] = IdPatterns(call=r"[A-Za-z0-9:_-]{1,256}")

    def __init__(self, *, negotiated: MediaFormat | None = None, region: str | None = None) -> None:
        super().__init__(negotiated=negotiated, region=region)
        self._reorder = JitterBuffer(self.default_format)

    @classmethod
    def owns_start(cls, top: Mapping[str, Any], start: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
        return bool(text_of(start, "callcontrolid"))

    def tick(self, now: float) -> Sequence[Event]:
        return self._reorder.tick(now)

    def deliver(self, chunk: object, audio: bytes, now: float) -> Sequence[Event]:
        number = chunk_number(chunk)
        return self._reorder.push(number if number >= 0 else None, audio, now)

    def foreign_track(self) -> Sequence[Event]:
        # With both_tracks it is not documented whether each track counts its chunks for itself. Were the count shared,
        # every second chunk would be missed; so order no more.
        return [*self._reorder.give_up(), *FOREIGN_TRACK]

    def read_stop(self, fields: dict[str, Any]) -> Sequence[Event]:
        return [*self._reorder.flush(), *super().read_stop(fields)]

    def read_start(self, top: Mapping[str, Any], start: Mapping[str, Any]) -> Start | None:
        stream_id = text_of(top, "streamid") or text_of(start, "streamid")
        call_id = text_of(start, "callcontrolid") or text_of(top, "callcontrolid")
        if not call_id:
            return None
        announced = start.get("mediaformat")
        inbound = media_format(announced, self.default_format)
        custom = parameters(start.get("customparameters"))
        call = TelnyxCallData.model_validate(
            {
                "stream_id": stream_id or None,
                "call_id": call_id,
                **self.party_numbers(start.get("from", ""), start.get("to", "")),
                "body": own_parameters_removed(custom),
                "carrier": self.carrier,
                "encoding": inbound.encoding,
                "sample_rate": inbound.sample_rate,
                "outbound_encoding": text_of(folded(announced), "encoding") or None,
            }
        )
        account_id = text_of(start, "userid")
        outbound = self.negotiated or self.default_format
        return Start(call, stream_id, call_id, account_id, inbound, outbound, custom)

    def write_heads(self, start: Start) -> None:
        self.stream_id = json_text(start.stream_id)
        self._reorder = JitterBuffer(start.inbound)

    def clear(self) -> str:
        return '{"event":"clear"}'

    def mark(self, name: str) -> str:
        return f'{{"event":"mark","mark":{{"name":{json_text(self.marks.put(name))}}}}}'

    def mark_answer(self, name: str) -> str:
        return f'{{"event":"mark","stream_id":{self.stream_id},"mark":{{"name":{json_text(name)}}}}}'
