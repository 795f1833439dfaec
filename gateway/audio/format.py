"""How audio is written: encoding and sample rate. Always mono."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

from gateway.errors import UnsupportedCodec

Encoding: TypeAlias = Literal["mulaw", "alaw", "l16"]

FRAME_MS = 20
"""Milliseconds of audio in one message of most carriers, of a link, and in one tick."""
FRAME_SECONDS = FRAME_MS / 1000

MIN_RATE = 8_000
MAX_RATE = 48_000

# Both laws have two zeros; these are the positive ones, which an encoder makes of a silent line. G.711
# inverts the even bits of A-law, and all of μ-law, before transmission: hence no 0x00.
_SILENT_BYTE: dict[Encoding, bytes] = {"mulaw": b"\xff", "alaw": b"\xd5", "l16": b"\x00"}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """An encoding at a sample rate.

    encoding: "mulaw", "alaw" (ITU-T G.711, one byte a sample) or "l16" (signed 16 bit, little-endian).
    sample_rate: in Hz.
    """

    encoding: Encoding
    sample_rate: int

    @classmethod
    def of(cls, encoding: str, sample_rate: int) -> AudioFormat:
        """The format that a carrier or a setting named.

        Raises UnsupportedCodec for an encoding that is not ours, or a rate outside 8 to 48 kHz.
        """
        known = get_args(Encoding)
        if encoding not in known:
            raise UnsupportedCodec(f"encoding {encoding[:32]!r} is not one of {', '.join(known)}")
        if not MIN_RATE <= sample_rate <= MAX_RATE:
            raise UnsupportedCodec(f"sample rate {sample_rate} Hz is not between {MIN_RATE} and {MAX_RATE}")
        return cls(cast(Encoding, encoding), sample_rate)

    @property
    def bytes_per_sample(self) -> int:
        """1 for the G.711 laws, 2 for l16."""
        return 2 if self.encoding == "l16" else 1

    def bytes_for_ms(self, ms: float) -> int:
        """Bytes of `ms` milliseconds, down to a whole sample."""
        return int(self.sample_rate * ms // 1000) * self.bytes_per_sample

    def silence(self, nbytes: int) -> bytes:
        """`nbytes` bytes of digital silence."""
        return _SILENT_BYTE[self.encoding] * nbytes
