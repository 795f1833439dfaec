"""What is shared in memory beside hosts and claims: facts, keys that are set once, texts, mailboxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from gateway.pool.facts import FactEvent, Facts
from gateway.pool.memory.fact_store import FactStore
from gateway.pool.memory.mailboxes import Mailboxes
from gateway.pool.memory.once_keys import OnceKeys
from gateway.pool.memory.texts import Texts
from gateway.pool.registry import Leases, SetResult, T, TextChange


class SharedState(ABC):
    """The methods of `gateway.pool.registry.Registry` that know nothing of hosts and claims."""

    _unix_time: Callable[[], float]

    def __init__(self, leases: Leases) -> None:
        self._facts = FactStore(leases)
        self._once_keys = OnceKeys()
        self._texts = Texts()
        self._mailboxes = Mailboxes()

    @abstractmethod
    async def _begin_step(self) -> float:
        """Await once, drop what has expired, and return the time of the leases. What follows is one step."""

    async def merge(self, session: str, event: FactEvent) -> Facts:
        return self._facts.merge(session, event, await self._begin_step())

    async def find(self, alias: str) -> Facts | None:
        await self._begin_step()
        return self._facts.find(alias)

    async def set_if_absent(self, key: str, ttl: float, value: str = "") -> SetResult:
        return self._once_keys.set_if_absent(key, ttl, value, await self._begin_step())

    async def change(self, key: str, ttl: float, change: TextChange[T]) -> T:
        return self._texts.change(key, ttl, change, await self._begin_step(), self._unix_time())

    async def send(self, mailbox: str, message: str) -> None:
        self._mailboxes.send(mailbox, message, await self._begin_step())

    async def receive(self, mailbox: str) -> list[str]:
        await self._begin_step()
        return self._mailboxes.receive(mailbox)

    def _purge_shared(self, now: float) -> None:
        self._facts.purge(now)
        self._once_keys.purge(now)
        self._texts.purge(now)
        self._mailboxes.purge(now)
