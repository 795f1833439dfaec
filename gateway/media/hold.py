"""What callers hear while there is no bot for them, and since when there is none."""

from __future__ import annotations

import math

BLOCK_SECONDS = 0.2
"""As long as the longest message that a carrier asks for (Exotel: 3,200 bytes): the rest of a half would be silence.
"""


class Hold:
    """The time of a caller without a bot.

    audio: PCM, played over and over; b"" is silence. block: bytes of it that are played at once, `BLOCK_SECONDS`.
    after: seconds without a bot from which hold audio is due.
    """

    def __init__(self, audio: bytes, block: int, after: float) -> None:
        self._audio = audio
        self._block = block
        self._after = after
        self._at = 0
        self._playing = False
        self._alone_since: float | None = None
        """None while there is a bot, and until the first tick without one; infinite once no other bot comes."""

    def begin(self, *, final: bool = False, at: float | None = None) -> None:
        """The bot is gone. final: no other comes. at: the caller counts as alone from then on, else from now on."""
        self._alone_since = math.inf if final else at

    def due(self, now: float) -> bool:
        """True if the caller, who has no bot, has been alone for so long that hold audio is due."""
        if self._alone_since is None:
            self._alone_since = now
        return now - self._alone_since >= self._after

    def next(self, unplayed: float) -> bytes:
        """Return the next block, b"" while enough is unplayed. unplayed: seconds."""
        if not self._audio or unplayed >= BLOCK_SECONDS:
            return b""
        self._playing = True
        block = self._audio[self._at : self._at + self._block]
        self._at = (self._at + self._block) % len(self._audio) if len(block) == self._block else 0
        return block

    def end(self) -> bool:
        """There is a bot. Returns whether hold audio was playing; it begins from the start next time."""
        playing, self._playing, self._at, self._alone_since = self._playing, False, 0, None
        return playing
