from __future__ import annotations

import base64

import numpy as np
import pytest

from gateway.errors import UnsupportedCodec
from gateway.simulator.voice import Encoding, Voice, voice_for

PCM = np.array([0, 100, -100, 30000], np.int16)


@pytest.mark.parametrize(
    ("name", "rate", "silence"), [("PCMU", 8000, b"\xff"), ("PCMA", 8000, b"\xd5"), ("L16", 16000, b"\0\0")]
)
def test_silence_is_the_code_of_zero(name: str, rate: int, silence: bytes) -> None:
    encoding = Encoding(name, rate)
    assert encoding.encode(np.zeros(1, np.int16)) == silence == encoding.silence
    assert encoding.decode(silence).tolist() in ([0], [8])  # A-law has no zero


def test_l16_is_little_endian() -> None:
    assert Encoding("L16", 8000).encode(np.array([1, -2], np.int16)) == b"\x01\x00\xfe\xff"
    assert Encoding("L16", 8000).decode(b"\x01\x00\xfe\xff\x07").tolist() == [1, -2]


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(UnsupportedCodec, match="OPUS"):
        Encoding("OPUS", 48000)


def test_a_voice_is_cut_into_frames_and_padded_with_silence() -> None:
    voice = Voice(np.full(200, 32124, np.int16), Encoding("PCMU", 8000))
    assert len(voice) == 2
    assert voice.payload(0) == b"\x80" * 160
    assert voice.payload(1) == b"\x80" * 40 + b"\xff" * 120
    assert voice.payload(2) == b"\xff" * 160
    assert base64.b64decode(voice.base64(1)) == voice.payload(1)
    assert base64.b64decode(voice.base64(99)) == voice.payload(99)


def test_a_voice_at_another_rate_has_frames_of_the_same_time() -> None:
    voice = Voice(np.zeros(8000, np.int16), Encoding("L16", 16000), frame_ms=100)
    assert len(voice) == 10
    assert len(voice.payload(0)) == 3200


def test_calls_that_say_the_same_share_a_voice() -> None:
    encoding = Encoding("PCMU", 8000)
    assert voice_for(PCM, encoding, 20) is voice_for(PCM.copy(), encoding, 20)
