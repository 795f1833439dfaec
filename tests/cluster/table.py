"""What became of many calls: one line each of a table that is printed at the end of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.cluster.rig import Placed

HEAD = (
    f"{'what happened':<34} {'calls':>5} {'lost':>4} {'hit':>4} {'gap p50':>8} {'p99':>6} {'max':>6} "
    f"{'same bot':>8} {'resumed':>7} {'state':>5} {'two bots':>8} {'slots exact':>11}"
)


@dataclass
class Outcome:
    """calls: all. hit: those that lost a stream or a worker. slots: seconds until exactly as many were held as there
    were calls, after the fault and after the last call's end, whichever took longer.
    """

    what: str
    calls: Sequence[Placed]
    slots: float = 0.0
    hit: list[Placed] = field(init=False)

    def __post_init__(self) -> None:
        self.hit = [call for call in self.calls if len(call.report.opened) > 1 or len(call.starts) > 1]

    @property
    def lost(self) -> list[Placed]:
        """Calls that ended before their caller wanted."""
        return [call for call in self.calls if not call.whole]

    @property
    def same_bot(self) -> list[Placed]:
        return [call for call in self.hit if len(call.starts) == 1 and "reattached" in call.statuses]

    @property
    def resumed(self) -> list[Placed]:
        """Those that another bot went on with."""
        return [call for call in self.hit if any(start["resumed"] for start in call.starts)]

    @property
    def with_state(self) -> list[Placed]:
        """Of these, whose last bot was given what those before it had left."""
        return [
            call
            for call in self.resumed
            if call.starts[-1]["state"] == "".join(f"{start['pid']}," for start in call.starts[:-1])
        ]

    @property
    def two_bots(self) -> list[Placed]:
        """Whose caller heard a bot again after another had taken the call."""
        return [call for call in self.calls if not call.in_order]

    def gap(self, share: float) -> float:
        """The gap that this share of those hit did not exceed, seconds."""
        gaps = sorted(call.gap for call in self.hit)
        return gaps[min(len(gaps) - 1, int(share * len(gaps)))] if gaps else 0.0

    def __str__(self) -> str:
        return (
            f"{self.what:<34} {len(self.calls):>5} {len(self.lost):>4} {len(self.hit):>4} {self.gap(0.5):>7.2f}s "
            f"{self.gap(0.99):>5.2f}s {self.gap(1.0):>5.2f}s {len(self.same_bot):>8} {len(self.resumed):>7} "
            f"{len(self.with_state):>5} {len(self.two_bots):>8} {self.slots:>10.1f}s"
        )


PRINTED: list[Outcome] = []
"""Of this run."""
REPORTS: list[str] = []
"""Whatever else is to be printed at its end."""


def lines() -> list[str]:
    """All that is to be printed."""
    table = [HEAD, *map(str, PRINTED)] if PRINTED else []
    return table + [line for report in REPORTS for line in report.splitlines()]
