"""What wakes a session: news of its streams and links, wishes of its bot, orders from outside."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from gateway.media.types import Stream
from gateway.metrics import TIMED
from gateway.protocol.codes import EndReason
from gateway.sessions.worker_search import Linked, Unlinked
from gateway.sockets import Handler, Socket

if TYPE_CHECKING:
    from gateway.sessions.worker_link import WorkerLink


@dataclass(frozen=True, slots=True)
class StreamGone:
    """orderly: the carrier said stop, or closed in good order."""

    stream: Stream
    orderly: bool


@dataclass(frozen=True, slots=True)
class LinkGone:
    """code: of the close, 1006 when it broke."""

    link: Link
    code: int


@dataclass(frozen=True, slots=True)
class Wish:
    """The bot's, and its last word has been heard. kind: "hangup", "transfer" or "digits"."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class End:
    """Somebody ends the session. reason None: somebody else serves it now."""

    reason: EndReason | None


@dataclass(frozen=True, slots=True)
class HandOver:
    """Another node is to go on with the call: as soon as nobody speaks, at the latest at `by`, loop time."""

    by: float


@dataclass(frozen=True, slots=True)
class Sought:
    """What became of the quest for a worker. number: of the quest; an older one's is of no interest any more."""

    number: int
    found: Linked | Unlinked


Event: TypeAlias = StreamGone | LinkGone | Wish | End | HandOver | Sought


class Link(Handler):
    """One link's callbacks, for as long as the session goes by it. side: None until its stream has come."""

    def __init__(self, side: WorkerLink | None) -> None:
        self.side = side
        self._time = asyncio.get_running_loop().time
        self.socket: Socket | None = None
        self.gone = asyncio.Event()

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes, text: bool) -> None:
        side = self.side
        if side is None or side.link is not self:
            return
        bridge = side.bridge
        if text or bridge.counts.from_bot % TIMED:
            bridge.link_received(data, text, self._time())
        else:
            side.node.metrics.timed("outbound", bridge.link_received, data, text, self._time())

    def closed(self, code: int, reason: str) -> None:
        self.gone.set()
        if self.side is not None:
            self.side.link_closed(self, code)
