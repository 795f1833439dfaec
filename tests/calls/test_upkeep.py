"""Static workers are looked after: ready, busy, silent; and what a node holds is renewed."""

from __future__ import annotations

import asyncio

import pytest

from gateway.calls.upkeep import keep_static, renew_claims, static_host
from gateway.pool.registry import Claim, Leases
from gateway.sockets import Refusal, server_protocol
from tests.calls.conftest import PATIENCE


@pytest.fixture
async def worker():
    """A worker that knows nothing of us: only its /readyz is of interest."""
    answers = {"status": 200}
    protocol = server_protocol(lambda _: Refusal(403), plain=lambda request: Refusal(answers["status"]))
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    answers["port"] = server.sockets[0].getsockname()[1]
    answers["server"] = server
    yield answers
    server.close()


async def slots_until(gateway, service: str, wanted) -> None:
    async with asyncio.timeout(PATIENCE):
        while not wanted(await gateway.node.registry.slots(service)):
            await asyncio.sleep(0.01)


async def test_a_static_worker_is_offered_while_it_says_that_it_is_ready(gateway, worker):
    gateway.node.leases = Leases().scaled(0.02)
    host = static_host("static.acme", "relay", [f"ws://127.0.0.1:{worker['port']}/ws"], "")
    keeper = gateway.node.spawn(keep_static(gateway.node, host), "keep")
    try:
        await slots_until(gateway, "static.acme", lambda s: s.ready == 1)
        worker["status"] = 503
        await slots_until(gateway, "static.acme", lambda s: s.ready == 0 and s.busy == 1)
        worker["status"] = 404  # a bot that has no such page, but is there
        await slots_until(gateway, "static.acme", lambda s: s.ready == 1)
        worker["server"].close()
        await slots_until(gateway, "static.acme", lambda s: s.ready == 0)
    finally:
        keeper.cancel()
        await gateway.node.rest.close()


async def test_a_running_call_on_a_static_worker_survives_a_probe_that_fails(gateway, worker):
    gateway.node.leases = Leases().scaled(0.02)
    host = static_host("static.acme", "relay", [f"ws://127.0.0.1:{worker['port']}/ws"], "")
    keeper = gateway.node.spawn(keep_static(gateway.node, host), "keep")
    try:
        await slots_until(gateway, "static.acme", lambda s: s.ready == 1)
        registry = gateway.node.registry
        claim = await registry.confirm("s1", (await registry.claim("static.acme", "s1")).attempt)
        worker["server"].close()
        await slots_until(gateway, "static.acme", lambda s: s.ready == 0)
        assert isinstance(await registry.look("s1", claim.fence), Claim)
    finally:
        keeper.cancel()
        await gateway.node.rest.close()


async def test_what_the_sessions_hold_is_renewed_and_what_is_lost_is_let_go(gateway):
    carrier = await gateway.call()
    async with asyncio.timeout(PATIENCE):
        while not any(bot.of("start") for bot in gateway.bots):
            await asyncio.sleep(0.005)
    [session] = gateway.node.sessions.values()
    gateway.node.leases = Leases().scaled(0.02)
    keeper = gateway.node.spawn(renew_claims(gateway.node), "renew")
    try:
        await asyncio.sleep(0.3)
        assert session.ended is None
        newer = await gateway.node.registry.claim("support.acme", session.id)
        await gateway.node.registry.confirm(session.id, newer.attempt)
        await carrier.until_closed()
        async with asyncio.timeout(PATIENCE):
            while gateway.node.sessions:
                await asyncio.sleep(0.005)
    finally:
        keeper.cancel()
