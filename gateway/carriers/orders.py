"""What is ordered of a carrier's REST API, and what it answers, the same for all carriers.

Values only: a `CallOrder` goes in, a `RestCall` comes out; the carrier's answer goes in, and `Placed`, `CarrierRefusal`
or `CallState` comes out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

MachineDetection: TypeAlias = Literal["off", "detect", "message_end"]
Outcome: TypeAlias = Literal["completed", "busy", "no-answer", "failed", "canceled", ""]
"""How a call ended; "" where it has not, or the carrier does not say."""
RefusalKind: TypeAlias = Literal["auth", "invalid", "rate", "refused", "unavailable", "unanswered"]

_E164 = re.compile(r"\+[1-9][0-9]{5,14}")


@dataclass(frozen=True, slots=True)
class RestCall:
    """A request to the carrier's REST API.

    auth: user and password for Basic; else `headers` carry the key. form: a name with several values has a list.

    done: statuses, besides 2xx, and words of an error answer that mean that it needed no doing.
    """

    method: str
    url: str
    # Keys, numbers, and URLs of ours that may carry a key: none of it is shown.
    auth: tuple[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str | Sequence[str]] | None = field(default=None, repr=False)
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    done: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallOrder:
    """A call to place.

    session: whose call it is. to, from_number: E.164. answer_url: the voice webhook, asked once the callee has
    answered. status_url: told of every change, and of what machine detection finds. stream_url: wss, for a carrier that
    is given its stream with the order and asks nothing (Exotel without a flow). The URLs carry the session and have
    been through `callback_url`. machine_detection: always asynchronous, the call never waits for it; "message_end": of
    a machine it tells once the greeting is over, where the carrier can. ring_seconds: until it counts as not answered.
    max_seconds: of the whole call. Carriers bound both.

    Raises ValueError for a number that is not E.164: Plivo would read "a<b" as two numbers to dial.
    """

    session: str
    to: str = field(repr=False)
    from_number: str = field(repr=False)
    answer_url: str = field(repr=False)
    status_url: str = field(repr=False)
    stream_url: str = field(default="", repr=False)
    machine_detection: MachineDetection = "off"
    ring_seconds: int = 60
    max_seconds: int = 7200

    def __post_init__(self) -> None:
        for name in ("to", "from_number"):
            if not _E164.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} is not a number in E.164")


@dataclass(frozen=True, slots=True)
class Placed:
    """The carrier accepted the order.

    call_id: "" where it is named later, by the webhooks. alias: another id that the call's webhooks bear
    (`Webhook.alias`; Plivo's request_uuid), "" for none.
    """

    call_id: str = ""
    alias: str = ""


@dataclass(frozen=True, slots=True)
class CarrierRefusal:
    """The carrier did not do as asked.

    code, text: the carrier's own; the text may name a number. kind: "auth": our key, account or application is not
    accepted; "invalid": something in the order is; "rate": later; "refused": the carrier will not do this (a number
    that is not ours, a country that is not open, no balance); "unavailable": it failed, and says so itself;
    "unanswered": a proxy before it says that it had no answer, so it may have done it. retry_after: seconds, None where
    it does not say.
    """

    code: str
    text: str
    kind: RefusalKind
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class CallState:
    """What the carrier says of a call when asked.

    "unknown": it said nothing that can be understood. duration: seconds from answer to end, None where it does not say.
    ended: when it ended, unix time, 0 where it does not say.
    """

    status: Literal["ringing", "answered", "ended", "unknown"] = "unknown"
    outcome: Outcome = ""
    duration: int | None = None
    ended: float = 0.0

    def end(self, answered: float) -> float:
        """Return when a call ended that was answered then, unix time; 0 if that is not said.

        The duration comes first: it needs no clock that agrees with ours.
        """
        return answered + self.duration if answered and self.duration is not None else self.ended
