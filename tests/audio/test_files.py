from __future__ import annotations

import io
import math
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.files import convert, read_wav, write_wav
from gateway.audio.g711 import Pcm
from gateway.errors import AudioError

# Two samples, 1 and -2, mono, 8 kHz: RIFF, fmt (PCM, 1 channel, 8000 Hz, 16000 B/s, 2, 16 bit), data.
GOLDEN = bytes.fromhex(
    "52494646 28000000 57415645"
    "666d7420 10000000 0100 0100 401f0000 803e0000 0200 1000"
    "64617461 04000000 0100 feff"
)  # fmt: skip


def noise(n: int) -> Pcm:
    return np.random.default_rng(1).integers(-32_768, 32_768, n).astype(np.int16)


def a_wav(channels: int = 1, width: int = 2, rate: int = 8_000) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(channels)
        wav.setsampwidth(width)
        wav.setframerate(rate)
        wav.writeframes(bytes(channels * width * 4))
    file.seek(0)
    return file


def test_read_golden() -> None:
    pcm, rate = read_wav(io.BytesIO(GOLDEN))
    assert (pcm.tolist(), pcm.dtype, rate) == ([1, -2], np.int16, 8_000)


def test_write_golden() -> None:
    file = io.BytesIO()
    write_wav(file, np.array([1, -2], np.int16), 8_000)
    assert file.getvalue() == GOLDEN


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000])
@pytest.mark.parametrize("kind", [str, Path])
def test_round_trip_by_path(tmp_path: Path, kind: type, rate: int) -> None:
    file, pcm = kind(tmp_path / "a.wav"), noise(1_000)
    write_wav(file, pcm, rate)
    back, back_rate = read_wav(file)
    assert np.array_equal(back, pcm)
    assert back_rate == rate


def test_what_was_read_may_be_written_to() -> None:
    pcm, _ = read_wav(io.BytesIO(GOLDEN))
    pcm[0] = 7


def test_a_file_cut_short_gives_what_is_there() -> None:
    assert read_wav(io.BytesIO(GOLDEN[:-1]))[0].tolist() == [1]


@pytest.mark.parametrize(
    ("channels", "width", "what"), [(2, 2, "2 channel.s. of 16 bit"), (1, 1, "1 channel.s. of 8 bit"), (1, 3, "24 bit")]
)
def test_other_shapes_are_refused_with_the_mend(channels: int, width: int, what: str) -> None:
    with pytest.raises(AudioError, match=f"^audio: .*{what} at 8000 Hz; .*ffmpeg"):
        read_wav(a_wav(channels, width))


def test_rate_0_is_refused() -> None:
    with pytest.raises(AudioError, match="at 0 Hz"):
        read_wav(io.BytesIO(GOLDEN[:24] + bytes(4) + GOLDEN[28:]))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "too short"),
        (b"ID3\x04 this is an mp3", "RIFF"),
        (GOLDEN[:20], "too short"),
        (GOLDEN[:36], "data"),
        (GOLDEN[:20] + b"\x07\x00" + GOLDEN[22:], "unknown format: 7"),  # μ-law
        (GOLDEN[:22] + b"\x00\x00" + GOLDEN[24:], "channels"),
    ],
    ids=["empty", "mp3", "in-fmt", "no-data", "mulaw", "no-channels"],
)
def test_what_is_no_pcm_wav_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "voice.wav"
    file.write_bytes(content)
    with pytest.raises(AudioError, match=f"voice.wav: not a PCM WAV file .*{why}"):
        read_wav(file)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"none\.wav: No such file or directory"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="Is a directory"):
        read_wav(str(tmp_path))


@given(st.binary(max_size=60), st.integers(0, len(GOLDEN)), st.integers(0, len(GOLDEN)))
def test_any_bytes_are_read_or_refused(junk: bytes, start: int, end: int) -> None:
    try:
        pcm, rate = read_wav(io.BytesIO(GOLDEN[:start] + junk + GOLDEN[end:]))
    except AudioError:
        return
    assert pcm.dtype == np.int16
    assert rate >= 1


@pytest.mark.parametrize(
    ("source", "target"), [(8_000, 16_000), (22_050, 8_000), (44_100, 8_000), (48_000, 44_100), (8_000, 48_000)]
)
def test_convert_keeps_length_time_and_level(source: int, target: int) -> None:
    def tone(rate: int) -> Pcm:
        return np.rint(9_000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.int16)

    out = convert(tone(source), source, target)
    assert out.dtype == np.int16
    assert out.size == target
    inner = slice(target // 20, -target // 20)
    error = out[inner].astype(float) - tone(target)[inner]
    assert 20 * math.log10(out.std() / error.std()) > 70


def test_convert_keeps_silence_silent() -> None:
    assert not convert(np.zeros(22_050, np.int16), 22_050, 8_000).any()


def test_convert_of_equal_rates_is_the_same() -> None:
    pcm = noise(100)
    assert convert(pcm, 8_000, 8_000) is pcm


def test_convert_clips() -> None:
    square = np.where(np.arange(8_000) // 40 % 2 == 0, 32_767, -32_768).astype(np.int16)
    loud, soft = convert(square, 8_000, 16_000).astype(int), convert(square // 2, 8_000, 16_000).astype(int)
    assert (loud.min(), loud.max()) == (-32_768, 32_767)
    assert np.abs(loud - (2 * soft).clip(-32_768, 32_767)).max() <= 3
