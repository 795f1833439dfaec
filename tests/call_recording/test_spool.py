from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.format import AudioFormat
from gateway.call_recording.convert import read_format, write_format
from gateway.call_recording.spool import pack, unpack
from gateway.errors import RecordingError

ENTRIES = [
    ("begin", 1.0, 1.0, b"16000"),
    ("format", 1.0, 1.0, b"mulaw 8000"),
    ("caller", 1.02, 1.02, b"\x01\x02" * 320),
    ("bot", 1.03, 1.2, b"\xff" * 160),
    ("cut", 1.1, 1.1, b""),
    ("silence", 1.1, 1.1, b""),
    ("end", 2.0, 2.0, b""),
]


def test_what_is_packed_is_read_back() -> None:
    assert list(unpack(io.BytesIO(pack(ENTRIES)))) == ENTRIES


@given(st.integers(0, len(pack(ENTRIES))))
def test_a_write_that_broke_off_costs_its_last_entry_only(length: int) -> None:
    found = list(unpack(io.BytesIO(pack(ENTRIES)[:length])))
    assert found == ENTRIES[: len(found)]
    assert length - len(pack(found)) < len(pack([ENTRIES[min(len(found), 6)]])) or len(found) == 7


@given(st.binary(max_size=200))
def test_no_file_raises(data: bytes) -> None:
    list(unpack(io.BytesIO(data)))


def test_formats_are_read_back_and_nonsense_is_refused() -> None:
    for audio in (AudioFormat.of("mulaw", 8000), AudioFormat.of("l16", 24000)):
        assert read_format(write_format(audio)) == audio
    for wrong in (b"", b"mp3 8000", b"mulaw", b"mulaw 9", b"\xff \xff"):
        with pytest.raises(RecordingError):
            read_format(wrong)
