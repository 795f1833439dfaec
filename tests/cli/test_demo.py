"""`gateway demo`: what it takes for a whole call."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.format import AudioFormat
from gateway.cli.demo import compare, from_first_sound

MULAW, L16 = AudioFormat("mulaw", 8000), AudioFormat("l16", 8000)


def frames(wire: AudioFormat, *numbers: int) -> bytes:
    """20 ms each; 0: digital silence."""
    size = wire.bytes_for_ms(20)
    return b"".join(bytes([number]) * size if number else wire.silence(size) for number in numbers)


@pytest.mark.parametrize("wire", [MULAW, L16])
@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ((1, 2, 0, 0, 3), (0, True)),
        ((1, 2, 3), (0, True)),  # silence was left out, to work off delay
        ((1, 2, 0, 0, 3, 0, 0, 4), (0, True)),  # and what follows what was said is no concern
        ((0, 1, 2, 0, 0, 0, 3), (0, True)),
        ((1, 2, 0), (1, True)),
        ((), (3, True)),
        ((0, 0, 0, 0, 0), (3, True)),
        ((1, 3, 0, 0), (1, False)),
        ((1, 2, 0, 0, 4), (0, False)),
        ((2, 1, 0, 0, 3), (0, False)),
        ((1, 1, 2, 0, 0, 3), (0, False)),
    ],
)
def test_only_silence_may_be_missing(wire, heard, expected):
    assert compare(frames(wire, 1, 2, 0, 0, 3), frames(wire, *heard), wire) == expected


def test_a_frame_of_another_level_is_no_silence():
    quiet = frames(MULAW, 1, 0x7E, 2)
    assert compare(quiet, frames(MULAW, 1, 2), MULAW) == (1, False)


@pytest.mark.parametrize(
    ("said", "expected"),
    [([0, 64, -64, 900, 0, 800], [900, 0, 800, 0, 64, -64]), ([0, -32768, 5], [-32768, 5, 0]), ([0, 1], [0, 1])],
)
def test_the_callers_begin_with_a_word(said, expected):
    assert from_first_sound(np.array(said, np.int16)).tolist() == expected
