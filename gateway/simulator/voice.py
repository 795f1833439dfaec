"""The caller's voice on the wire.

Encodings, and a recording cut into ready-made frames before the call begins.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gateway.audio import g711
from gateway.audio.files import convert
from gateway.errors import UnsupportedCodec
from gateway.simulator.plan import CALLER_RATE, Pcm

FRAME_MS = 20
GATEWAY_NAMES = {"PCMU": "mulaw", "PCMA": "alaw", "L16": "l16"}
"""The encodings' names of RFC 3551 and what the gateway calls them."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """Audio as a carrier's payload holds it, mono.

    name: one of GATEWAY_NAMES. "L16" is s16le here.
    """

    name: str
    rate: int

    def __post_init__(self) -> None:
        if self.name not in GATEWAY_NAMES:
            raise UnsupportedCodec(f"the simulator does not speak {self.name} at {self.rate} Hz")

    @property
    def sample_bytes(self) -> int:
        return 2 if self.name == "L16" else 1

    @property
    def bytes_per_second(self) -> int:
        return self.rate * self.sample_bytes

    @property
    def silence(self) -> bytes:
        """Return one sample of silence.

        0xFF and 0xD5 are G.711's zeros (ITU-T G.711, tables 1b and 2b).
        """
        return {"PCMU": b"\xff", "PCMA": b"\xd5", "L16": b"\0\0"}[self.name]

    def encode(self, pcm: Pcm) -> bytes:
        if self.name == "PCMU":
            return g711.mulaw_encode(pcm).tobytes()
        if self.name == "PCMA":
            return g711.alaw_encode(pcm).tobytes()
        return pcm.astype("<i2").tobytes()

    def decode(self, payload: bytes) -> Pcm:
        """Decode to int16 samples; a half sample at the end is left out."""
        if self.name == "L16":
            return np.frombuffer(payload[: len(payload) // 2 * 2], "<i2").astype(np.int16)
        codes = np.frombuffer(payload, np.uint8)
        return g711.mulaw_decode(codes) if self.name == "PCMU" else g711.alaw_decode(codes)


class Voice:
    """A recording as frames of one encoding, each ready as base64; then silence."""

    def __init__(self, audio: Pcm, encoding: Encoding, frame_ms: int = FRAME_MS) -> None:
        self.encoding = encoding
        self.frame_ms = frame_ms
        size = encoding.bytes_per_second * frame_ms // 1000
        wire = encoding.encode(convert(audio, CALLER_RATE, encoding.rate))
        if short := -len(wire) % size:
            wire += encoding.silence * (short // encoding.sample_bytes)
        self.payloads = [wire[at : at + size] for at in range(0, len(wire), size)]
        self._base64 = [base64.b64encode(payload) for payload in self.payloads]
        self._silence = encoding.silence * (size // encoding.sample_bytes)
        self._silence64 = base64.b64encode(self._silence)

    def __len__(self) -> int:
        """Count the frames of speech; those after them are silence."""
        return len(self.payloads)

    def payload(self, index: int) -> bytes:
        return self.payloads[index] if index < len(self.payloads) else self._silence

    def base64(self, index: int) -> bytes:
        return self._base64[index] if index < len(self._base64) else self._silence64


@lru_cache(maxsize=8)
def _cached(audio: bytes, encoding: Encoding, frame_ms: int) -> Voice:
    return Voice(np.frombuffer(audio, np.int16), encoding, frame_ms)


def voice_for(audio: Pcm, encoding: Encoding, frame_ms: int) -> Voice:
    """Return a Voice, shared by calls that say the same: it is prepared once."""
    return _cached(audio.tobytes(), encoding, frame_ms)
