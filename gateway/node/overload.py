"""Is the event loop keeping up? Overload counts as full: those who talk would hear one caller more.

The lag is the ticker's: how late a 20 ms tick ran. A loop with time to spare runs them on time; one that has none
falls further behind with each. One long pause (a garbage collection, a neighbour on the machine) is not overload, so
the lag is averaged over a second; and a node that is let breathe at once runs into the same wall again, so it must be
well below the limit before it is taken for recovered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.node.node import Node


@dataclass(frozen=True, slots=True)
class OverloadLimits:
    """Seconds."""

    enter: float = 0.100
    """Mean lag from which no new call is admitted. A carrier's jitter buffer and our lead hide 200 ms; half of that is
    gone, and two callers more would take the rest."""
    window: float = 1.0
    """Time constant of the mean. One pause of less than half a second does not reach `enter`."""
    most: float = 1.0
    """A lag counts as this much at most: after a suspension (SIGSTOP, a sleeping laptop) three seconds are enough. An
    `enter` of this or more turns the check off, as the mean never exceeds it."""

    @property
    def leave(self) -> float:
        """Mean lag below which callers are admitted again: one value for both would flap with each caller let in."""
        return self.enter / 2


class Overload:
    """The mean lag, and whether it is too much. Pure: time is passed in."""

    def __init__(self, limits: OverloadLimits = OverloadLimits()) -> None:
        self.mean = 0.0
        self.active = False
        self._limits = limits
        self._lag = 0.0
        self._at: float | None = None

    def note(self, lag: float, now: float) -> bool:
        """A tick has run this late. Returns whether the loop is overloaded."""
        limits = self._limits
        lag = min(lag, limits.most)
        if self._at is not None:
            # Between two ticks the lag is taken to have grown steadily: of a pause of 300 ms, the mean is 150 for
            # 300 ms. The ticks that follow to catch up come at once, and weigh nothing.
            weight = -math.expm1(-(now - self._at) / limits.window)
            self.mean += weight * ((self._lag + lag) / 2 - self.mean)
        self._at, self._lag = now, lag
        self.active = self.mean > (limits.leave if self.active else limits.enter)
        return self.active


class LoopLagMonitor:
    """A node's own clock, a member of its ticker: lag and overload with each tick, samples once a second."""

    def __init__(self, node: Node, limits: OverloadLimits = OverloadLimits()) -> None:
        self._node = node
        self._overload = Overload(limits)
        self._next_sample = 0.0

    def tick(self, now: float) -> None:
        node = self._node
        lag = node.ticker.lag
        node.metrics.lag.observe(lag)
        node.note_overload(self._overload.note(lag, now), self._overload.mean)
        if now >= self._next_sample:
            self._next_sample = now + 1.0
            node.metrics.sample(now)
