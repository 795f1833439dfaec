"""Streams that start: to a session that ends meanwhile, two at once, for somebody on hold, on a node that is late."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.pool.registry import Leases
from gateway.sessions.lease_renewal import renew_claims
from gateway.sessions.worker_search import ASK_AGAIN
from tests.kit.node import MEDIA, start
from tests.waiting import until


class Slow:
    """A registry whose answers to `confirm` take until `gate` is set."""

    def __init__(self, registry) -> None:
        self.registry = registry
        self.gate = asyncio.Event()
        self.asked = 0

    def __getattr__(self, name):
        return getattr(self.registry, name)

    async def confirm(self, session, attempt):
        claim = await self.registry.confirm(session, attempt)
        self.asked += 1
        await self.gate.wait()
        return claim


async def bots_heard(gateway, n: int) -> None:
    await until(lambda: sum(len(bot.of("start")) for bot in gateway.bots) >= n)


async def comes_back(gateway, call_id: str = "CA1"):
    carrier = await gateway.open(gateway.path_in(await gateway.resume(call_id, "?gw_attempt=1")))
    carrier.send(start(call_id, "MZ2"))
    return carrier


async def test_a_stream_whose_session_ends_while_it_is_confirmed_is_served_all_the_same(gateway):
    broken = await gateway.call()
    await bots_heard(gateway, 1)
    [session] = gateway.sessions
    gateway.node.limits = replace(gateway.node.limits, reattach_timeout=0.1)
    gateway.node.registry.timeout = 5.0
    broken.socket.abort()
    await until(lambda: session.stream is None)
    gateway.node.registry.registry = slow = Slow(gateway.memory)
    carrier = await comes_back(gateway)
    await until(lambda: slow.asked == 1)
    await until(lambda: session.ended)
    slow.gate.set()
    await bots_heard(gateway, 2)
    await until(lambda: any(live.stream is not None for live in gateway.sessions))
    assert carrier.code is None


async def test_of_two_static_streams_of_one_call_at_once_one_is_served_and_keeps_its_claim(gateway):
    gateway.node.leases = Leases(renew=0.05)
    renewing = asyncio.create_task(renew_claims(gateway.sessions))
    both = [await gateway.open("/ws/twilio?serviceHost=support.acme") for _ in range(2)]
    for stream, carrier in enumerate(both):
        carrier.send(start("CA1", f"MZ{stream}"))
    await until(lambda: [carrier.code for carrier in both].count(1008) == 1)
    await bots_heard(gateway, 1)
    [session] = gateway.sessions
    await asyncio.sleep(0.3)  # some renewals, none of which may find that it was superseded
    assert [carrier.code for carrier in both].count(None) == 1
    assert list(gateway.sessions) == [session]
    assert sum(len(bot.of("start")) for bot in gateway.bots) == 1
    assert (await gateway.memory.slots("support.acme")).used == 1
    renewing.cancel()


async def test_a_caller_on_hold_whose_stream_breaks_goes_on_waiting_in_his_place(gateway):
    talking = [await gateway.call(f"CA-{n}") for n in range(2)]
    await bots_heard(gateway, 2)
    broken = await gateway.call("CA1")
    await until(lambda: len(gateway.sessions) == 3)
    later = await gateway.call("CA2")
    await until(lambda: len(gateway.sessions) == 4)
    broken.socket.abort()
    carrier = await comes_back(gateway)
    await asyncio.sleep(0.05)
    assert carrier.code is None and len(gateway.sessions) == 4
    talking[0].send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA-0"}})
    await bots_heard(gateway, 3)
    heard = [message["call"]["call_id"] for bot in gateway.bots for message in bot.of("start")]
    assert "CA1" in heard and "CA2" not in heard
    assert later.code is None


async def test_an_overloaded_node_takes_no_static_stream_and_goes_on_with_those_it_has(gateway):
    talking = await gateway.call()
    await bots_heard(gateway, 1)
    gateway.node.overloaded = True
    stranger = await gateway.open("/ws/twilio?serviceHost=support.acme")
    stranger.send(start("CA9"))
    assert await stranger.until_closed() == 1001
    talking.socket.abort()
    carrier = await comes_back(gateway)
    await until(lambda: any(bot.of("status") for bot in gateway.bots))
    assert carrier.code is None


async def test_a_stream_that_our_own_answer_asked_for_waits_for_a_registry_that_is_away(gateway):
    carrier = await gateway.open(await gateway.stream_path())
    gateway.memory.down = True
    carrier.send(start())
    carrier.send(MEDIA)
    await asyncio.sleep(2 * ASK_AGAIN)
    gateway.memory.down = False
    await gateway.a_bot_hears()
    assert carrier.code is None


async def test_a_stream_is_closed_when_the_registry_stays_away(gateway):
    gateway.node.limits = replace(gateway.node.limits, outage_grace=0.1)
    carrier = await gateway.open(await gateway.stream_path())
    gateway.memory.down = True
    carrier.send(start())
    assert await carrier.until_closed() == 1011


async def test_a_stream_of_a_flow_that_never_asked_us_is_closed_at_once_while_the_registry_is_away(gateway):
    carrier = await gateway.open("/ws/twilio?serviceHost=support.acme")
    gateway.memory.down = True
    carrier.send(start())
    assert await carrier.until_closed() == 1011
