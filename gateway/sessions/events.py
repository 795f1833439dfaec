"""What wakes a session: news of its streams, commands of its bot, orders from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.media.types import Stream
from gateway.protocol.codes import EndReason

OrderKind: TypeAlias = Literal["hangup", "transfer", "digits", "pause_recording", "resume_recording"]
"""What an operator may want done with a call."""
AT_ONCE = "at_once"
"""The value of a hang-up that does not wait for what the bot has said."""


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """orderly: the carrier said stop, or closed with 1000 or without a code."""

    stream: Stream
    orderly: bool


@dataclass(frozen=True, slots=True)
class BotCommand:
    """What the bot wants done, when all that it said before has been heard."""

    kind: Literal["hangup", "transfer", "digits"]
    value: str = ""


@dataclass(frozen=True, slots=True)
class OrderedTransfer:
    """An operator wants the call transferred. Unlike for a `BotCommand`, the bot is not told why it is refused."""

    to: str


@dataclass(frozen=True, slots=True)
class BotFinished:
    """The bot has closed its link, and all that it said has been heard. It may have moved the call by itself."""


@dataclass(frozen=True, slots=True)
class EndSession:
    """The session is to end."""

    reason: EndReason


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another node serves the call now: the session ends here, and the call goes on there."""


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """The search for a worker has ended without one: `WorkerLink.end` says how the session is to end.

    If that is None by now, a new stream has started another search, and this says nothing.
    """


@dataclass(frozen=True, slots=True)
class HandOver:
    """Another node is to go on with the call: in the bot's next pause, at the latest at `by` (loop time)."""

    by: float


SessionEvent: TypeAlias = (
    StreamClosed | BotCommand | OrderedTransfer | BotFinished | EndSession | Superseded | WorkerEnded | HandOver
)
