"""The marks that are out on a stream.

Which echo belongs to which mark, and which was flushed.

A carrier returns a mark by its name when the audio before it has been played, and after a clear it returns,
or does not, those that were dropped. So an echo means something only if no two marks ever share a name on the
wire, and if those of before the clear are remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from serializers.base import Event, Mark, Rejected

MAX_OUT = 1_000
"""Marks out at once, and as many flushed ones whose echo may still come. A carrier that returns none at all
must not make us keep them for two hours."""

MAX_USED = 4_096
"""Names that are remembered as used. One forgotten may be used again: all its echoes are long since in."""

_BAD_MARK: Sequence[Event] = (Rejected("bad_mark"),)

_Names: TypeAlias = dict[str, None]  # a set that knows which is the oldest


class MarkTracker:
    """The marks of one stream.

    Names on the wire are the bot's own; used again, they get "#2", "#3", …
    """

    def __init__(self) -> None:
        self._out: dict[str, str] = {}  # name on the wire -> the bot's name, oldest first
        self._flushed: _Names = {}
        self._used: dict[str, int] = {}  # name on the wire -> the last number given to it

    def put(self, name: str) -> str:
        """Note a mark that goes out, and choose its name on the wire.

        The oldest beyond MAX_OUT is forgotten as if flushed.
        """
        wire_name = self._unused(name)
        self._out[wire_name] = name
        if len(self._out) > MAX_OUT:
            self._swallow(_pop_oldest(self._out))
        return wire_name

    def echoed(self, wire_name: str) -> Sequence[Event]:
        """Match a name that came back with its mark.

        The mark, played; nothing for a flushed one; Rejected for one that never was.
        """
        name = self._out.pop(wire_name, None)
        if name is not None:
            return (Mark(name, played=True),)
        if wire_name in self._flushed:
            del self._flushed[wire_name]
            return ()
        return _BAD_MARK

    def flush(self) -> list[Mark]:
        """All that are out, oldest first, as not played. Their echoes will be swallowed."""
        flushed = [Mark(name, played=False) for name in self._out.values()]
        for wire_name in self._out:
            self._swallow(wire_name)
        self._out.clear()
        return flushed

    def _unused(self, name: str) -> str:
        number = self._used.get(name, 0) + 1
        wire_name = name if number == 1 else f"{name}#{number}"
        while wire_name in self._used or wire_name in self._out or wire_name in self._flushed:
            number += 1
            wire_name = f"{name}#{number}"
        self._remember(name, number)
        self._remember(wire_name, 1 if wire_name != name else number)
        return wire_name

    def _remember(self, name: str, number: int) -> None:
        self._used.pop(name, None)  # it becomes the newest
        self._used[name] = number
        if len(self._used) > MAX_USED:
            _pop_oldest(self._used)

    def _swallow(self, wire_name: str) -> None:
        self._flushed[wire_name] = None
        if len(self._flushed) > MAX_OUT:
            _pop_oldest(self._flushed)


def _pop_oldest(names: dict[str, str] | dict[str, int] | _Names) -> str:
    oldest = next(iter(names))
    del names[oldest]
    return oldest
