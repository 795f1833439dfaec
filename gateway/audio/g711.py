"""ITU-T G.711, both laws, by table: 256 entries to decode, 65,536 to encode.

Bit-exact to G.711 and to the reference of G.191 (`ulaw_compress`, `alaw_compress` and their `expand`). What
G.711 leaves open is how a 16-bit sample becomes the 14 bits (μ-law) or 13 bits (A-law) it speaks of: G.191
takes the one's complement of a negative sample, then shifts, so that -1 lies as near to zero as 0 does.
Python's former `audioop` shifts first and then negates: its μ-law is one code further out for 508 negative
samples, the four next to each of the 127 edges between quantizing intervals; its A-law is the same as ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Pcm: TypeAlias = npt.NDArray[np.int16]
Codes: TypeAlias = npt.NDArray[np.uint8]


def mulaw_decode(codes: Codes | bytes) -> Pcm:
    """Samples of μ-law codes (an array of uint8, or bytes); 16 bit, ±32,124."""
    return _MULAW_DECODE.take(_array(codes))


def alaw_decode(codes: Codes | bytes) -> Pcm:
    """Samples of A-law codes (an array of uint8, or bytes); 16 bit, ±32,256."""
    return _ALAW_DECODE.take(_array(codes))


def mulaw_encode(samples: Pcm) -> Codes:
    """μ-law codes of 16-bit samples."""
    return _MULAW_ENCODE.take(samples.view(np.uint16))


def alaw_encode(samples: Pcm) -> Codes:
    """A-law codes of 16-bit samples."""
    return _ALAW_ENCODE.take(samples.view(np.uint16))


def law_table(decode: Callable[[Codes | bytes], Pcm], encode: Callable[[Pcm], Codes]) -> bytes:
    """The 256 codes of one law for those of the other, for `bytes.translate`: decoded, then encoded.

    The same bytes, then, as through a link of linear samples.
    """
    return encode(decode(np.arange(256, dtype=np.uint8))).tobytes()


def _array(codes: Codes | bytes) -> Codes:
    return np.frombuffer(codes, np.uint8) if isinstance(codes, bytes) else codes


def _mulaw_decode_table() -> Pcm:
    code = np.arange(256) ^ 0xFF  # all bits are inverted on the line
    exponent, mantissa = _parts(code)
    magnitude = (((2 * mantissa + 33) << exponent) - 33) << 2  # 14 bits of G.711, to the left in 16
    return _signed(magnitude, negative=code >= 0x80)


def _alaw_decode_table() -> Pcm:
    code = np.arange(256) ^ 0x55  # the even bits are inverted on the line
    exponent, mantissa = _parts(code)
    linear, companded = 2 * mantissa + 1, (2 * mantissa + 33) << np.maximum(exponent - 1, 0)
    magnitude = np.where(exponent == 0, linear, companded) << 3  # 13 bits of G.711, to the left in 16
    return _signed(magnitude, negative=code < 0x80)


def _mulaw_encode_table() -> Codes:
    magnitude = np.minimum(np.arange(0x2000) + 33, 0x1FFF)  # 14 bits without the sign, biased, clipped
    exponent = _bit_length(magnitude) - 6
    code = (exponent << 4) | ((magnitude >> (exponent + 1)) & 0x0F)
    return _both_signs(code.repeat(4), positive=0xFF, negative=0x7F)


def _alaw_encode_table() -> Codes:
    magnitude = np.arange(0x800)  # 12 bits: G.191 drops the 13th, which no code tells apart
    exponent = np.maximum(_bit_length(magnitude) - 4, 0)
    code = (exponent << 4) | ((magnitude >> np.maximum(exponent - 1, 0)) & 0x0F)
    return _both_signs(code.repeat(16), positive=0xD5, negative=0x55)


def _parts(code: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Segment number and place within the segment."""
    return (code >> 4) & 0x07, code & 0x0F


def _signed(magnitude: npt.NDArray[np.int64], negative: npt.NDArray[np.bool_]) -> Pcm:
    table = np.where(negative, -magnitude, magnitude).astype(np.int16)
    table.setflags(write=False)
    return table


def _both_signs(code: npt.NDArray[np.int64], *, positive: int, negative: int) -> Codes:
    """The encode table, indexed by a sample seen as uint16, from the codes of 0 to 32,767.

    Entry 65,535 - n is the sample -1 - n, whose one's complement is n: the negative half mirrors the other.
    """
    table = np.concatenate((code ^ positive, code[::-1] ^ negative)).astype(np.uint8)
    table.setflags(write=False)
    return table


def _bit_length(n: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.frexp(n.astype(np.float64))[1].astype(np.int64)


_MULAW_DECODE = _mulaw_decode_table()
_ALAW_DECODE = _alaw_decode_table()
_MULAW_ENCODE = _mulaw_encode_table()
_ALAW_ENCODE = _alaw_encode_table()
