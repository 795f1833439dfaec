"""What a caller hears while there is no bot for him."""

from __future__ import annotations


class Hold:
    """Audio over and over, a block at a time."""

    def __init__(self, audio: bytes, block: int) -> None:
        self._audio = audio
        self._block = block
        self._at = 0
        self._playing = False

    def next(self) -> bytes:
        """The next block."""
        self._playing = True
        block = self._audio[self._at : self._at + self._block]
        self._at = (self._at + self._block) % len(self._audio) if len(block) == self._block else 0
        return block

    def stop(self) -> bool:
        """Begin anew next time. Was it playing?"""
        playing, self._playing, self._at = self._playing, False, 0
        return playing
