"""The carrier's WebSocket, from its upgrade until its session reads it.

Three gates: the upgrade is refused unless its token, signature or key is good; `start` must come in time and name the
call that the token is bound to; the registry must confirm the attempt. Before the first nothing is kept for the
stranger; before the third, bounded media only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from functools import partial

from gateway.media.endpoints import StreamEndpoint
from gateway.media.types import EarlyMedia, Stream
from gateway.protocol.codes import CloseCode
from gateway.sessions.session import Session
from gateway.sessions.table import Sessions
from gateway.sockets import Socket
from gateway.streams.admission import Denied, StreamGrant, admit
from serializers.base import Connected, Rejected, Serializer, Start
from serializers.detect import EARLY, detect
from serializers.stream import MAX_EARLY_BYTES

MAX_EARLY = 600
"""Messages kept between `start` and admission: 12 s at 50 a second. Of media before `start` the serializer keeps less:
five seconds.
"""

MAX_UNREAD_BYTES = 2 * MAX_EARLY_BYTES
"""Of messages kept until it is known whose they are, of media before `start`, and of what comes between that and
admission: audio in base64 and its JSON."""

MAX_HANDSHAKE = 8
"""Messages of a handshake that are kept: there are two, and `connected` may come twice."""


class Phase(Enum):
    """How far a stream has come."""

    HANDSHAKE = auto()
    """`start` has not come."""
    ADMITTING = auto()
    """`start` has come, and the session does not read yet."""
    REFUSED = auto()
    """It is being closed: what still comes is not read."""


class StreamHandshake:
    """The handler of one carrier's WebSocket: its handshake, until its session takes over.

    serializer: None where the URL does not say which carrier it is; then `start` does.
    """

    def __init__(
        self,
        sessions: Sessions,
        grant: StreamGrant,
        serializer: Serializer | None,
    ) -> None:
        node = sessions.node
        self._sessions = sessions
        self._node = node
        self._grant = grant
        self._serializer = serializer
        self._time = asyncio.get_running_loop().time
        self._socket: Socket | None = None
        self._deadline = self._time() + node.limits.start_timeout
        self._bad = 0
        self._since_start: deque[tuple[bytes, bool]] = deque()
        """Messages after `start` that wait until the stream is admitted; of too many the oldest go."""
        self._since_start_bytes = 0
        self._phase = Phase.HANDSHAKE
        self._unread: list[tuple[bytes, bool]] = []
        """What came before it was known whose wire it is."""
        self._unread_bytes = 0
        self._early_media: list[bytes] = []
        """Media before `start` as they came, which the serializer keeps, too."""
        self._early_bytes = 0
        self._dropped = 0
        """Messages that there was no place for."""
        self._handshake_messages: list[bytes] = []
        """The handshake as it came, for bots that speak the carrier's wire."""
        self._on_closed: Callable[[int], None] | None = None
        self._closed: int | None = None

    # Socket callbacks.

    def opened(self, socket: Socket) -> None:
        self._socket = self._node.wire.wrap(socket)
        self._node.streams += 1
        self._node.ticker.add(self)

    def received(self, data: bytes, text: bool) -> None:
        match self._phase:
            case Phase.HANDSHAKE:
                self._read_handshake(data, text)
            case Phase.ADMITTING:
                self._keep(data, text)
            case Phase.REFUSED:
                pass

    def closed(self, code: int, reason: str) -> None:
        self._closed = code
        self._node.streams -= 1
        self._node.ticker.discard(self)
        if self._on_closed is not None:
            self._on_closed(code)

    def tick(self, now: float) -> None:
        """Refuse a stream whose `start` does not come in time. Once it has come, the bridge watches."""
        if self._phase is not Phase.HANDSHAKE:
            self._node.ticker.discard(self)
        elif now >= self._deadline:
            self.refuse("no_start", CloseCode.POLICY_VIOLATION)

    # The handshake.

    def _read_handshake(self, data: bytes, text: bool) -> None:
        serializer = self._serializer
        if serializer is None:
            self._detect(data, text)
            return
        events = serializer.decode(data, text=text, now=self._time())
        if not events and serializer.started is None:
            self._keep_early(data)
        for number, event in enumerate(events, 1):
            if isinstance(event, (Connected, Start)) and len(self._handshake_messages) < MAX_HANDSHAKE:
                self._handshake_messages.append(data)
            match event:
                case Start():
                    self._phase = Phase.ADMITTING
                    early = EarlyMedia(tuple(self._early_media), tuple(events[number:]))
                    self._node.spawn(self._admit(event, early), "admit a stream")
                    return
                case Rejected("unknown_event" | "early_media"):
                    pass  # not the stranger's fault: a new kind of message, or media before `start`
                case Rejected(reason):
                    self._count_bad(reason)
                case _:
                    self._bad = 0  # bad messages count in a row only

    def _detect(self, data: bytes, text: bool) -> None:
        """Keep what comes until a `start` says whose it is, and read all of it then."""
        carriers = self._node.carriers.values()
        found = detect(data, [carrier.serializer for carrier in carriers]) if text else None
        if found is None:
            self._count_bad("unknown_carrier")
            return
        if found == EARLY:  # media of any carrier: whose, `start` will say
            self._unread_bytes += len(data)
            if self._unread_bytes <= MAX_UNREAD_BYTES:
                self._unread.append((data, text))
            else:
                self._dropped += 1
            return
        carrier = next(carrier for carrier in carriers if carrier.serializer is found)
        if carrier.name not in self._grant.carriers:  # the key of another carrier
            self.refuse("bad_key", CloseCode.POLICY_VIOLATION)
            return
        self._serializer = carrier.make_serializer()
        self._grant = replace(self._grant, carrier=carrier.name)
        unread, self._unread = self._unread, []
        for one, is_text in (*unread, (data, text)):
            if self._phase is Phase.HANDSHAKE:  # else `start` was in it, or too much of it was bad
                self._read_handshake(one, is_text)

    def _keep_early(self, data: bytes) -> None:
        """Keep media as they came, while there is place: their JSON may be much longer than their audio."""
        if len(self._early_media) < MAX_EARLY and self._early_bytes + len(data) <= MAX_UNREAD_BYTES:
            self._early_media.append(data)
            self._early_bytes += len(data)
        else:
            self._dropped += 1

    def _keep(self, data: bytes, text: bool) -> None:
        self._since_start.append((data, text))
        self._since_start_bytes += len(data)
        while len(self._since_start) > MAX_EARLY or self._since_start_bytes > MAX_UNREAD_BYTES:
            oldest, _ = self._since_start.popleft()
            self._since_start_bytes -= len(oldest)
            self._dropped += 1

    def _count_bad(self, reason: str) -> None:
        self._bad += 1
        self._node.rejected["stream", reason] += 1
        if self._bad >= self._node.limits.bad_before_start:
            self.refuse("bad_messages", CloseCode.UNSUPPORTED_DATA)

    async def _admit(self, start: Start, early: EarlyMedia) -> None:
        assert self._socket is not None and self._serializer is not None
        # A token was given at a signed webhook; a static stream is as good as its upgrade's signature.
        at_webhook = self._grant.token is not None and not self._grant.token.prepared
        verified = at_webhook or bool(self._grant.account)
        stream = Stream(
            self._socket,
            self._serializer,
            start,
            tuple(self._handshake_messages),
            early,
            resumes=at_webhook,
            verified=verified,
        )
        try:
            session = await admit(self._sessions, self._grant, stream)
            if isinstance(session, Denied):
                self.refuse(session.reason, session.code)
                return
            self._give_to(session, stream)
        except Exception:  # a bug of ours must not leave a caller on a dead line
            self.refuse("internal_error", CloseCode.INTERNAL_ERROR)
            raise

    def _give_to(self, session: Session, stream: Stream) -> None:
        """Let the session's bridge read the stream: what has come since `start`, and what comes from now on."""
        self._on_closed = partial(session.stream_closed, stream)
        messages = (*stream.handshake, *stream.early.messages, *(data for data, _ in self._since_start))
        self._node.wire.stream(session.facts, session.service.record, stream.socket, stream.start, messages)
        endpoint = StreamEndpoint(session.bridge, self._node.metrics.timed, lambda code: self.closed(code, ""))
        session.current.endpoint = endpoint
        session.bridge.counts.dropped["early"] += self._dropped
        if self._closed is None:
            stream.socket.set_handler(endpoint)
        else:
            self._on_closed(self._closed)
        while self._since_start:
            data, text = self._since_start.popleft()
            endpoint.received(data, text)

    def refuse(self, reason: str, code: CloseCode) -> None:
        """Close the stream, and say why in the log."""
        self._node.refuse("stream", reason, carrier=self._grant.carrier)
        self._node.ticker.discard(self)
        self._since_start.clear()
        self._phase = Phase.REFUSED
        if self._socket is not None:
            self._socket.close(code, reason)
