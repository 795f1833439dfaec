"""Streams that start: to a session that ends meanwhile, two at once, for somebody on hold, on a node that is late."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.node.services import Fallback, Services
from gateway.pool.facts import FactEvent, hung_up
from gateway.pool.registry import Leases
from gateway.protocol.workers import Worker
from gateway.sessions.lease_renewal import renew_claims
from gateway.sessions.worker_search import ASK_AGAIN
from tests.kit.lost_answers import LosesAnswers
from tests.kit.node import MEDIA, start
from tests.kit.waiting import until


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


class DiesBeforeConfirm:
    """A registry in which the claimed worker dies before each of the first `deaths` confirmations."""

    def __init__(self, registry, urls, deaths: int) -> None:
        self.registry = registry
        self.workers = [Worker(f"dies{n}", urls[n % 2], "ready") for n in range(deaths + 1)]
        self.deaths = deaths

    def __getattr__(self, name):
        return getattr(self.registry, name)

    async def claim(self, service, session, **how):
        await self.registry.beat("h", 1, self.workers[:1])
        return await self.registry.claim(service, session, **how)

    async def confirm(self, session, attempt):
        if len(self.workers) > 1:
            del self.workers[0]
            await self.registry.beat("h", 1, self.workers[:1])
        return await self.registry.confirm(session, attempt)


async def bots_heard(gateway, n: int) -> None:
    await until(lambda: sum(len(bot.of("start")) for bot in gateway.bots) >= n)


async def comes_back(gateway, call_id: str = "CA1"):
    carrier = await gateway.open(gateway.path_in(await gateway.resume(call_id, "?gw_attempt=1")))
    carrier.send(start(call_id, "MZ2"))
    return carrier


async def test_a_stream_whose_session_ends_while_it_is_confirmed_is_still_served(gateway):
    broken = await gateway.call()
    await bots_heard(gateway, 1)
    [session] = gateway.sessions
    gateway.limit(reattach_timeout=0.1)
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


@pytest.mark.parametrize(("deaths", "served"), [(2, 1), (9, 0)], ids=["served", "closed, and no slot kept"])
async def test_workers_that_die_between_claim_and_confirm_are_passed_over(gateway, deaths, served):
    [service] = gateway.node.services
    gateway.node.services = Services([replace(service, when_full=Fallback("busy"))])  # else held, and served later
    gateway.node.registry.registry = DiesBeforeConfirm(gateway.memory, gateway.worker_urls, deaths)
    carrier = await gateway.call()
    if served:
        await bots_heard(gateway, 1)
        assert carrier.code is None
    else:
        assert await carrier.until_closed() == 1000
    assert (await gateway.node.registry.slots("support.acme")).used == served


async def test_of_two_static_streams_of_a_call_one_is_served_and_keeps_its_claim(gateway):
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


async def test_an_overloaded_node_takes_no_static_stream_and_keeps_those_it_has(gateway):
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


async def test_a_stream_that_our_own_answer_asked_for_waits_out_an_outage(gateway):
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


async def test_a_stream_that_no_webhook_announced_is_closed_at_once_in_an_outage(gateway):
    carrier = await gateway.open("/ws/twilio?serviceHost=support.acme")
    gateway.memory.down = True
    carrier.send(start())
    assert await carrier.until_closed() == 1011


async def test_a_stream_whose_confirmation_was_not_answered_is_served(gateway):
    carrier = await gateway.open(await gateway.stream_path())
    gateway.node.registry.registry = lossy = LosesAnswers(gateway.memory, "confirm")
    carrier.send(start())
    await bots_heard(gateway, 1)
    assert (lossy.lost, carrier.code) == (1, None)


async def test_a_held_stream_whose_mark_was_not_answered_is_served(gateway):
    for n in range(2):
        await gateway.call(f"CA-{n}")
    await bots_heard(gateway, 2)
    held = await gateway.open(await gateway.stream_path("CA1"))
    gateway.node.registry.registry = lossy = LosesAnswers(gateway.memory, "set_if_absent")
    held.send(start("CA1"))
    await until(lambda: lossy.lost == 1)
    await until(lambda: len(gateway.sessions) == 3 or held.code is not None)
    assert held.code is None


async def test_a_token_is_spent_for_a_second_stream_though_its_answer_was_lost(gateway):
    """Another node has confirmed the attempt and serves its stream: the facts say so."""
    second = await gateway.open(await gateway.stream_path())
    memory = gateway.memory
    facts = await memory.find("twilio::CA1")
    claim = await memory.claim("support.acme", facts.session)
    await memory.confirm(facts.session, claim.attempt)
    await memory.merge(facts.session, FactEvent(attempt=claim.attempt, streams=1, node="another"))
    gateway.node.registry.registry = lossy = LosesAnswers(memory, "confirm")
    second.send(start())
    assert await second.until_closed() == 1008
    assert lossy.lost == 1


async def test_a_static_stream_that_is_denied_in_an_outage_holds_no_slot(gateway):
    """Its claim would run out unreleased, and a static worker be taken for one that still talks, for hours."""
    gateway.node.registry.registry = lossy = LosesAnswers(gateway.memory, "merge")
    carrier = await gateway.open("/ws/twilio?serviceHost=support.acme")
    carrier.send(start("CA1"))
    assert await carrier.until_closed() == 1011
    assert lossy.lost == 1
    assert (await gateway.memory.slots("support.acme")).used == 0


async def test_a_call_that_ends_unheard_in_an_outage_holds_no_slot(gateway):
    message = start()
    message["start"]["mediaFormat"]["encoding"] = "audio/opus"
    carrier = await gateway.open(await gateway.stream_path())
    gateway.node.registry.registry = lossy = LosesAnswers(gateway.memory, "merge")
    carrier.send(message)
    assert await carrier.until_closed() == 1003
    assert lossy.lost == 1
    assert (await gateway.memory.slots("support.acme")).used == 0


async def hang_up_unheard(gateway, reason: str = "api_hangup") -> None:
    """What is written of a call that was hung up without a stream."""
    facts = await gateway.memory.find("twilio::CA1")
    await gateway.memory.merge(facts.session, hung_up(facts, reason, 1.0))


async def test_a_stream_that_brings_the_worker_its_session_lacked_is_served(gateway):
    carrier = await gateway.open(await gateway.stream_path())
    await hang_up_unheard(gateway, "no_worker")
    carrier.send(start())
    await gateway.started()


async def test_a_stream_of_a_call_that_was_hung_up_gets_no_bot(gateway):
    carrier = await gateway.open(await gateway.stream_path())
    await hang_up_unheard(gateway)
    carrier.send(start())
    assert await carrier.until_closed() == 1008
    assert not gateway.starts() and not gateway.sessions


async def test_a_call_that_is_hung_up_while_its_stream_is_let_in_ends(gateway):
    carrier = await gateway.open(await gateway.stream_path())
    gateway.node.registry.registry = slow = Slow(gateway.memory)
    gateway.node.registry.timeout = 5.0
    carrier.send(start())
    await until(lambda: slow.asked == 1)
    await hang_up_unheard(gateway)
    slow.gate.set()
    assert await carrier.until_closed() == 1000
    await until(lambda: not gateway.sessions)
    assert (await gateway.memory.find("twilio::CA1")).end_reason == "api_hangup"
