"""What becomes of a call that is placed to a number, and the numbers that stand for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from gateway.simulator.plan import DialResult, Faults, Pcm

Result = Literal["answered", "busy", "no-answer", "failed"]
Create = Literal[
    "accept", "invalid", "forbidden", "unauthorized", "rate", "error", "unavailable", "unanswered", "bad_gateway",
    "lost", "early",
]  # fmt: skip
Party = Literal["human", "machine", "fax", "unknown"]

STAY = 4 * 3600.0  # as long as a carrier lets any call last


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of one call. Times are seconds.

    rings       until it is answered or refused; "no-answer" rings until the request's own timeout
    gives_up    until the carrier ends an unanswered call; None: as the request asks
    result      what the called party does
    seconds     from the answer until they hang up; None: they stay until the other side ends the call
    audio       what they say, int16 at CALLER_RATE; None: a recorded sentence
    party       who answers, as machine detection finds out
    greeting    how long a machine talks
    verdict     from the answer until machine detection has decided
    create      how the create request is answered:
                "accept"; refused as "invalid" (number), "forbidden" (country), "unauthorized", "rate", "error" (500),
                "unavailable" (503): no call; "unanswered": the call is placed, the request never answered;
                "bad_gateway": the call is placed, and a proxy answers 502;
                "lost": no call, and no answer either; "early": answered once the answer webhook has been
    delay       until the create request is answered
    callbacks   what is told of the call: all, "none" (lost), each "twice", or "reversed": after the end, the last first
    encoding    the leg's codec, "PCMA" or "PCMU", where the carrier announces it
    faults      bad behaviour on the stream
    dial_result, dial_seconds    how a <Dial> in the call ends, and how long it lasts if it is answered; a number of the
                table, or of the server's plans, is busy or not answered there, too
    """

    rings: float = 1.0
    gives_up: float | None = None
    result: Result = "answered"
    seconds: float | None = None
    audio: Pcm | None = None
    party: Party = "human"
    greeting: float = 3.0
    verdict: float = 1.0
    create: Create = "accept"
    delay: float = 0.0
    callbacks: Literal["all", "none", "twice", "reversed"] = "all"
    encoding: str | None = None
    faults: Faults = field(default_factory=Faults)
    dial_result: DialResult = "completed"
    dial_seconds: float = 5.0

    @property
    def stay(self) -> float:
        """Seconds from the answer to the called party's hanging up."""
        return STAY if self.seconds is None else self.seconds


@dataclass(frozen=True, slots=True)
class Number:
    """A line of the table: the plan, and what it does in a few words."""

    plan: Plan
    what: str


NUMBERS: Mapping[str, Number] = MappingProxyType(
    {
        "+15550000101": Number(Plan(seconds=20.0), "answers, talks, hangs up after 20 s"),
        "+15550000102": Number(Plan(), "answers, talks, stays until you hang up"),
        "+15550000103": Number(Plan(rings=10.0), "rings for 10 s, then the same"),
        "+15550000104": Number(Plan(seconds=0.5), "answers and hangs up at once"),
        "+15550000110": Number(Plan(result="busy"), "is busy"),
        "+15550000111": Number(Plan(result="no-answer"), "rings until the timeout, is never answered"),
        "+15550000112": Number(Plan(result="failed", rings=0.2), "cannot be reached: failed"),
        "+15550000120": Number(Plan(party="machine", seconds=30.0), "is an answering machine: a greeting of 3 s"),
        "+15550000121": Number(Plan(party="fax", seconds=10.0), "is a fax machine"),
        "+15550000130": Number(Plan(dial_result="no-answer"), "answers; no transfer of it is answered"),
        "+15550000140": Number(Plan(create="invalid"), "the API refuses the number"),
        "+15550000141": Number(Plan(create="forbidden"), "the API refuses the country"),
        "+15550000142": Number(Plan(create="unauthorized"), "the API refuses the credentials"),
        "+15550000143": Number(Plan(create="rate"), "the API answers 429"),
        "+15550000144": Number(Plan(create="error"), "the API answers 500"),
        "+15550000145": Number(Plan(create="unavailable"), "the API answers 503"),
        "+15550000146": Number(Plan(create="unanswered"), "the API places the call and never answers"),
        "+15550000147": Number(Plan(create="lost"), "the API places no call and never answers"),
        "+15550000148": Number(Plan(create="early"), "the answer webhook comes before the API's answer"),
        "+15550000149": Number(Plan(delay=4.0), "the API answers after 4 s"),
        "+15550000150": Number(Plan(create="bad_gateway"), "the API places the call, and a proxy answers 502"),
    }
)
"""What a number does where nothing else was planned for it; all others are answered and stay."""


def table() -> str:
    """Return the numbers, a line each."""
    return "\n".join(f"  {number}   {one.what}" for number, one in NUMBERS.items())
