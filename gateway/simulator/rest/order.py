"""What a create request asked for, in no carrier's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.simulator.call import Step

Detection = Literal["", "detect", "message_end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A call to place.

    first          where its instructions are
    ring_seconds   until it is given up unanswered
    max_seconds    until it is ended, once answered
    detection      whether a machine is looked for; "message_end": and the end of its greeting
    waits          the instructions wait for that verdict
    fields         the request's, by name
    events         the progress events that were asked for, in the carrier's words
    """

    to: str
    from_number: str
    first: Step
    ring_seconds: float = 60.0
    max_seconds: float = 4 * 3600.0
    detection: Detection = ""
    waits: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    events: frozenset[str] = frozenset()


def seconds_of(text: str, default: float, low: float, high: float) -> float:
    """Read a number of seconds within bounds; the default where it is none."""
    try:
        value = float(text)
    except ValueError:
        return default
    return min(max(value, low), high) if value == value else default  # NaN is not itself
