"""One Redis server for the whole run: $REDIS_URL, or else a private one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.pool.kit import Memory, Redis
from tests.pool.server import Server


@pytest.fixture(scope="session")
def private_server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis_url(request) -> str:
    return os.environ.get("REDIS_URL") or request.getfixturevalue("private_server").url


@pytest.fixture(params=["memory", "redis"])
async def world(request):
    """A registry, its clock, and the power to cut it off."""
    world = Memory("") if request.param == "memory" else Redis(request.getfixturevalue("redis_url"))
    yield world
    await world.close()


@pytest.fixture
def registry(world):
    return world.registry


@pytest.fixture
def clock(world):
    return world.clock
