"""The server dies, forgets, hangs: running calls go on, new ones are told at once, and all is whole again soon."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from gateway.errors import RegistryUnavailable
from gateway.pool.redis.registry import RedisRegistry
from gateway.pool.registry import Claim, Full, Leases
from gateway.protocol.workers import Running
from tests.kit.waiting import PATIENCE, until
from tests.pool.kit import SERVICE, Clock, confirmed, host, worker
from tests.pool.server import Server

LEASES = Leases().scaled(0.3)
"""A process that stands still for two seconds on a busy machine loses none of them."""
CAP = 6


@pytest.fixture
def server():
    server = Server()
    server.start()
    yield server
    server.remove()


class Gateway:
    """A node with running calls, and their worker host: they beat and renew, whatever the server does."""

    def __init__(self, url: str) -> None:
        self.registry = RedisRegistry(url, LEASES)
        self.calls: dict[str, Claim] = {}
        self.lost: set[str] = set()

    def host(self):
        busy = {claim.worker.id: session for session, claim in self.calls.items()}
        names = [f"w{n}" for n in range(CAP)]
        return host(*(worker(w, "busy" if w in busy else "ready", busy.get(w, "")) for w in names), cap=CAP)

    def running(self):
        return [Running(session, claim.fence, claim.worker.id) for session, claim in self.calls.items()]

    async def beat(self) -> None:
        while True:
            try:
                if await self.registry.beat("h1", 1, self.host().workers) is None:
                    await self.registry.put_host(self.host(), self.running())
            except RegistryUnavailable:
                pass
            await asyncio.sleep(LEASES.beat)

    async def renew(self) -> None:
        while True:
            await asyncio.sleep(LEASES.renew)
            try:
                self.lost |= await self.registry.renew({s: claim.fence for s, claim in self.calls.items()})
            except RegistryUnavailable:
                pass

    async def until_whole(self) -> None:
        """All running calls are known again, and a new one gets the last slot but one."""
        began = time.monotonic()
        await until(self._is_whole)
        print(f"whole again after {time.monotonic() - began:.2f} s")

    async def _is_whole(self) -> bool:
        try:
            known = [await self.registry.get_claim(s, claim.fence) for s, claim in self.calls.items()]
            if not all(isinstance(one, Claim) for one in known):
                return False
            claim = await self.registry.claim(SERVICE, "new")
            slots = await self.registry.slots(SERVICE)
        except RegistryUnavailable:
            return False
        if not isinstance(claim, Claim) or slots.used != len(self.calls) + 1:
            return False
        assert claim.worker is not None
        assert claim.worker.id not in {one.worker.id for one in self.calls.values()}
        return True


@asynccontextmanager
async def gateway(url: str):
    node = Gateway(url)
    await node.registry.put_host(node.host())
    for session in ("s1", "s2", "s3"):
        node.calls[session] = await confirmed(node.registry, session)
    tasks = [asyncio.create_task(node.beat()), asyncio.create_task(node.renew())]
    await asyncio.sleep(LEASES.renew * 1.2)  # the first renewal is over
    yield node
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await node.registry.close()
    assert node.lost == set(), "a running call was disturbed"


async def is_told(registry) -> None:
    """Many new calls at once, each told in time: 200 that wait in turn for an answer would take a minute."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*(registry.claim(SERVICE, f"n{n}") for n in range(200)), return_exceptions=True)
    assert {type(result) for result in results} == {RegistryUnavailable}
    print(f"told after {time.monotonic() - began:.2f} s")


async def test_the_server_is_killed_and_starts_empty(server):
    async with gateway(server.url) as node:
        server.kill()
        await is_told(node.registry)
        await asyncio.sleep(LEASES.confirmed + 0.2)
        server.start()
        await node.until_whole()


async def test_the_server_forgets_everything(server):
    async with gateway(server.url) as node:
        admin = RedisRegistry(server.url, LEASES)
        await admin._client.command("FLUSHALL")
        await admin._client.command("SCRIPT", "FLUSH")
        await admin.close()
        await node.until_whole()
        await asyncio.sleep(LEASES.confirmed + LEASES.renew)
        assert isinstance(await node.registry.get_claim("s1", node.calls["s1"].fence), Claim)


async def test_the_server_hangs_for_longer_than_a_lease(server):
    async with gateway(server.url) as node:
        server.hang()
        await is_told(node.registry)
        await asyncio.sleep(LEASES.confirmed + 0.2)
        server.go_on()
        await node.until_whole()
        await asyncio.sleep(LEASES.confirmed + LEASES.renew)
        assert isinstance(await node.registry.get_claim("s1", node.calls["s1"].fence), Claim)


async def test_nobody_asks_a_server_that_has_just_failed(server):
    registry = RedisRegistry(server.url, LEASES, monotonic=Clock())  # for which it stays a moment ago
    server.kill()
    with pytest.raises(RegistryUnavailable, match="redis: ConnectionError"):
        await registry.find("s1")
    for _ in range(100):
        with pytest.raises(RegistryUnavailable, match="a moment ago"):
            await registry.find("s1")
    await registry.close()


async def test_all_by_the_servers_own_clock(server):
    registry = RedisRegistry(server.url, LEASES)
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s1")
    assert abs(claim.fence / 1e6 - time.time()) < 60
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    await asyncio.sleep(LEASES.confirmed + 0.3)
    assert await registry.claim(SERVICE, "s2") == Full(hosts=0)
    assert await registry.renew({"s1": claim.fence}) == {"s1"}
    await registry.close()
