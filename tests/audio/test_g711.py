"""G.711 against the standard's own numbers, G.191's reference and, where Python still has it, audioop."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import pytest

from gateway.audio import g711

EVERY_CODE = np.arange(256, dtype=np.uint8)
EVERY_SAMPLE = np.arange(-32_768, 32_768).astype(np.int16)

# Tables 2a and 1a of G.711, positive half: (character signal, decoder output), at both ends of each segment.
# The character signals of table 1a are before the inversion of the even bits. 14 and 13 bits.
TABLE_2A = [
    (0b10000000, 8031), (0b10001111, 4191),
    (0b10010000, 3999), (0b10011111, 2079),
    (0b10100000, 1983), (0b10101111, 1023),
    (0b10110000, 975), (0b10111111, 495),
    (0b11000000, 471), (0b11001111, 231),
    (0b11010000, 219), (0b11011111, 99),
    (0b11100000, 93), (0b11101111, 33),
    (0b11110000, 30), (0b11111110, 2), (0b11111111, 0),
]  # fmt: skip
TABLE_1A = [
    (0b11111111, 4032), (0b11110000, 2112),
    (0b11101111, 2016), (0b11100000, 1056),
    (0b11011111, 1008), (0b11010000, 528),
    (0b11001111, 504), (0b11000000, 264),
    (0b10111111, 252), (0b10110000, 132),
    (0b10101111, 126), (0b10100000, 66),
    (0b10011111, 63), (0b10000000, 1),
]  # fmt: skip

# Decision values between segments, from the same tables: (value, code below it, code from it on).
DECISIONS_2A = [
    (4063, 0b10010000, 0b10001111),
    (2015, 0b10100000, 0b10011111),
    (991, 0b10110000, 0b10101111),
    (479, 0b11000000, 0b10111111),
    (223, 0b11010000, 0b11001111),
    (95, 0b11100000, 0b11011111),
    (31, 0b11110000, 0b11101111),
    (1, 0b11111111, 0b11111110),
]
DECISIONS_1A = [
    (2048, 0b11101111, 0b11110000),
    (1024, 0b11011111, 0b11100000),
    (512, 0b11001111, 0b11010000),
    (256, 0b10111111, 0b11000000),
    (128, 0b10101111, 0b10110000),
    (64, 0b10011111, 0b10100000),
    (2, 0b10000000, 0b10000001),
]


# The rules, one sample at a time, as G.191 has them (ulaw_compress, ulaw_expand, alaw_compress, alaw_expand).


def mulaw_of(sample: int) -> int:
    magnitude = min(((~sample if sample < 0 else sample) >> 2) + 33, 0x1FFF)
    segment = 1
    while magnitude >> (segment + 5):
        segment += 1
    code = ((8 - segment) << 4) | (15 - ((magnitude >> segment) & 15))
    return code if sample < 0 else code | 0x80


def from_mulaw(code: int) -> int:
    inverted = ~code & 0xFF
    exponent, mantissa = (inverted >> 4) & 7, inverted & 15
    step = 4 << (exponent + 1)
    magnitude = (0x80 << exponent) + step * mantissa + step // 2 - 4 * 33
    return magnitude if code & 0x80 else -magnitude


def alaw_of(sample: int) -> int:
    code = (~sample if sample < 0 else sample) >> 4
    if code > 15:
        exponent = 1
        while code > 31:
            code >>= 1
            exponent += 1
        code += (exponent << 4) - 16
    return (code if sample < 0 else code | 0x80) ^ 0x55


def from_alaw(code: int) -> int:
    plain = code ^ 0x55
    exponent, mantissa = (plain >> 4) & 7, plain & 15
    if exponent:
        mantissa += 16
    magnitude = (mantissa << 4) + 8
    if exponent > 1:
        magnitude <<= exponent - 1
    return magnitude if plain & 0x80 else -magnitude


def test_mulaw_decodes_every_code_as_the_rule_says() -> None:
    assert g711.mulaw_decode(EVERY_CODE).tolist() == [from_mulaw(code) for code in range(256)]


def test_alaw_decodes_every_code_as_the_rule_says() -> None:
    assert g711.alaw_decode(EVERY_CODE).tolist() == [from_alaw(code) for code in range(256)]


def test_mulaw_encodes_every_sample_as_the_rule_says() -> None:
    assert g711.mulaw_encode(EVERY_SAMPLE).tolist() == [mulaw_of(int(sample)) for sample in EVERY_SAMPLE]


def test_alaw_encodes_every_sample_as_the_rule_says() -> None:
    assert g711.alaw_encode(EVERY_SAMPLE).tolist() == [alaw_of(int(sample)) for sample in EVERY_SAMPLE]


@pytest.mark.parametrize(("signal", "value"), TABLE_2A)
def test_mulaw_decodes_table_2a(signal: int, value: int) -> None:
    assert g711.mulaw_decode(bytes([signal, signal & 0x7F])).tolist() == [4 * value, -4 * value]


@pytest.mark.parametrize(("signal", "value"), TABLE_1A)
def test_alaw_decodes_table_1a(signal: int, value: int) -> None:
    assert g711.alaw_decode(bytes([signal ^ 0x55, signal ^ 0xD5])).tolist() == [8 * value, -8 * value]


@pytest.mark.parametrize(("value", "below", "above"), DECISIONS_2A)
def test_mulaw_decides_at_the_values_of_table_2a(value: int, below: int, above: int) -> None:
    sample = 4 * value
    edge = np.array([sample - 1, sample, ~(sample - 1), ~sample], np.int16)
    assert g711.mulaw_encode(edge).tolist() == [below, above, below & 0x7F, above & 0x7F]


@pytest.mark.parametrize(("value", "below", "above"), DECISIONS_1A)
def test_alaw_decides_at_the_values_of_table_1a(value: int, below: int, above: int) -> None:
    sample = 8 * value
    edge = np.array([sample - 1, sample, ~(sample - 1), ~sample], np.int16)
    assert g711.alaw_encode(edge).tolist() == [code ^ 0x55 for code in (below, above, below & 0x7F, above & 0x7F)]


def test_mulaw_of_what_it_decodes_is_the_same_code() -> None:
    again = g711.mulaw_encode(g711.mulaw_decode(EVERY_CODE))
    assert again.tolist() == [0xFF if code == 0x7F else code for code in range(256)]  # the negative zero is lost


def test_alaw_of_what_it_decodes_is_the_same_code() -> None:
    assert g711.alaw_encode(g711.alaw_decode(EVERY_CODE)).tolist() == list(range(256))


@pytest.mark.parametrize(
    ("law", "silence", "near_zero"), [("mulaw", 0xFF, [0x7F, 0xFF, 0xFF]), ("alaw", 0xD5, [0x55, 0xD5, 0xD5])]
)
def test_near_zero(law: str, silence: int, near_zero: list[int]) -> None:
    encode = getattr(g711, f"{law}_encode")
    assert encode(np.array([-1, 0, 1], np.int16)).tolist() == near_zero
    assert encode(np.zeros(3, np.int16)).tolist() == [silence] * 3


@pytest.mark.parametrize(("law", "peak", "codes"), [("mulaw", 32_124, b"\x80\x00"), ("alaw", 32_256, b"\xaa\x2a")])
def test_full_scale(law: str, peak: int, codes: bytes) -> None:
    assert getattr(g711, f"{law}_encode")(np.array([32_767, -32_768], np.int16)).tobytes() == codes
    assert getattr(g711, f"{law}_decode")(codes).tolist() == [peak, -peak]


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_shapes_and_types(law: str) -> None:
    decode, encode = getattr(g711, f"{law}_decode"), getattr(g711, f"{law}_encode")
    assert decode(b"").dtype == np.int16
    assert decode(b"").size == 0
    assert encode(np.empty(0, np.int16)).dtype == np.uint8
    every_second = EVERY_SAMPLE[::2]  # not contiguous
    assert np.array_equal(encode(every_second), encode(EVERY_SAMPLE)[::2])
    assert np.array_equal(decode(EVERY_CODE[::2]), decode(EVERY_CODE)[::2])


@pytest.mark.parametrize(("law", "other"), [("mulaw", "alaw"), ("alaw", "mulaw")])
def test_law_table_is_decode_then_encode(law: str, other: str) -> None:
    table = g711.law_table(getattr(g711, f"{law}_decode"), getattr(g711, f"{other}_encode"))
    expand, compress = globals()[f"from_{law}"], globals()[f"{other}_of"]
    assert list(table) == [compress(expand(code)) for code in range(256)]


def test_tables_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        g711._MULAW_ENCODE[0] = 1


@pytest.fixture
def audioop() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("audioop", reason="left the standard library in 3.13")


def test_audioop_decodes_the_same(audioop: ModuleType) -> None:
    codes = EVERY_CODE.tobytes()
    assert g711.mulaw_decode(codes).tobytes() == audioop.ulaw2lin(codes, 2)
    assert g711.alaw_decode(codes).tobytes() == audioop.alaw2lin(codes, 2)


def test_audioop_encodes_the_same_alaw(audioop: ModuleType) -> None:
    assert g711.alaw_encode(EVERY_SAMPLE).tobytes() == audioop.lin2alaw(EVERY_SAMPLE.tobytes(), 2)


def test_audioop_encodes_mulaw_one_code_further_out_just_below_each_edge(audioop: ModuleType) -> None:
    """audioop shifts, then negates: ceil(|x| / 4) where G.191 has ceil(|x| / 4) - 1. They part where the former
    has reached the next interval and the latter has not.
    """
    ours = g711.mulaw_encode(EVERY_SAMPLE).astype(int)
    theirs = np.frombuffer(audioop.lin2ulaw(EVERY_SAMPLE.tobytes(), 2), np.uint8).astype(int)

    def at_an_edge(sample: int) -> bool:
        biased = -(sample >> 2) + 33
        return biased < 8192 and biased % (1 << (biased.bit_length() - 5)) == 0

    expected = [sample for sample in range(-32_768, 0) if at_an_edge(sample)]
    assert EVERY_SAMPLE[ours != theirs].tolist() == expected
    assert len(expected) == 4 * 127
    assert set(theirs[ours != theirs] - ours[ours != theirs]) == {-1}  # μ-law is inverted: a smaller code is louder
