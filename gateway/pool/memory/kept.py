"""What the registry in memory keeps beside slots: facts, keys, small records, messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from gateway.pool.facts import FactEvent, Facts
from gateway.pool.memory.mailboxes import Mailboxes
from gateway.pool.memory.records import Records
from gateway.pool.memory.texts import Texts
from gateway.pool.registry import Leases, SetResult, T, TextChange


class Kept(ABC):
    """The methods of `gateway.pool.registry.Registry` that know nothing of hosts and claims."""

    _unix_time: Callable[[], float]

    def __init__(self, leases: Leases) -> None:
        self._records = Records(leases)
        self._texts = Texts()
        self._mailboxes = Mailboxes()

    @abstractmethod
    async def _begin_step(self) -> float:
        """Await once, drop what has expired, and return the time of the leases. What follows is one step."""

    async def merge(self, session: str, event: FactEvent) -> Facts:
        return self._records.merge(session, event, await self._begin_step())

    async def find(self, alias: str) -> Facts | None:
        await self._begin_step()
        return self._records.find(alias)

    async def set_if_absent(self, key: str, ttl: float, value: str = "") -> SetResult:
        return self._records.set_if_absent(key, ttl, value, await self._begin_step())

    async def change(self, key: str, ttl: float, change: TextChange[T]) -> T:
        return self._texts.change(key, ttl, change, await self._begin_step(), self._unix_time())

    async def send(self, mailbox: str, message: str) -> None:
        self._mailboxes.send(mailbox, message, await self._begin_step())

    async def receive(self, mailbox: str) -> list[str]:
        await self._begin_step()
        return self._mailboxes.receive(mailbox)

    def _purge_kept(self, now: float) -> None:
        self._records.purge(now)
        self._texts.purge(now)
        self._mailboxes.purge(now)
