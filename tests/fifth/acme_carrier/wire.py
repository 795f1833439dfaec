"""Acme's media streams: a `start` with members of its own, audio always A-law."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from serializers.base import IdPatterns, MediaFormat, Start
from serializers.call_data import CallData, own_parameters_removed
from serializers.fields import parameters, text_of
from serializers.stream import JsonStream, json_text


class AcmeSerializer(JsonStream):
    carrier: ClassVar[str] = "acme"
    ids: ClassVar[IdPatterns] = IdPatterns(call=r"acme-[a-z0-9]{1,40}")
    default_format: ClassVar[MediaFormat] = MediaFormat("alaw", 8000)

    @classmethod
    def owns_start(cls, top: Mapping[str, Any], start: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
        return "acmecall" in start

    def read_start(self, top: Mapping[str, Any], start: Mapping[str, Any]) -> Start | None:
        call_id, stream_id = text_of(start, "acmecall"), text_of(start, "acmestream")
        if not call_id or not stream_id:
            return None
        custom, media = parameters(start.get("parameters")), self.default_format
        call = CallData.model_validate(
            {
                "stream_id": stream_id,
                "call_id": call_id,
                **self.party_numbers(start.get("from"), start.get("to")),
                "body": own_parameters_removed(custom),
                "carrier": self.carrier,
                "encoding": media.encoding,
                "sample_rate": media.sample_rate,
            }
        )
        return Start(call, stream_id, call_id, text_of(start, "account"), media, media, custom)

    def write_heads(self, start: Start) -> None:
        pass

    def clear(self) -> str:
        return '{"event":"clear"}'

    def mark(self, name: str) -> str:
        return f'{{"event":"mark","name":{json_text(self.marks.put(name))}}}'
