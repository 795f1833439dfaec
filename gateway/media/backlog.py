"""What a caller says, and which keys they press, while there is no bot to hear it. Sans-I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

MAX_KEYS = 32
"""Keys that are kept however long it takes. Further ones are dropped."""

Item: TypeAlias = bytes | str
"""PCM, or the message of a key."""


class CallerBacklog:
    """The newest audio, up to a bound, with the keys in their order. most: bytes of audio."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._keys = 0

    def add_audio(self, pcm: bytes) -> int:
        """Keep this. Returns how many older messages of audio had to go."""
        self._items.append(pcm)
        self._bytes += len(pcm)
        return self.limit(self._most)

    def add_key(self, message: str) -> None:
        """Keep a key behind the audio so far."""
        if self._keys < MAX_KEYS:
            self._items.append(message)
            self._keys += 1

    def limit(self, most: int) -> int:
        """Keep at most so many bytes of audio from now on. Returns how many messages of audio had to go."""
        self._most = most
        dropped, keys = 0, list[Item]()
        while self._bytes > most:
            oldest = self._items.popleft()
            if isinstance(oldest, bytes):
                self._bytes -= len(oldest)
                dropped += 1
            else:
                keys.append(oldest)
        self._items.extendleft(reversed(keys))
        return dropped

    def take(self) -> Iterator[Item]:
        """Take everything, in order."""
        self._bytes = self._keys = 0
        while self._items:
            yield self._items.popleft()
