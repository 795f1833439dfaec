"""Hosts, workers, clocks and the usual steps, for all tests of registries."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.errors import RegistryUnavailable
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.redis.registry import RedisRegistry
from gateway.pool.registry import Claim, Host, Leases, Registry
from gateway.protocol.workers import Running, Worker
from tests.kit.waiting import SCALE

T = TypeVar("T")

LEASES = Leases()
SERVICE = "support.acme"


class Clock:
    """Unix time that moves only when told to."""

    def __init__(self) -> None:
        self.now = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now

    async def advance(self, seconds: float) -> None:
        self.now += seconds


class RedisClock(Clock):
    """The time of one registry on Redis: the server's, and a shift of ours. It goes on by itself, too, by the
    milliseconds that a test takes.
    """

    def __init__(self, client, prefix: str) -> None:
        super().__init__()
        self._client = client
        self._prefix = prefix
        self.lua = f"""(function()
            local t = redis.call('TIME')
            local us = t[1] * 1000000 + t[2] + tonumber(redis.call('GET', '{prefix}:shift') or 0)
            return {{ math.floor(us / 1000000), us % 1000000 }}
        end)()"""

    async def advance(self, seconds: float) -> None:
        """Also for what the server expires by itself."""
        await super().advance(seconds)
        await self._client.incrby(f"{self._prefix}:shift", round(seconds * 1e6))
        await self._client.eval(_SHORTEN, 0, f"{self._prefix}:*", round(seconds * 1000))


_SHORTEN = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local left = redis.call('PTTL', key)
  if left >= 0 then
    redis.call('PEXPIRE', key, left - ARGV[2])
  end
end
"""


class Memory:
    """The registry in memory, with its clock."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.registry: Registry = MemoryRegistry(LEASES, clock=self.clock, unix_time=self.clock)

    async def empty(self) -> Registry:
        """Another one that knows nothing, by the same clock."""
        return MemoryRegistry(LEASES, clock=self.clock, unix_time=self.clock)

    async def cut(self) -> None:
        """The registry answers no question."""
        self.registry.down = True

    async def mend(self) -> None:
        """It answers again."""
        self.registry.down = False

    async def counts(self) -> dict[str, tuple[int, int | None, list[str], list[str]]]:
        """Per host: used, cap (None while it is lost), sessions that hold a unit, workers that are taken."""
        claims = self.registry._slots.items()
        return {
            name: (
                len(state.slots),
                None if state.host is None else state.host.cap,
                [session for session, slot in claims if slot.host == name],
                [slot.worker for slot in state.slots.values() if slot.worker],
            )
            for name, state in self.registry._hosts.items()
        }

    async def close(self) -> None:
        await self.registry.close()


class Redis:
    """One on Redis, with a prefix of its own, by a clock of ours."""

    def __init__(self, url: str) -> None:
        import redis.asyncio

        self._url = url
        self._prefix = f"test-{uuid.uuid4().hex}"
        self._admin = redis.asyncio.Redis.from_url(url)
        self.clock = RedisClock(self._admin, self._prefix)
        self.registry: Registry = self.node()

    def node(self) -> RedisRegistry:
        """Another process on the same keys."""
        return RedisRegistry(self._url, LEASES, prefix=self._prefix, clock=self.clock.lua, monotonic=self.clock)

    async def empty(self) -> Registry:
        await self.flush()
        return self.registry

    async def flush(self) -> None:
        """What FLUSHALL does, to these keys alone; the time goes on as it was."""
        keys = [key async for key in self._admin.scan_iter(f"{self._prefix}:*") if not key.endswith(b":shift")]
        if keys:
            await self._admin.delete(*keys)

    async def dump(self) -> dict[bytes, bytes]:
        """All keys as they are now."""
        keys = [key async for key in self._admin.scan_iter(f"{self._prefix}:*") if not key.endswith(b":shift")]
        return {key: await self._admin.dump(key) for key in keys}

    async def fail_over(self, kept: dict[bytes, bytes]) -> None:
        """Go back to what was dumped: a replica takes over that had not got the newest writes."""
        await self.flush()
        for key, value in kept.items():
            await self._admin.restore(key, 0, value)

    async def cut(self) -> None:
        pool = self.registry._client._pool
        await pool.disconnect()
        pool.reset()
        self._path = pool.connection_kwargs.get("path"), pool.connection_kwargs.get("port")
        pool.connection_kwargs.update({"path": "/nowhere"} if self._path[0] else {"port": 1})

    async def mend(self) -> None:
        pool = self.registry._client._pool
        path, port = self._path
        pool.connection_kwargs.update({"path": path} if path else {"port": port})
        pool.reset()

    async def counts(self) -> dict[str, tuple[int, int | None, list[str], list[str]]]:
        """As above, from the keys."""
        base = f"{self._prefix}:{{{SERVICE}}}"
        held_by: dict[str, list[str]] = {}
        async for key in self._admin.scan_iter(f"{base}:session:*"):
            name = await self._admin.hget(key, "host")
            if name:
                held_by.setdefault(name.decode(), []).append(key.decode().rpartition(":")[2])
        counts = {}
        async for key in self._admin.scan_iter(f"{base}:slots:*"):
            name = key.decode().rpartition(":")[2]
            cap = await self._admin.hget(f"{base}:host:{name}", "cap")
            workers = [w.decode() for w in await self._admin.hvals(key) if w]
            taken = await self._admin.hgetall(f"{base}:in_use:{name}")
            assert sorted(w.decode() for w in taken) == sorted(workers), "in_use and slots differ"
            used = await self._admin.hlen(key)
            counts[name] = (used, int(cap) if cap else None, held_by.get(name, []), workers)
        return counts

    async def close(self) -> None:
        await self.registry.close()
        await self.flush()
        await self._admin.delete(f"{self._prefix}:shift")
        await self._admin.aclose()


def worker(name: str, state: str = "ready", session: str = "") -> Worker:
    return Worker(name, f"unix:/run/{name}.sock", state, session)  # type: ignore[arg-type]


def host(*workers: Worker, name: str = "h1", cap: int = 2, epoch: int = 1, static: bool = False, seq: int = 0) -> Host:
    return Host(name, epoch, SERVICE, "pcm", cap, workers, "key", static, seq)


def running(claim: Claim) -> Running:
    """What the claim's host says of it."""
    assert claim.worker is not None
    return Running(claim.session, claim.fence, claim.worker.id)


async def insistently(ask: Callable[[], Awaitable[T]]) -> T:
    """What a registry answers that may be asked again, on a machine so busy that a connection takes longer than a call
    could wait.
    """
    async with asyncio.timeout(60.0 * SCALE):
        while True:
            try:
                return await ask()
            except RegistryUnavailable:
                await asyncio.sleep(0.3)


async def claimed(registry: Registry, session: str, **how) -> Claim:
    claim = await registry.claim(SERVICE, session, **how)
    assert isinstance(claim, Claim), claim
    return claim


async def confirmed(registry: Registry, session: str, **how) -> Claim:
    claim = await registry.confirm(session, (await claimed(registry, session, **how)).attempt)
    assert isinstance(claim, Claim), claim
    return claim
