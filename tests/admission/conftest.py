"""One private Redis for the whole folder; there is none to be had: the tests fail and say so."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.pool.server import Server


@pytest.fixture(scope="session")
def private_server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    return os.environ.get("REDIS_URL") or str(request.getfixturevalue("private_server").url)
