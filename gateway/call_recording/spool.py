"""What is written while a call runs: all that was said and heard, as it came, each piece with its time.

To lay both sides on one clock and to compress them costs ten times as much as to write this down, and has time until
the call is over. A process that is killed loses what it has not written, and the next one goes on from here.

    head: kind, time, time from when on it is heard, length of the data    data
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Literal, TypeAlias

Kind: TypeAlias = Literal["begin", "caller", "bot", "format", "cut", "silence", "end", "caller_format"]
Entry: TypeAlias = tuple[Kind, float, float, bytes]
"""What happened, when, from when on it is heard, and its audio.

begin: the highest rate of the recording, and the wall clock, unix seconds. caller_format: of the caller's audio from
now on; before it, and in the spools of older gateways, PCM at the rate that `begin` names. format: of the bot's audio
from now on. bot: what the carrier plays. cut: what was not heard yet is not heard. silence: neither side is recorded
until more audio.
"""

_NUMBER: dict[Kind, int] = {
    "begin": 1, "caller": 2, "bot": 3, "format": 4, "cut": 5, "silence": 6, "end": 7, "caller_format": 8,
}  # fmt: skip
_KIND = {number: kind for kind, number in _NUMBER.items()}
_HEAD = struct.Struct("<BddI")
MAX_DATA = 16 * 1024 * 1024
"""Bytes of one entry. More is no entry of ours, but a damaged file."""


def pack(entries: Iterable[Entry]) -> bytes:
    """Write entries as bytes."""
    parts = []
    for kind, now, start, data in entries:
        parts.append(_HEAD.pack(_NUMBER[kind], now, start, len(data)))
        parts.append(data)
    return b"".join(parts)


def unpack(file: BinaryIO) -> Iterator[Entry]:
    """Read entries, up to the end or to one that is not whole: its writer was killed."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        number, now, start, size = _HEAD.unpack(head)
        if number not in _KIND or size > MAX_DATA or len(data := file.read(size)) < size:
            return
        yield _KIND[number], now, start, data
