"""Bound what one peer may send: a share of each turn of the loop, and a rate.

The loop serves all calls. A peer that sends faster than anyone speaks must cost its own connection time, not theirs.
"""

from __future__ import annotations

TURN_FRAMES = 16
TURN_BYTES = 64 * 1024
"""As much of one connection is handled in one turn of the loop: 1 to 3 ms of work. The rest waits for the next turn."""
SLICE = 512
"""Bytes that are parsed at once while there is more: a read of 256 KB may hold 40,000 frames."""
SMALL_READ = 2048
"""Bytes of a read that is parsed whole: 20 ms of audio at 48 kHz, as real-time peers send it, is one such read."""

BYTES_PER_UNIT = 1024
"""A frame costs one unit, and one more for so many bytes. 20 ms of 48 kHz audio at a time are 144 units a second."""
UNITS_PER_SECOND = 1000.0
"""The rate that a peer may keep up for ever: seven times real time at 48 kHz, twelve times at 16 kHz."""
BURST = 20_000.0
"""Units that may come at once: 120 s of 48 kHz audio, which is all that a playout queue holds, are 17,300."""
RECOVERED = 2_000.0
"""Units that a peer must have again before it is taken to have stopped."""
MAX_SECONDS_OVER = 10.0
"""A peer that has been held to the rate for so long is closed with 1008."""


class ReadBudget:
    """The units that one connection has left. Pure: time is passed in, in seconds."""

    __slots__ = ("_at", "_over_since", "_units")

    def __init__(self, now: float) -> None:
        self._units = BURST
        self._at = now
        self._over_since: float | None = None

    def spend(self, frames: int, size: int, now: float) -> float:
        """Take what was read off the budget.

        Return the seconds to wait before more is read, 0.0 mostly.
        """
        self._units -= frames + size / BYTES_PER_UNIT
        if self._units >= 0.0:
            return 0.0
        # Refilled only when empty: a peer in real time never pays for the clock's arithmetic.
        spent = frames + size / BYTES_PER_UNIT
        had = min(BURST, self._units + spent + (now - self._at) * UNITS_PER_SECOND)
        self._units, self._at = had - spent, now
        if had >= RECOVERED:
            self._over_since = None
        if self._units >= 0.0:
            return 0.0
        if self._over_since is None:
            self._over_since = now
        return -self._units / UNITS_PER_SECOND

    def exhausted(self, now: float) -> bool:
        """Whether the peer has been over the rate for too long."""
        return self._over_since is not None and now - self._over_since > MAX_SECONDS_OVER
