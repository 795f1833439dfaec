"""Actions that wait until the bot's last word has been heard: to hang up, to hand the caller over. Sans-I/O.

There may be more than one: a bot that asks for a transfer and leaves has hung up too, should the transfer be refused.
Each waits for the words before it, behind a mark of its own. They are carried out in the order of their requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

BARRIER_MARK = "gw_heard"
"""What the names of our own marks begin with."""
MAX_COMMANDS = 16
"""Hang-ups and transfers that may wait for the bot's speech to end. One is enough unless it is refused."""


@dataclass(frozen=True, slots=True)
class _Barrier:
    mark: str
    action: Callable[[], None]
    deadline: float


def is_ours(mark: str) -> bool:
    """Whether the mark is one of these: the bot has not set it, and is not told of it."""
    return mark.startswith(BARRIER_MARK)


class PlaybackBarriers:
    """Actions that wait, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[_Barrier] = deque()
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, action: Callable[[], None], deadline: float) -> str:
        """Call `action` when its mark has been reached. Returns the mark's name.

        deadline: loop time at which it is called at the latest.
        """
        self._count += 1
        mark = f"{BARRIER_MARK}_{self._count}"
        self._waiting.append(_Barrier(mark, action, deadline))
        return mark

    def reached(self, mark: str) -> None:
        """Carry out what waits for this mark, and for earlier ones.

        The audio before those has been heard, too. A mark that comes after its deadline means nothing for those that
        still wait.
        """
        if any(barrier.mark == mark for barrier in self._waiting):
            while self._waiting and self._finish_first() != mark:
                pass

    def tick(self, now: float) -> None:
        """Carry out the actions whose deadline has come."""
        while self._waiting and now >= self._waiting[0].deadline:
            self._finish_first()

    def finish(self) -> None:
        """Carry out all of them: there is no audio left to wait for."""
        while self._waiting:
            self._finish_first()

    def _finish_first(self) -> str:
        barrier = self._waiting.popleft()
        barrier.action()
        return barrier.mark
