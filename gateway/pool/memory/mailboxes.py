"""Messages between nodes, in memory, until they are read or too old."""

from __future__ import annotations

from collections import deque

from gateway.pool.memory.expiry import ExpiryQueue
from gateway.pool.registry import MAX_MESSAGES, MESSAGE_SECONDS


class Mailboxes:
    """All of one registry, by name."""

    def __init__(self) -> None:
        self._boxes: dict[str, deque[str]] = {}
        self._ends: ExpiryQueue[str] = ExpiryQueue()

    def __len__(self) -> int:
        """Return how much is kept of all kinds, for tests."""
        return len(self._boxes) + len(self._ends)

    def send(self, mailbox: str, message: str, now: float) -> None:
        """Put the message behind the others; of too many, the oldest go."""
        self._boxes.setdefault(mailbox, deque(maxlen=MAX_MESSAGES)).append(message)
        self._ends.set(mailbox, now + MESSAGE_SECONDS)

    def receive(self, mailbox: str) -> list[str]:
        """Empty the mailbox, and return what was in it."""
        self._ends.discard(mailbox)
        return list(self._boxes.pop(mailbox, ()))

    def purge(self, now: float) -> None:
        """Drop what has expired."""
        for mailbox in self._ends.due(now):
            del self._boxes[mailbox]
