"""The marks that a relayed bot has set and its carrier has not answered, so that a lost stream leaves none open.

A carrier answers a mark when the audio before it has been played, and most answer all that a clear overtakes. A stream
that is lost answers none, and a bot that waits for one would wait for ever: so we answer, as after a clear.
"""

from __future__ import annotations

from collections import deque

from serializers.base import Serializer

MAX_MARKS = 256
"""Marks that are kept. The oldest is forgotten: no bot has so many open."""


class RelayedMarks:
    """Notes marks as they pass, by their names."""

    def __init__(self) -> None:
        self._open: deque[str] = deque(maxlen=MAX_MARKS)
        self._lost: deque[str] = deque(maxlen=MAX_MARKS)

    def set_by_bot(self, message: bytes, serializer: Serializer) -> None:
        """Note a mark, if this message of the bot's sets one."""
        name = serializer.mark_set(message)
        if name is not None:
            self._open.append(name)

    def answered_by_carrier(self, message: bytes, serializer: Serializer) -> None:
        """Forget a mark, if this message of the carrier's answers it."""
        name = serializer.mark_answered(message)
        if name is not None and name in self._open:
            self._open.remove(name)

    def stream_lost(self) -> None:
        """Note that nothing more is answered of what has been set so far."""
        self._lost.extend(self._open)
        self._open.clear()

    def take_lost(self) -> list[str]:
        """Take the names that a lost stream has left open, in order."""
        names = list(self._lost)
        self._lost.clear()
        return names

    def forget(self) -> None:
        """Forget all: another bot takes the call, which has set none."""
        self._open.clear()
        self._lost.clear()
