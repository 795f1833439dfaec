"""From one audio format to another, as a stream."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gateway.audio import g711
from gateway.audio.format import AudioFormat, Encoding
from gateway.audio.g711 import Pcm
from gateway.audio.resample import resampler


class Transcoder:
    """One stream, one direction: bytes in `source` format in, bytes in `target` format out.

    Every call gives all that can be given so far: nothing is held back but the resampler's delay, and half a
    sample. Never raises, whatever the bytes are.

    long_blocks: what is fed is much longer than 20 ms.
    """

    __slots__ = ("_bypass", "_decode", "_encode", "_half", "_law", "_resampler", "_wide", "source", "target")

    def __init__(self, source: AudioFormat, target: AudioFormat, *, long_blocks: bool = False) -> None:
        self.source = source
        self.target = target
        self._resampler = resampler(source.sample_rate, target.sample_rate, long_blocks=long_blocks)
        self._decode = _DECODE[source.encoding]
        self._encode = _ENCODE[target.encoding]
        self._bypass = source == target
        self._law = None
        if source.sample_rate == target.sample_rate:
            self._law = _LAW_TO_LAW.get((source.encoding, target.encoding))
        self._wide = source.bytes_per_sample == 2
        self._half = b""  # the first byte of an l16 sample whose second has not come yet

    @property
    def delay(self) -> float:
        """Seconds by which what comes out is behind what went in."""
        return self._resampler.delay

    def feed(self, data: bytes) -> bytes:
        """What follows from `data`, any number of bytes."""
        if self._wide and (self._half or len(data) & 1):
            data = self._whole_samples(data)
        if self._bypass:
            return data
        if self._law is not None:
            return data.translate(self._law)
        return self._encode(self._resampler.process(self._decode(data)))

    def flush(self) -> bytes:
        """What is still inside, at the end of the stream; half a sample is dropped. Afterwards as new."""
        self._half = b""
        return self._encode(self._resampler.flush())

    def reset(self) -> None:
        """Forget all that was fed."""
        self._half = b""
        self._resampler.reset()

    def _whole_samples(self, data: bytes) -> bytes:
        data = self._half + data
        whole = len(data) & ~1
        self._half = data[whole:]
        return data[:whole]


def _l16_decode(data: bytes) -> Pcm:
    return np.frombuffer(data, "<i2").astype(np.int16, copy=False)  # a copy on big-endian machines only


def _l16_encode(pcm: Pcm) -> bytes:
    return pcm.astype("<i2", copy=False).tobytes()


def _mulaw_encode(pcm: Pcm) -> bytes:
    return g711.mulaw_encode(pcm).tobytes()


def _alaw_encode(pcm: Pcm) -> bytes:
    return g711.alaw_encode(pcm).tobytes()


_DECODE: dict[Encoding, Callable[[bytes], Pcm]] = {
    "mulaw": g711.mulaw_decode,
    "alaw": g711.alaw_decode,
    "l16": _l16_decode,
}
_ENCODE: dict[Encoding, Callable[[Pcm], bytes]] = {
    "mulaw": _mulaw_encode,
    "alaw": _alaw_encode,
    "l16": _l16_encode,
}
_LAW_TO_LAW: dict[tuple[Encoding, Encoding], bytes] = {
    ("mulaw", "alaw"): g711.law_table(g711.mulaw_decode, g711.alaw_encode),
    ("alaw", "mulaw"): g711.law_table(g711.alaw_decode, g711.mulaw_encode),
}
