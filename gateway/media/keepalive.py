"""Finds out whether the other end is still there: bytes handed to TCP prove nothing, media and pongs do.

Ticked by the bridge or the relay: what is watched for and how long is the same for all of them.
"""

from __future__ import annotations

from gateway.media.types import BridgeLimits
from gateway.sockets import Socket


class StreamKeepalive:
    """Judges a carrier by its media.

    One that sends none may have the call on hold: it is asked by a ping.
    """

    def __init__(self, socket: Socket, limits: BridgeLimits, now: float) -> None:
        self.heard = now
        """Loop time at which media came last; on a relay, anything. The bridge and the relay set it."""
        self._socket = socket
        self._limits = limits
        self._pinged: float | None = None
        self._told = False

    def tick(self, now: float) -> bool:
        """Send a ping if one is due. True, once: the carrier does not answer."""
        if now - self.heard <= self._limits.stream_quiet:
            self._pinged, self._told = None, False
        elif self._pinged is None:
            self._pinged = now
            self._socket.ping()
        elif self._socket.last_pong >= self._pinged:
            self.heard, self._pinged = now, None  # silent, but there
        elif now - self._pinged > self._limits.stream_pong and not self._told:
            self._told = True
            return True
        return False


class LinkKeepalive:
    """Judges a worker by its pongs, asked for every second behind the audio.

    WebSocket servers answer by themselves.

    It counts from its beginning: a link that was opened early has not been asked before.
    """

    def __init__(self, socket: Socket, limits: BridgeLimits, now: float) -> None:
        self.slow = False
        """It has not answered for so long that audio would only pile up in front of the bot."""
        self._socket = socket
        self._limits = limits
        self._began = now
        self._next_ping = now + limits.link_ping

    def excuse(self, now: float) -> None:
        """Count from now on: its pongs wait to be read."""
        self._began = now

    def tick(self, now: float) -> bool:
        """Send a ping if one is due. True: the worker is lost."""
        if now >= self._next_ping:
            self._next_ping = now + self._limits.link_ping
            self._socket.ping()
        unheard = now - max(self._socket.last_pong, self._began)
        self.slow = unheard > self._limits.link_slow
        return unheard > self._limits.link_dead
