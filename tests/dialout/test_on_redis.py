"""The same over two gateways that share nothing but a Redis."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from gateway.dialout.request import Dialled
from gateway.pool.redis.registry import RedisRegistry
from gateway.pool.registry import Leases, Registry
from gateway.simulator.rest import Plan
from tests.dialout.rig import request, rig
from tests.dialout.test_calls import talk
from tests.pool.server import Server


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    server = Server()
    server.start()
    yield server.url
    server.remove()


@pytest.fixture
def registry(redis_url) -> Callable[[], Registry]:
    return partial(RedisRegistry, redis_url, Leases(), prefix=f"test-{uuid.uuid4().hex}")


async def test_a_call_is_answered_at_the_other_gateway(tmp_path, registry):
    async with rig(tmp_path, nodes=2, registry=registry, plan=Plan(rings=0.05)) as made:
        first, second = made.gateways
        result = await first.dialout.place(request("twilio"))
        assert isinstance(result, Dialled), result
        await talk(made, result.session_id)
        assert result.session_id in second.sessions
        made.bot.socket.close()
        await first.over(result.session_id)
        await first.nothing_is_left()


async def test_a_key_used_at_once_on_two_gateways_dials_once(tmp_path, registry):
    async with rig(tmp_path, nodes=2, registry=registry, plan=Plan(rings=5.0, delay=0.1)) as made:
        asked = request("twilio", idempotency_key="k1")
        results = await asyncio.gather(*(made.gateways[n % 2].dialout.place(asked) for n in range(6)))
        assert isinstance(results[0], Dialled) and set(results) == {results[0]}
        assert len(made.carriers.calls) == 1
