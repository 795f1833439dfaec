"""How speech sounds: eight voices, and PESQ (ITU-T P.862 and P.862.2) of what became of them.

PESQ is a perceptual measure of speech, from 1 (bad) to about 4.5 (the same). `pesq` is a source distribution, whose
build needs a C compiler: where it is missing, `require_pesq` skips the test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gateway.audio.files import convert
from gateway.audio.format import AudioFormat
from gateway.audio.g711 import Pcm, mulaw_decode, mulaw_encode
from gateway.audio.transcoder import Transcoder

VOICES = Path(__file__).parents[2] / "fixtures" / "voices"
WIDE_RATE, NARROW_RATE = 16_000, 8_000
MULAW = AudioFormat("mulaw", NARROW_RATE)
HOW = "pesq is not installed: apt-get install gcc libc6-dev python3-dev, then pip install --group sound"


def require_pesq() -> None:
    """Skip the test where pesq is missing; fail it where `REQUIRE_PESQ` is set, as `.ci/run` sets it."""
    try:
        import pesq  # noqa: F401
    except ImportError:
        if os.environ.get("REQUIRE_PESQ"):
            raise
        pytest.skip(HOW)


@cache
def voices(rate: int) -> dict[str, Pcm]:
    """Every voice, at this rate in Hz."""
    return {
        file.stem: convert(soundfile.read(file, dtype="int16")[0], WIDE_RATE, rate)
        for file in sorted(VOICES.glob("*.flac"))
    }


def g711(pcm: Pcm) -> Pcm:
    """One pass of μ-law."""
    return mulaw_decode(mulaw_encode(pcm))


def narrow_pesq(reference: Pcm, heard: Pcm) -> float:
    """PESQ of speech at 8 kHz: MOS-LQO of P.862.1."""
    from pesq import pesq

    return float(pesq(NARROW_RATE, reference, heard, "nb"))


def wide_pesq(reference: Pcm, heard: Pcm) -> float:
    """PESQ of speech at 16 kHz: MOS-LQO of P.862.2."""
    from pesq import pesq

    return float(pesq(WIDE_RATE, reference, heard, "wb"))


def mean_pesq(pesq: Callable[[Pcm, Pcm], float], rate: int, heard: Callable[[str], Pcm]) -> float:
    """The mean over all voices. heard: what became of a voice, by its name."""
    return float(np.mean([pesq(reference, heard(name)) for name, reference in voices(rate).items()]))


def through(transcoders: Iterable[Transcoder], pcm: Pcm) -> Pcm:
    """What comes out of these one behind the other, fed with frames of 20 ms of the first one's format.

    The delay is taken off. pcm: at the first one's rate; what comes out is at the last one's.
    """
    first, *others = way = list(transcoders)
    source, target = first.source, way[-1].target
    late = sum(transcoder.delay for transcoder in way)
    data = _encode(source, np.concatenate((pcm, np.zeros(round(late * source.sample_rate), np.int16))))
    size, heard = source.bytes_for_ms(20), []
    for at in range(0, len(data), size):
        frame = first.feed(data[at : at + size])
        for transcoder in others:
            frame = transcoder.feed(frame)
        heard.append(frame)
    out = _decode(target, b"".join(heard))
    return out[round(late * target.sample_rate) :]


def _encode(wire: AudioFormat, pcm: Pcm) -> bytes:
    return Transcoder(AudioFormat("l16", wire.sample_rate), wire).feed(pcm.tobytes())


def _decode(wire: AudioFormat, data: bytes) -> Pcm:
    return np.frombuffer(Transcoder(wire, AudioFormat("l16", wire.sample_rate)).feed(data), "<i2")
