"""From a spool to a file, in steps that other recordings need not wait for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.call_recording.convert import convert
from gateway.call_recording.spool import Entry, pack
from gateway.call_recording.tracks import MAX_BLOCK

RATE = 8000
SECOND = bytes(2 * RATE)
HOUR = 3600.0
STEREO = 4
"""Bytes of a frame."""


def spool(*entries: Entry) -> bytes:
    return pack([("begin", 0.0, 0.0, b"8000"), ("caller", 0.0, 0.0, SECOND), ("silence", 1.0, 1.0, b""), *entries])


@pytest.mark.parametrize(
    "behind",
    [[("caller", HOUR, HOUR, SECOND), ("end", HOUR + 1, HOUR + 1, b"")], [("end", HOUR + 1, HOUR + 1, b"")]],
    ids=["goes on", "ends"],
)
def test_a_pause_of_an_hour_is_written_in_short_steps(tmp_path, behind) -> None:
    part, target = tmp_path / "s1.wav.part", tmp_path / "s1.wav"
    part.write_bytes(spool(*behind))
    sizes = [0]
    for _ in convert(part, target, ".wav"):
        sizes.append(target.stat().st_size)
    steps = [after - before for before, after in pairwise(sizes)]
    assert max(steps) <= 44 + MAX_BLOCK * RATE * STEREO
    assert target.stat().st_size == 44 + (HOUR + 1) * RATE * STEREO
