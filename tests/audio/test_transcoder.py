from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio import g711
from gateway.audio.format import AudioFormat, Encoding
from gateway.audio.resample import resampler
from gateway.audio.transcoder import Transcoder

MULAW = AudioFormat("mulaw", 8_000)
ALAW = AudioFormat("alaw", 8_000)
L16_8K = AudioFormat("l16", 8_000)
L16_16K = AudioFormat("l16", 16_000)
FORMATS = [AudioFormat(encoding, rate) for encoding in get_args(Encoding) for rate in (8_000, 16_000, 24_000, 48_000)]
DECODE = {"mulaw": g711.mulaw_decode, "alaw": g711.alaw_decode, "l16": lambda data: np.frombuffer(data, "<i2")}
ENCODE = {"mulaw": g711.mulaw_encode, "alaw": g711.alaw_encode, "l16": lambda pcm: pcm.astype("<i2")}


def noise(nbytes: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(nbytes)


# Literal bytes.


@pytest.mark.parametrize(
    ("source", "target", "data", "expected"),
    [
        (MULAW, L16_8K, b"\xff\x00\x80\x7f", b"\x00\x00\x84\x82\x7c\x7d\x00\x00"),
        (ALAW, L16_8K, b"\xd5\x55\xaa\x2a", b"\x08\x00\xf8\xff\x00\x7e\x00\x82"),
        (L16_8K, MULAW, b"\x00\x00\xff\xff\xff\x7f\x00\x80", b"\xff\x7f\x80\x00"),
        (L16_8K, ALAW, b"\x00\x00\xff\xff\xff\x7f\x00\x80", b"\xd5\x55\xaa\x2a"),
        (MULAW, ALAW, b"\xff\x00\x80\x7f", b"\xd5\x2a\xaa\xd5"),
        (ALAW, MULAW, b"\xd5\x55\xaa\x2a", b"\xfe\x7e\x80\x00"),
    ],
    ids=["mulaw-l16", "alaw-l16", "l16-mulaw", "l16-alaw", "mulaw-alaw", "alaw-mulaw"],
)
def test_same_rate_in_bytes(source: AudioFormat, target: AudioFormat, data: bytes, expected: bytes) -> None:
    transcoder = Transcoder(source, target)
    assert transcoder.feed(data) == expected
    assert transcoder.flush() == b""
    assert transcoder.delay == 0


@pytest.mark.parametrize("wire", FORMATS)
def test_identity_hands_back_what_it_was_given(wire: AudioFormat) -> None:
    data, transcoder = noise(320), Transcoder(wire, AudioFormat(wire.encoding, wire.sample_rate))
    assert transcoder.feed(data) is data
    assert transcoder.flush() == b""


# Every path.


@pytest.mark.parametrize(("source", "target"), list(itertools.product(FORMATS, FORMATS)))
def test_every_path_is_decode_resample_encode(source: AudioFormat, target: AudioFormat) -> None:
    data = noise(source.bytes_for_ms(20) * 3)
    pcm = resampler(source.sample_rate, target.sample_rate).process(DECODE[source.encoding](data))
    out = Transcoder(source, target).feed(data)
    assert type(out) is bytes
    if source == target:
        assert out == data
    else:
        assert out == ENCODE[target.encoding](pcm).tobytes()
    assert len(out) == 3 * target.bytes_for_ms(20)


@given(
    source=st.sampled_from(FORMATS),
    target=st.sampled_from(FORMATS),
    lengths=st.lists(st.integers(0, 5) | st.integers(0, 2_000), max_size=12),
    seed=st.integers(0, 2**32),
)
def test_any_blocks_give_the_same_bytes(
    source: AudioFormat, target: AudioFormat, lengths: list[int], seed: int
) -> None:
    data, transcoder, out, fed = noise(sum(lengths), seed), Transcoder(source, target), b"", 0
    for length in lengths:
        out += transcoder.feed(data[fed : fed + length])
        fed += length
        samples = fed // source.bytes_per_sample * target.sample_rate // source.sample_rate
        assert len(out) == samples * target.bytes_per_sample
    whole = Transcoder(source, target)
    assert out + transcoder.flush() == whole.feed(data) + whole.flush()


@pytest.mark.parametrize("target", [L16_8K, L16_16K, MULAW], ids=["same", "resampled", "law"])
def test_half_a_sample_waits_for_its_other_half(target: AudioFormat) -> None:
    data, transcoder = noise(101), Transcoder(L16_8K, target)
    one_by_one = b"".join(transcoder.feed(data[i : i + 1]) for i in range(101))
    assert one_by_one == Transcoder(L16_8K, target).feed(data[:100])
    assert one_by_one + transcoder.feed(b"\x00") == Transcoder(L16_8K, target).feed(data + b"\x00")


@pytest.mark.parametrize("forget", [Transcoder.flush, Transcoder.reset], ids=["flush", "reset"])
@pytest.mark.parametrize("source", [L16_8K, L16_16K, AudioFormat("l16", 22_050)], ids=["same", "own", "other"])
def test_flush_and_reset_leave_nothing_behind(source: AudioFormat, forget: object) -> None:
    transcoder = Transcoder(source, L16_8K)
    transcoder.feed(noise(2_001))  # half a sample, and a filter full of noise
    forget(transcoder)
    data = noise(4_000, seed=2)
    assert transcoder.feed(data) == Transcoder(source, L16_8K).feed(data)


def test_flush_gives_the_filters_tail() -> None:
    transcoder = Transcoder(MULAW, L16_16K)
    assert transcoder.delay == 0.002
    assert len(transcoder.feed(noise(160))) == L16_16K.bytes_for_ms(20)
    assert len(transcoder.flush()) == L16_16K.bytes_for_ms(4)


def test_nothing_in_nothing_out() -> None:
    for source, target in itertools.product(FORMATS, FORMATS):
        assert Transcoder(source, target).feed(b"") == b""


@pytest.mark.parametrize("law", [MULAW, ALAW], ids=["mulaw", "alaw"])
def test_silence_stays_silence(law: AudioFormat) -> None:
    up, down = Transcoder(law, L16_16K), Transcoder(L16_16K, law)
    up.feed(law.silence(80))  # A-law has no zero: its silence is 8, to which the filter must rise first
    assert set(np.frombuffer(up.feed(law.silence(800)), "<i2").tolist()) == {0 if law == MULAW else 8}
    assert down.feed(L16_16K.silence(3_200)) == law.silence(800)


def test_a_tone_survives_the_way_to_the_bot_and_back() -> None:
    tone = np.rint(8_000 * np.sin(2 * np.pi * 1_004 * np.arange(8_000) / 8_000)).astype(np.int16)
    to_bot, from_bot = Transcoder(MULAW, L16_16K), Transcoder(L16_16K, MULAW)
    wire = g711.mulaw_encode(tone).tobytes()
    heard = b"".join(from_bot.feed(to_bot.feed(wire[i : i + 160])) for i in range(0, 8_000, 160))
    assert len(heard) == len(wire)
    late = round((to_bot.delay + from_bot.delay) * 8_000)
    error = g711.mulaw_decode(heard)[late + 100 :].astype(float) - tone[100:-late]
    assert 20 * np.log10(tone.std() / error.std()) > 34  # one G.711 leg gives 38, two in a row 35
