"""What callers hear while there is no bot for them, and since when there is none."""

from __future__ import annotations

import math

from gateway.media.playing import PlayingStream

BLOCK_SECONDS = 0.2
"""As long as the longest message that a carrier asks for, Exotel's 3,200 bytes: half of one would be padded."""


class HoldAudio:
    """What a caller without a bot hears, and when.

    audio: PCM, played over and over; b"" is silence.
    block: bytes of it that are played at once, `BLOCK_SECONDS`.
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

    def bot_left(self, *, final: bool = False, at: float | None = None) -> None:
        """Count the time without a bot.

        final: no other comes.
        at: loop time from which on it counts; None: from the next tick.
        """
        self._alone_since = math.inf if final else at

    def tick(self, stream: PlayingStream, now: float) -> bool:
        """Queue a block, if it is due and less than a block is unplayed; called while there is no bot.

        Returns whether the caller has been without a bot for so long that hold audio is due.
        """
        if self._alone_since is None:
            self._alone_since = now
        if now - self._alone_since < self._after:
            return False
        if self._audio and stream.playout.unplayed(now) < BLOCK_SECONDS:
            self._playing = True
            stream.play(self._next_block(), now)
        return True

    def _next_block(self) -> bytes:
        block = self._audio[self._at : self._at + self._block]
        self._at = (self._at + self._block) % len(self._audio) if len(block) == self._block else 0
        return block

    def bot_joined(self) -> bool:
        """End the hold audio, which begins from its start next time. Returns whether it was playing."""
        playing, self._playing, self._at, self._alone_since = self._playing, False, 0, None
        return playing
