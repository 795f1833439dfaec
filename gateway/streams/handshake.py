"""The carrier's WebSocket: who may come in, the handshake, and the stream's hand-over to its session.

Three gates, each before anything is kept for the stranger: the upgrade is refused unless its token, signature or key
is good; `start` must come in time and name the call that the token is bound to; the registry must confirm the attempt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gateway.media.endpoints import StreamEndpoint
from gateway.media.types import EarlyMedia, Stream
from gateway.protocol.codes import CloseCode
from gateway.sessions.table import Sessions
from gateway.sockets import Socket
from gateway.streams.admission import Denied, StreamGrant, admit
from serializers.base import Connected, Rejected, Serializer, Start
from serializers.detect import EARLY, detect
from serializers.stream import MAX_EARLY_BYTES

MAX_EARLY = 600
"""Messages kept before `start`, and as many until the registry has answered: 12 s at 50 a second each."""


MAX_UNREAD_BYTES = 2 * MAX_EARLY_BYTES
"""Of messages kept until it is known whose they are: audio in base64 and its JSON."""

MAX_SPOKEN = 8
"""Messages of a handshake that are kept: there are two, and `connected` may come twice."""


class StreamHandshake:
    """The handler of one carrier's WebSocket: its handshake, then its session's ear.

    serializer: None where the URL does not say which carrier it is; then `start` does.
    """

    def __init__(
        self,
        sessions: Sessions,
        ticket: StreamGrant,
        serializer: Serializer | None,
    ) -> None:
        node = sessions.node
        self._sessions = sessions
        self._node = node
        self._ticket = ticket
        self._serializer = serializer
        self._time = asyncio.get_running_loop().time
        self._socket: Socket | None = None
        self._deadline = self._time() + node.limits.start_timeout
        self._bad = 0
        self._early: deque[tuple[bytes, bool]] = deque(maxlen=MAX_EARLY)
        self._starting = False
        self._unread: list[tuple[bytes, bool]] = []
        """What came before it was known whose wire it is."""
        self._unread_bytes = 0
        self._early_media: list[bytes] = []
        """Media before `start` as they came; the serializer keeps as many."""
        self._spoken: list[bytes] = []
        """The handshake as it came, for bots that speak the carrier's wire."""
        self._on_closed: Callable[[int], None] | None = None
        self._closed: int | None = None

    # Socket callbacks.

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self._node.streams += 1
        self._node.ticker.add(self)

    def received(self, data: bytes, text: bool) -> None:
        if self._starting:
            self._early.append((data, text))
        else:
            self._handshake(data, text)

    def closed(self, code: int, reason: str) -> None:
        self._closed = code
        self._node.streams -= 1
        self._node.ticker.discard(self)
        if self._on_closed is not None:
            self._on_closed(code)

    def tick(self, now: float) -> None:
        """The handshake's deadline; once it is met the bridge has its own clock."""
        if self._starting:
            self._node.ticker.discard(self)
        elif now >= self._deadline:
            self.refuse("no_start", CloseCode.POLICY_VIOLATION)

    # The handshake.

    def _handshake(self, data: bytes, text: bool) -> None:
        serializer = self._serializer
        if serializer is None:
            self._detect(data, text)
            return
        events = serializer.decode(data, text=text, now=self._time())
        if not events and serializer.started is None and len(self._early_media) < MAX_EARLY:
            self._early_media.append(data)  # media, which the serializer keeps until `start`
        for number, event in enumerate(events, 1):
            if isinstance(event, (Connected, Start)) and len(self._spoken) < MAX_SPOKEN:
                self._spoken.append(data)
            match event:
                case Start():
                    self._starting = True
                    early = EarlyMedia(tuple(self._early_media), tuple(events[number:]))
                    self._node.spawn(self._admit(event, early), "admit a stream")
                    return
                case Rejected("unknown_event" | "early_media"):
                    pass
                case Rejected(reason):
                    self._count_bad(reason)
                case _:
                    self._bad = 0

    def _detect(self, data: bytes, text: bool) -> None:
        """Keep what comes until a `start` says whose it is, and read all of it then."""
        carriers = self._node.carriers.values()
        found = detect(data, [carrier.serializer for carrier in carriers]) if text else None
        if found is None:
            self._count_bad("unknown_carrier")
            return
        if found == EARLY:
            self._unread_bytes += len(data)
            if self._unread_bytes <= MAX_UNREAD_BYTES:
                self._unread.append((data, text))
            return
        carrier = next(carrier for carrier in carriers if carrier.serializer is found)
        if carrier.name not in self._ticket.carriers:  # the key of another carrier
            self.refuse("bad_key", CloseCode.POLICY_VIOLATION)
            return
        self._serializer = carrier.make_serializer()
        self._ticket = replace(self._ticket, carrier=carrier.name)
        unread, self._unread = self._unread, []
        for one, is_text in (*unread, (data, text)):
            if not self._starting:  # by `start`, or as too much of it was bad
                self._handshake(one, is_text)

    def _count_bad(self, reason: str) -> None:
        self._bad += 1
        self._node.rejected["stream", reason] += 1
        if self._bad >= self._node.limits.bad_before_start:
            self.refuse("bad_messages", CloseCode.UNSUPPORTED_DATA)

    async def _admit(self, start: Start, early: EarlyMedia) -> None:
        assert self._socket is not None and self._serializer is not None
        ours = self._ticket.token is not None
        verified = ours or bool(self._ticket.account)
        stream = Stream(
            self._socket, self._serializer, start, tuple(self._spoken), early, resumes=ours, verified=verified
        )
        try:
            session = await admit(self._sessions, self._ticket, stream)
        except Exception:  # a bug of ours must not leave a caller on a dead line
            self.refuse("internal_error", CloseCode.INTERNAL_ERROR)
            raise
        if isinstance(session, Denied):
            self.refuse(session.reason, session.code)
            return
        self._on_closed = partial(session.stream_closed, stream)
        endpoint = StreamEndpoint(session.bridge, self._node.metrics.timed, lambda code: self.closed(code, ""))
        while self._early:
            data, text = self._early.popleft()
            endpoint.received(data, text)
        if self._closed is None:
            self._socket.set_handler(endpoint)
        else:
            self._on_closed(self._closed)

    def refuse(self, reason: str, code: CloseCode) -> None:
        """Close the stream, and say why in the log."""
        self._node.refuse("stream", reason, carrier=self._ticket.carrier)
        self._node.ticker.discard(self)
        self._early.clear()
        self._starting = True  # nothing more is looked at
        if self._socket is not None:
            self._socket.close(code, reason)
