"""How many lines of one kind a stranger can have the log written."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class LogLimiter:
    """A token bucket for each kind of line. Pure: time is passed in, in seconds.

    burst: lines of one kind that may come at once. per_second: those that it may write on and on.

    Kinds come from closed sets: they are never forgotten.
    """

    burst: float
    per_second: float
    _kinds: dict[tuple[str, str], tuple[float, float, int]] = field(default_factory=dict)
    """By kind: the lines left, when that was, and how many were left out since the last one."""

    def allow(self, kind: tuple[str, str], now: float) -> int | None:
        """Return how many lines were left out since the last one; None if this one is to be left out, too."""
        left, at, left_out = self._kinds.get(kind, (self.burst, now, 0))
        left = min(self.burst, left + (now - at) * self.per_second)
        if left < 1.0:
            self._kinds[kind] = left, now, left_out + 1
            return None
        self._kinds[kind] = left - 1.0, now, 0
        return left_out
