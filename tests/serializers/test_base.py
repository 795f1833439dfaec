"""What a serializer does unless its carrier does otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from serializers.base import Event, Mark, MediaFormat, Serializer, Wire


class Plain(Serializer):
    carrier: ClassVar[str] = "plain"

    @classmethod
    def recognizes(cls, handshake: Mapping[str, Any]) -> bool:
        return False

    def decode(self, message: str | bytes, *, text: bool = True, now: float = 0.0) -> Sequence[Event]:
        return ()

    def media(self, payload: bytes) -> str:
        return ""

    def clear(self) -> str:
        return ""

    def mark(self, name: str) -> str:
        return ""

    def flush_marks(self) -> list[Mark]:
        return []


def test_it_has_not_started_and_knows_what_was_asked():
    asked = MediaFormat("alaw", 8000)
    plain = Plain(negotiated=asked, region="IN")
    assert (plain.started, plain.negotiated, plain.region) == (None, asked, "IN")
    assert (Plain().negotiated, Plain().region) == (None, None)


def test_time_brings_nothing_and_keys_cannot_be_sent():
    assert Plain().tick(1.0) == ()
    assert Plain().dtmf("1") is None


def test_a_plain_wire_wants_20_ms_frames_and_no_silence():
    assert Plain.wire == Wire(chunk=0, chunk_min=0, silence=False)
