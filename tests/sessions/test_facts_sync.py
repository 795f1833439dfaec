"""A registry that has forgotten everything, under calls that run."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import Continuation, FactEvent, Facts, merge
from gateway.pool.memory.registry import MemoryRegistry
from gateway.protocol.codes import EndReason
from gateway.sessions.facts_sync import as_event
from gateway.sessions.lease_renewal import resend_after_registry_loss
from tests.sessions.test_session import ended, serving, session_id, state_known
from tests.waiting import until


async def test_a_call_whose_facts_were_forgotten_ends_as_any_other(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    forget(gateway)
    bot.say(type="state", state="c3RhdGU=")  # the first that the new registry hears of it
    await known(gateway, name)
    bot.say(type="hangup", reason="done")
    assert await carrier.until_closed() == 1000
    assert await ended(gateway, name) == EndReason.BOT_HANGUP
    facts = await gateway.memory.find(name)
    assert facts.continuation.kind == "hangup"


async def test_whatever_is_said_of_a_forgotten_session_brings_all_of_it_back(gateway):
    await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    bot.say(type="state", state="c3RhdGU=")
    before = await state_known(gateway, name)
    forget(gateway)
    [session] = gateway.sessions
    await session.remember(FactEvent())
    assert await gateway.memory.find("twilio::CA1") == await known(gateway, name) == before


async def test_a_node_notices_that_the_registry_has_forgotten_and_tells_it_again(gateway):
    await gateway.call()
    await serving(gateway)
    name = await session_id(gateway)
    gateway.node.leases = replace(gateway.node.leases, beat=0.05)
    telling = asyncio.create_task(resend_after_registry_loss(gateway.sessions))
    forget(gateway)
    facts = await known(gateway, name)
    telling.cancel()
    assert (facts.call_id, facts.service, facts.from_number) == ("CA1", "support.acme", "+15550100001")


async def test_a_registry_that_was_away_for_anybody_is_told_before_the_next_beat(gateway):
    await gateway.call()
    await serving(gateway)
    name = await session_id(gateway)
    gateway.node.leases = replace(gateway.node.leases, beat=600.0)
    telling = asyncio.create_task(resend_after_registry_loss(gateway.sessions))
    gateway.memory.down = True
    with pytest.raises(RegistryUnavailable):
        await gateway.node.registry.find(name)
    forget(gateway)
    await known(gateway, name)
    telling.cancel()


def test_facts_as_an_event_are_those_facts():
    facts = Facts(
        session="s", carrier="twilio", account="AC1", call_id="CA1", body={"a": 1}, status="streaming", attempt=2,
        starts=1, state=b"x", state_seq=3, continuation=Continuation("attach", seq=1), created=1.0, answered=2.0,
    )  # fmt: skip
    assert merge(Facts(session="s"), as_event(facts)) == facts
    assert merge(facts, as_event(replace(facts, state=b"w", state_seq=2))) == facts
    assert as_event(Facts(session="s")).aliases == ()


def forget(gateway) -> None:
    """The registry restarts, and is empty."""
    gateway.node.registry.registry = MemoryRegistry(gateway.node.leases)


async def known(gateway, name: str) -> Facts:
    return await until(lambda: gateway.memory.find(name))
