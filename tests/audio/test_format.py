from __future__ import annotations

import pytest

from gateway.audio.format import AudioFormat
from gateway.errors import UnsupportedCodec


@pytest.mark.parametrize(
    ("encoding", "rate", "nbytes"),
    [
        ("mulaw", 8_000, 160),
        ("alaw", 8_000, 160),
        ("l16", 8_000, 320),
        ("l16", 16_000, 640),
        ("l16", 48_000, 1920),
    ],
)
def test_20_ms_in_bytes(encoding: str, rate: int, nbytes: int) -> None:
    wire = AudioFormat.of(encoding, rate)
    assert wire.bytes_for_ms(20) == nbytes


def test_bytes_for_ms_are_whole_samples() -> None:
    assert AudioFormat("l16", 22_050).bytes_for_ms(1) == 44  # 22.05 samples
    assert AudioFormat("l16", 8_000).bytes_for_ms(0.2) == 2  # 1.6 samples
    assert AudioFormat("mulaw", 8_000).bytes_for_ms(0) == 0


@pytest.mark.parametrize(("encoding", "byte"), [("mulaw", b"\xff"), ("alaw", b"\xd5"), ("l16", b"\x00")])
def test_silence(encoding: str, byte: bytes) -> None:
    assert AudioFormat.of(encoding, 8_000).silence(4) == byte * 4
    assert AudioFormat.of(encoding, 8_000).silence(0) == b""


@pytest.mark.parametrize("rate", [8_000, 11_025, 48_000])
def test_of_takes_rates_from_8_to_48_kHz(rate: int) -> None:  # noqa: N802 - the unit's name
    assert AudioFormat.of("l16", rate) == AudioFormat("l16", rate)


@pytest.mark.parametrize("rate", [0, -8_000, 7_999, 48_001])
def test_of_refuses_other_rates(rate: int) -> None:
    with pytest.raises(UnsupportedCodec, match=f"^sample rate {rate} Hz is not between 8000 and 48000$"):
        AudioFormat.of("l16", rate)


@pytest.mark.parametrize("encoding", ["opus", "", "MULAW", "audio/x-mulaw"])
def test_of_refuses_other_encodings(encoding: str) -> None:
    with pytest.raises(UnsupportedCodec, match=f"^encoding '{encoding}' is not one of mulaw, alaw, l16$"):
        AudioFormat.of(encoding, 8_000)


def test_of_does_not_repeat_a_strangers_long_word() -> None:
    with pytest.raises(UnsupportedCodec) as refused:
        AudioFormat.of("x" * 10_000, 8_000)
    assert len(str(refused.value)) < 100
