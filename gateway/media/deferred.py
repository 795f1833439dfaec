"""What the bot says behind keys that its carrier presses outside of the stream: it waits until the carrier is back.

Such a carrier leaves the stream to press the keys, and comes back with a new one. All that the bot has sent behind the
keys is kept, in order, and is taken in small portions once the new stream is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.protocol import pcm

PORTION = 50
"""Messages taken in one tick of 20 ms: as fast as a bot may speak, without keeping the event loop from other calls."""
MAX_MESSAGES = 6000
"""That wait, with the keys themselves: 120 s of speech in frames of 20 ms."""


@dataclass(frozen=True, slots=True)
class AfterKeys:
    """Call this behind the messages that wait."""

    action: Callable[[], None]


Item: TypeAlias = bytes | pcm.ToGateway | AfterKeys
"""Audio, any other message, or an action of ours."""


class DeferredMessages:
    """max_bytes: of audio that may wait. Beyond a bound the newest message is refused."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._held = False

    @property
    def waiting(self) -> bool:
        """True while what the bot sends must wait, too."""
        return self._held or bool(self._items)

    def hold(self) -> None:
        """Keep everything from now on."""
        self._held = True

    def release(self) -> None:
        """Give out what has waited."""
        self._held = False

    def add(self, item: Item) -> bool:
        """Keep this. False: too much is waiting already."""
        size = len(item) if isinstance(item, bytes) else 0
        if len(self._items) + self._held >= MAX_MESSAGES or self._bytes + size > self._max_bytes:
            return False
        self._items.append(item)
        self._bytes += size
        return True

    def next(self) -> Item | None:
        """Return what is due next, if it may be given out."""
        if self._held or not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, bytes):
            self._bytes -= len(item)
        return item

    def clear(self) -> list[pcm.SetMark]:
        """Drop the audio and the marks that wait. Returns the marks."""
        marks = [item for item in self._items if isinstance(item, pcm.SetMark)]
        self._items = deque(item for item in self._items if not isinstance(item, bytes | pcm.SetMark))
        self._bytes = 0
        return marks
