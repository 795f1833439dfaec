"""A distribution in bounded memory: counts in bins that grow by one per cent."""

from __future__ import annotations

import math
from collections.abc import Iterable

FIRST = 0.01
"""Everything below is one bin."""
GROWTH = 1.01
"""A percentile is right to one per cent; a day of delays needs no more than 1,600 bins up to 100 s in ms."""

_SCALE = 1 / math.log(GROWTH)


class Percentiles:
    """Counts observations, in any unit; below zero is zero."""

    __slots__ = ("_bins", "count", "max", "min", "sum")

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        self.count = 0
        self.sum = 0.0
        self.min = math.inf
        self.max = 0.0

    def note(self, value: float) -> None:
        value = max(value, 0.0)
        index = int(math.log(value / FIRST) * _SCALE) + 1 if value > FIRST else 0
        self._bins[index] = self._bins.get(index, 0) + 1
        self.count += 1
        self.sum += value
        self.min = min(self.min, value)
        self.max = max(self.max, value)

    def note_all(self, values: Iterable[float]) -> None:
        for value in values:
            self.note(value)

    def add(self, other: Percentiles) -> None:
        """Count what the other has counted, too."""
        for index, count in other._bins.items():
            self._bins[index] = self._bins.get(index, 0) + count
        self.count += other.count
        self.sum += other.sum
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    def share(self, share: float) -> float | None:
        """Return what this share of the observations does not exceed, to one per cent.

        None without observations.
        """
        if not self.count:
            return None
        wanted = max(1, math.ceil(share * self.count))
        if wanted == self.count:
            return self.max
        seen = 0
        for index in sorted(self._bins):
            seen += self._bins[index]
            if seen >= wanted:
                break
        # The middle of the bin; what was observed is never left.
        return min(max(FIRST * math.pow(GROWTH, index - 0.5), self.min), self.max)

    @property
    def p50(self) -> float | None:
        return self.share(0.50)

    @property
    def p99(self) -> float | None:
        return self.share(0.99)

    def to_json(self) -> dict[str, float | int | None]:
        """Return count, mean, p50, p90, p99 and max."""
        if not self.count:
            return {"count": 0}
        figures = {"mean": self.sum / self.count, "p50": self.p50, "p90": self.share(0.9), "p99": self.p99}
        rounded = {name: None if value is None else round(value, 3) for name, value in figures.items()}
        return {"count": self.count, **rounded, "max": round(self.max, 3)}
