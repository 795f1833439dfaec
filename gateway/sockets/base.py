"""The interface of a socket: its methods, its callbacks, the decision on an upgrade."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

wire_log = logging.getLogger("gateway.sockets.wire")
wire_log.setLevel(logging.WARNING)  # the library logs every frame and header at DEBUG: audio, digits, tokens

MAX_SIZE = 64 * 1024
"""Bytes of one incoming message, unless the decision says otherwise."""
CLOSE_TIMEOUT = 2.0
"""Seconds from starting the closing handshake to aborting the connection."""
HANDSHAKE_TIMEOUT = 5.0
"""Seconds that a client of a standalone server may take for its request."""
MAX_UNSENT = 8 * 1024 * 1024
"""Bytes that wait for a peer that does not read. Beyond this the connection is aborted: the peer is not coming back,
and answering its pings must not grow memory. 30 s of speech at 48 kHz, sent at once, are 2.9 MB."""
USER_TIMEOUT_MS = 5000
"""TCP gives up on a peer that acknowledges nothing for so long; the kernel alone would take 15 minutes."""
NOTSENT_LOWAT = 16 * 1024
SEND_BUFFER = 64 * 1024
"""Bytes. Small kernel buffers, so that `unsent` and pings say what the peer has really taken: with the
kernel's own choice a loopback socket swallows two minutes of audio."""


class Socket(Protocol):
    """One open WebSocket.

    All methods return at once, and raise nothing because of the peer.
    """

    @property
    def unsent(self) -> int:
        """Bytes in the transport's write buffer."""

    @property
    def last_received(self) -> float:
        """`loop.time()` of the last bytes of any kind."""

    @property
    def last_pong(self) -> float:
        """`loop.time()` of the last pong; of the opening while there was none."""

    def send(self, data: str | bytes) -> None:
        """A text or binary message. Silently dropped once closing."""

    def set_handler(self, handler: Handler) -> None:
        """Call this handler from now on. Its `opened` is not called."""

    def hold_reading(self, held: bool) -> None:
        """Read nothing of the peer, or go on. What the kernel has taken of it waits there, and then at the peer: who
        passes messages on slows the writer down so. Pongs wait, too, and the end of the connection.
        """

    def ping(self) -> None:
        """Ask for a pong; see `last_pong`."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake.

        The connection is aborted if it takes longer than CLOSE_TIMEOUT. Nothing is received any more. 1005 and 1006
        send a close frame without a code.
        """

    def abort(self) -> None:
        """Drop the connection now."""


class Handler(Protocol):
    """What is called, synchronously, in the event loop.

    If a method raises, the socket is closed with 1011.
    """

    def opened(self, socket: Socket) -> None:
        """The handshake is done."""

    def received(self, data: bytes, text: bool) -> None:
        """Take a whole message.

        A text is not decoded: it may be invalid UTF-8, which the handler must judge.
        """

    def closed(self, code: int, reason: str) -> None:
        """No more will be received. Exactly once after `opened`.

        code: from the peer's close frame (1005 if it had none), or ours if the peer broke the protocol or a
        limit; 1006 when the connection was lost without one.
        """


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request to open a WebSocket.

    path: as sent, not unquoted. query: raw, without the "?". headers: by lower-case name, see
    `headers.combine`. peer: the other end's IP address, "" on a unix socket.
    """

    path: str
    query: str
    headers: Mapping[str, str]
    peer: str


@dataclass(frozen=True, slots=True)
class Accept:
    """Accept the upgrade.

    subprotocol: named in the answer if the client offered it. max_size: bytes of a message.
    """

    handler: Handler
    subprotocol: str | None = None
    max_size: int = MAX_SIZE


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer with this HTTP status instead of 101."""

    status: int
    body: str = ""


Decision: TypeAlias = Accept | Refusal
