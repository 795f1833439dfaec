"""What a caller says, and which keys they press, while there is no bot to hear it. Sans-I/O."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, TypeAlias

MAX_KEYS = 32
"""Keys that are kept however long it takes. Further ones are dropped."""
MAX_MEDIA = 150
"""Messages of media that wait for a relayed bot: 3 s at 50 a second. The oldest are dropped."""

BacklogItem: TypeAlias = bytes | str
"""PCM, or the message of a key."""


class CallerBacklog:
    """Keeps the newest audio, up to a bound, with the keys in their order.

    max_bytes: of audio.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[BacklogItem] = deque()
        self._bytes = 0
        self._keys = 0

    def add_audio(self, pcm: bytes) -> int:
        """Keep this. Returns how many older messages of audio had to go."""
        self._items.append(pcm)
        self._bytes += len(pcm)
        return self.limit(self._max_bytes)

    def add_key(self, message: str) -> bool:
        """Keep a key behind the audio so far. False: too many wait already."""
        if self._keys >= MAX_KEYS:
            return False
        self._items.append(message)
        self._keys += 1
        return True

    def limit(self, max_bytes: int) -> int:
        """Keep so many bytes of audio from now on. Returns how many messages had to go."""
        self._max_bytes = max_bytes
        dropped, keys = 0, list[BacklogItem]()
        while self._bytes > max_bytes:
            oldest = self._items.popleft()
            if isinstance(oldest, bytes):
                self._bytes -= len(oldest)
                dropped += 1
            else:
                keys.append(oldest)
        self._items.extendleft(reversed(keys))
        return dropped

    def take(self) -> list[BacklogItem]:
        """Take everything, in order."""
        items = list(self._items)
        self._items.clear()
        self._bytes = self._keys = 0
        return items


class RelayedMessage(NamedTuple):
    """A carrier's message as it came, and when (loop time). audio: it is media."""

    data: bytes
    text: bool
    audio: bool
    came: float


class RelayBacklog:
    """Keeps the newest media as they came, with as many other messages as keys in a `CallerBacklog`, in their order."""

    def __init__(self) -> None:
        self._items: deque[RelayedMessage] = deque()
        self._media = 0

    def add(self, message: RelayedMessage) -> str:
        """Keep this message, by dropping one if need be.

        Returns why one had to go: "no_bot", the oldest of media; "keys", this one; "" where none had.
        """
        if not message.audio:
            if len(self._items) - self._media >= MAX_KEYS:
                return "keys"
            self._items.append(message)
            return ""
        self._items.append(message)
        self._media += 1
        if self._media <= MAX_MEDIA:
            return ""
        del self._items[next(at for at, item in enumerate(self._items) if item.audio)]
        self._media -= 1
        return "no_bot"

    def take(self) -> list[RelayedMessage]:
        """Take everything, in order."""
        items = list(self._items)
        self._items.clear()
        self._media = 0
        return items
