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
"""Messages given out per tick of 20 ms: fifty times real time, without keeping the event loop from other calls."""
MAX_MESSAGES = 6000
"""At most so many messages wait, the keys counted as one: 120 s of speech in frames of 20 ms."""

COMMANDS: dict[type[object], str] = {pcm.SendDtmf: "dtmf", pcm.Hangup: "hangup", pcm.Transfer: "transfer"}
"""What of the bot's messages is refused, and by what word, where too much is waiting."""
TOO_MUCH_WAITS = "too much is waiting already"


@dataclass(frozen=True, slots=True)
class AfterKeys:
    """Calls `action` with the time then, in its place among the messages."""

    action: Callable[[float], None]


DeferredItem: TypeAlias = bytes | pcm.ToGateway | AfterKeys
"""Audio, any other message, or an action of ours."""


class DeferredMessages:
    """max_bytes: of audio that may wait. Beyond a bound the newest message is refused."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[DeferredItem] = deque()
        self._bytes = 0
        self._paused = False
        self.must_defer = False
        """True while what the bot sends must wait, too. Asked for each frame."""

    def pause(self) -> None:
        """Keep everything from now on."""
        self._paused = self.must_defer = True

    def resume(self) -> None:
        """Give out what has waited."""
        self._paused = False
        self.must_defer = bool(self._items)

    def add(self, item: DeferredItem) -> bool:
        """Keep this. False: too much is waiting already."""
        size = len(item) if isinstance(item, bytes) else 0
        # the keys that we pause for count as one
        if len(self._items) + self._paused >= MAX_MESSAGES or self._bytes + size > self._max_bytes:
            return False
        self._items.append(item)
        self.must_defer = True
        self._bytes += size
        return True

    def add_action(self, action: AfterKeys) -> None:
        """Keep an action, however much is waiting: a bot that floods ends, too.

        There is one for each end of a worker.
        """
        self._items.append(action)
        self.must_defer = True

    def pop_due(self) -> DeferredItem | None:
        """Return what is due next, if it may be given out."""
        if self._paused or not self._items:
            return None
        item = self._items.popleft()
        self.must_defer = bool(self._items)
        if isinstance(item, bytes):
            self._bytes -= len(item)
        return item

    def clear(self) -> list[pcm.SetMark]:
        """Drop the audio and the marks that wait. Returns the marks."""
        marks = [item for item in self._items if isinstance(item, pcm.SetMark)]
        self._items = deque(item for item in self._items if not isinstance(item, bytes | pcm.SetMark))
        self.must_defer = self._paused or bool(self._items)
        self._bytes = 0
        return marks
