"""What came of a load: counts and distributions.

In memory that does not grow with the length of its calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.simulator.load.calls import CallSummary
from gateway.simulator.load.lateness import Lateness, Tolerance
from gateway.simulator.load.percentiles import Percentiles

MAX_REASONS = 50
"""Texts that are counted apart; the gateway's words may stand in them, and be different each time."""


class Totals:
    """Of one carrier's calls, or of all.

    asked = answered + refused + failed; held are those that heard hold audio first, whatever became of them.
    whole: answered, and nothing was wrong with them. lost: 20 ms frames of speech whose echo was not heard.
    """

    def __init__(self) -> None:
        self.asked = self.answered = self.held = self.refused = self.failed = self.whole = self.echoed = 0
        self.frames_sent = self.frames_received = self.lost = 0
        self.seconds = 0.0
        self.webhook = Percentiles()
        self.first_audio = Percentiles()
        """Of calls that were not held."""
        self.hold = Percentiles()
        """Seconds, of calls that were."""
        self.echo = Percentiles()

    def note(self, call: CallSummary, delays: Iterable[Percentiles]) -> None:
        self.asked += 1
        self.answered += call.result == "answered"
        self.refused += call.result == "refused"
        self.failed += call.result == "failed"
        self.held += call.held is not None
        self.whole += call.result == "answered" and not call.faults
        self.echoed += call.echo is True
        self.frames_sent += call.frames_sent
        self.frames_received += call.frames_received
        self.lost += call.frames_lost or 0
        self.seconds += call.seconds
        if call.webhook_ms is not None:
            self.webhook.note(call.webhook_ms)
        if call.held is not None:
            self.hold.note(call.held)
        elif call.first_audio_ms is not None:
            self.first_audio.note(call.first_audio_ms)
        for delay in delays:
            self.echo.add(delay)

    def to_json(self, *, delays: bool) -> dict[str, Any]:
        """delays: False leaves out all that a late load cannot know."""
        counts = {key: value for key, value in vars(self).items() if isinstance(value, int)}
        names = ("webhook", "first_audio", "echo")
        timed = {f"{name}_ms": getattr(self, name).to_json() if delays else None for name in names}
        return {**counts, "seconds": round(self.seconds, 3), **timed, "hold_seconds": self.hold.to_json()}


@dataclass
class LoadReport:
    """A load that is over.

    asked          calls that were to be placed; `totals.asked` is how many were
    cpu            seconds of processor time that this process used
    late           what was late here, a phrase each; delays are reported only if nothing was
    interrupted    it was ended before its time
    """

    asked: int
    carriers: dict[str, Totals]
    tolerance: Tolerance = field(default_factory=Tolerance)
    lateness: Lateness = field(default_factory=Lateness)
    totals: Totals = field(default_factory=Totals)
    reasons: Counter[str] = field(default_factory=Counter)
    calls: list[CallSummary] = field(default_factory=list)
    cpu: float = 0.0
    wall: float = 0.0
    interrupted: bool = False

    def note(self, call: CallSummary, delays: list[Percentiles]) -> None:
        """Count one more call, which is over."""
        self.calls.append(call)
        self.totals.note(call, delays)
        self.carriers[call.carrier].note(call, delays)
        for reason in [f"{call.result}: {call.reason}"] if call.reason else [f"not whole: {f}" for f in call.faults]:
            known = reason in self.reasons or len(self.reasons) < MAX_REASONS
            self.reasons[reason if known else f"{call.result}: other"] += 1

    @property
    def late(self) -> list[str]:
        return self.lateness.faults(self.tolerance)

    @property
    def echo_found(self) -> bool:
        """The bot is an echo: it was heard by some caller at least."""
        return self.totals.echoed > 0

    @property
    def without_echo(self) -> int:
        """Answered calls that heard no echo though others did."""
        return sum(call.result == "answered" and call.echo is False for call in self.calls) if self.echo_found else 0

    @property
    def ok(self) -> bool:
        """Tell whether every call was answered and whole, and delays could be measured."""
        return self.totals.whole == self.asked and not self.without_echo and not self.late and not self.interrupted

    def to_json(self) -> dict[str, Any]:
        """Everything."""
        timed = not self.late
        calls = [call.to_json() for call in self.calls]
        if not timed:
            for call in calls:
                call["webhook_ms"] = call["first_audio_ms"] = None
        own = {name: getattr(self.lateness, name).to_json() for name in ("frames", "starts", "loop")}
        return {
            "ok": self.ok,
            "asked": self.asked,
            "interrupted": self.interrupted,
            "echo_found": self.echo_found,
            "without_echo": self.without_echo,
            "late": self.late,
            "own": {"late_ms": own, "cpu_seconds": round(self.cpu, 3), "wall_seconds": round(self.wall, 3)},
            "totals": self.totals.to_json(delays=timed),
            "carriers": {name: totals.to_json(delays=timed) for name, totals in self.carriers.items()},
            "reasons": dict(self.reasons),
            "calls": calls,
        }
