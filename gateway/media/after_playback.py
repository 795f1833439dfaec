"""Who waits for the last word to be heard: to hang up, to hand the caller over. Sans-I/O.

More than one may: a bot that asks for a transfer and leaves has hung up too, should the transfer be refused. Each waits
for the words before it, behind a mark of its own, and all come true in the order in which they were asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

DRAIN_MARK = "gw_drained"
"""What the marks that tell us of it begin with."""


@dataclass(frozen=True, slots=True)
class _Drain:
    mark: str
    action: Callable[[], None]
    deadline: float


def is_ours(mark: str) -> bool:
    """Such a mark is no news for the bot."""
    return mark.startswith(DRAIN_MARK)


class PlaybackBarriers:
    """Actions that wait, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[_Drain] = deque()
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, action: Callable[[], None], deadline: float) -> str:
        """Call `action` when the mark whose name is returned has been reached, at the latest by the deadline."""
        self._count += 1
        mark = f"{DRAIN_MARK}_{self._count}"
        self._waiting.append(_Drain(mark, action, deadline))
        return mark

    def reached(self, mark: str) -> None:
        """The audio before this mark has been heard, and so has that before earlier ones. One that comes too late for
        its own drain means nothing for the next.
        """
        if any(drain.mark == mark for drain in self._waiting):
            while self._waiting and self._finish_first() != mark:
                pass

    def tick(self, now: float) -> None:
        """Whose deadline has come waits no longer."""
        while self._waiting and now >= self._waiting[0].deadline:
            self._finish_first()

    def finish(self) -> None:
        """There is no audio left to wait for."""
        while self._waiting:
            self._finish_first()

    def _finish_first(self) -> str:
        drain = self._waiting.popleft()
        drain.action()
        return drain.mark
