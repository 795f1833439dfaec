"""The gateway of these tests, on each registry. If there is no Redis to be had, they fail and say so."""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from gateway.carriers import CARRIERS
from gateway.node.node import Node
from gateway.node.services import Fallback, Service, Services
from gateway.node.tokens import Signer
from gateway.pool.client import RegistryClient
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.redis.registry import RedisRegistry
from gateway.pool.registry import Leases, Registry
from gateway.serve.app import make_app
from gateway.sessions.lease_renewal import renew_claims
from gateway.sessions.table import Sessions
from gateway.sockets import server_protocol
from gateway.streams.authorize import UpgradeAuthorizer
from tests.admission.crowd import SLOTS, WARM, Crowd, Noting
from tests.admission.scripted import KEY, ScriptedHost
from tests.kit.node import SERVICE, Gateway, open_sockets
from tests.kit.waiting import until
from tests.pool.server import Server

PUBLIC_URL = "http://127.0.0.1:1"
LEASES = Leases(renew=1.0)
"""Renewed often: a renewal that does harm is to be seen."""


@pytest.fixture(scope="session")
def private_server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    return os.environ.get("REDIS_URL") or str(request.getfixturevalue("private_server").url)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.slow)])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "memory":
        return MemoryRegistry(LEASES)
    return RedisRegistry(request.getfixturevalue("redis_url"), LEASES, prefix=f"test-{uuid.uuid4().hex}")


@pytest.fixture
async def crowd(registry: Registry) -> AsyncIterator[Crowd]:
    before = open_sockets()
    service = Service(host=SERVICE, default=True, when_full=Fallback("hold"), max_hold=120.0, wrapup=2.0)
    node = Node(
        public_url=PUBLIC_URL,
        registry=RegistryClient(Noting(registry), leases=LEASES),
        leases=LEASES,
        signer=Signer((b"a secret of the tests",)),
        services=Services([service]),
        carriers={name: entry.carrier(None, public_url=PUBLIC_URL, dev=True) for name, entry in CARRIERS.items()},
        dial_allowed=lambda to: to.startswith("+1555"),
    )
    sessions = Sessions(node)
    await registry.slots(SERVICE)  # its first connection, if it has any
    node.ticker.start()
    upkeep = node.spawn(renew_claims(sessions), "renew claims")
    loop = asyncio.get_running_loop()
    authorizer = UpgradeAuthorizer(sessions, local_keys=(SecretStr(KEY),), dev=True)
    door = await loop.create_server(server_protocol(authorizer.decide), "127.0.0.1", 0, backlog=1000)
    gateway = Gateway(sessions, [])
    gateway.port = door.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:  # short: a unix socket's path has 100 bytes
        host = ScriptedHost(Path(folder), SERVICE, cap=SLOTS, warm=WARM)
        await host.register(gateway.port)
        transport = httpx.ASGITransport(make_app(sessions, ready=lambda: True))
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as gateway.http:
            crowd = Crowd(gateway, host)
            await crowd.until_rest()
            tasks, open_before = node.tasks, crowd.descriptors()
            watch = asyncio.create_task(crowd.watch())
            yield crowd
            for call in crowd.callers:
                crowd.hang_up(call)
            await crowd.until_rest()
            watch.cancel()
            [failed] = await asyncio.gather(watch, return_exceptions=True)
            assert isinstance(failed, asyncio.CancelledError), failed
            assert crowd.samples > 20
            assert host.asked_twice == [], "a worker was given to two sessions"
            for caller in crowd.callers.values():
                await caller.until_closed()
            await crowd.until("no task is left", lambda: node.tasks == tasks)
            if isinstance(registry, MemoryRegistry):  # a Redis client keeps connections for the next burst
                await crowd.until("no descriptor is left", lambda: crowd.descriptors() <= open_before)
        await host.close()
    upkeep.cancel()
    node.ticker.stop()
    door.close()
    await registry.close()
    await until(lambda: open_sockets() <= before, complain="all connections are closed, on both sides")
