"""What nodes share on Redis beside hosts and claims: facts, keys that are set once, texts, mailboxes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import FactEvent, Facts, merge
from gateway.pool.redis import codec
from gateway.pool.redis.client import RedisClient, milliseconds, one_question
from gateway.pool.registry import MAX_MESSAGES, MESSAGE_SECONDS, Leases, SetResult, TextChange

T = TypeVar("T")

MERGE_TRIES = 64
"""Writers of one session's facts at the same time; each round, one of them gets through."""


class SharedState:
    """The methods of `gateway.pool.registry.Registry` that know nothing of hosts and claims."""

    def __init__(self, client: RedisClient, leases: Leases, prefix: str) -> None:
        self.leases = leases
        self._client = client
        self._prefix = prefix

    @one_question
    async def merge(self, session: str, event: FactEvent) -> Facts:
        """Compare and set: `facts.merge` is the one function that merges, here as in memory."""
        key = self._key("facts", session)
        found = codec.read_text(await self._client.command("GET", key)) or ""
        for _ in range(MERGE_TRIES):
            known, aliases = codec.read_facts(found) if found else (Facts(session=session), frozenset[str]())
            facts = merge(known, event)
            aliases |= set(event.aliases)
            ttl = milliseconds(self.leases.ended if facts.may_expire_early else self.leases.facts)
            written = codec.write_facts(facts, aliases)
            other = codec.read_found(await self._client.script("compare_and_set", key, found, written, ttl))
            if other is None:
                await self._write_aliases(session, aliases, ttl)
                return facts
            found = other
        raise RegistryUnavailable("too many write the facts of this session at once")

    async def _write_aliases(self, session: str, aliases: Iterable[str], ttl: int) -> None:
        """Each alias stays with the session that had it first, and lives as long as its facts."""
        names = [self._key("alias", alias) for alias in aliases]
        commands = [("SET", name, session, "NX", "PX", ttl) for name in names] + [("GET", name) for name in names]
        owners = (await self._client.commands(commands))[len(names) :]
        ours = [name for name, owner in zip(names, owners, strict=True) if owner == session]
        await self._client.commands([("PEXPIRE", name, ttl) for name in ours])

    @one_question
    async def find(self, alias: str) -> Facts | None:
        session = codec.read_text(await self._client.command("GET", self._key("alias", alias)))
        key = self._key("facts", alias if session is None else session)
        found = codec.read_text(await self._client.command("GET", key))
        return codec.read_facts(found)[0] if found else None

    @one_question
    async def set_if_absent(self, key: str, ttl: float, value: str = "") -> SetResult:
        answer = await self._client.script("set_if_absent", self._key("once", key), milliseconds(ttl), value)
        return codec.read_set_result(answer, value)

    @one_question
    async def change(self, key: str, ttl: float, change: TextChange[T]) -> T:
        """Compare and set, as `merge` does."""
        name = self._key("text", key)
        _, found, now = codec.read_change(await self._client.script("read_text", name))
        for _ in range(MERGE_TRIES):
            text, result = change(found, now)
            if text == found:
                return result
            answer = await self._client.script("change_text", name, found, text, milliseconds(ttl))
            done, found, now = codec.read_change(answer)
            if done:
                return result
        raise RegistryUnavailable("too many change this text at once")

    @one_question
    async def send(self, mailbox: str, message: str) -> None:
        key = self._key("mailbox", mailbox)
        kept = ("LTRIM", key, -MAX_MESSAGES, -1), ("PEXPIRE", key, milliseconds(MESSAGE_SECONDS))
        await self._client.commands((("RPUSH", key, message), *kept))

    @one_question
    async def receive(self, mailbox: str) -> list[str]:
        return codec.read_texts(await self._client.command("LPOP", self._key("mailbox", mailbox), MAX_MESSAGES))

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}:{kind}:{{{name}}}"
