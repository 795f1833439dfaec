"""What wakes a session: news of its streams, commands of its bot, orders from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.media.types import Stream
from gateway.protocol.codes import EndReason


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """orderly: the carrier said stop, or closed with 1000 or without a code."""

    stream: Stream
    orderly: bool


@dataclass(frozen=True, slots=True)
class BotCommand:
    """What the bot wants done, when all that it said before has been heard. "finished": it has closed its link."""

    kind: Literal["hangup", "transfer", "digits", "finished"]
    value: str = ""


@dataclass(frozen=True, slots=True)
class EndSession:
    """The session is to end. reason None: another node serves the call now."""

    reason: EndReason | None


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """There is no worker for the session any more: `WorkerLink.end` says how it ends, unless a new stream came."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Another node is to go on with the call: in the bot's next pause, at the latest at `by` (loop time)."""

    by: float


Event: TypeAlias = StreamClosed | BotCommand | EndSession | WorkerEnded | HandOver
