"""A registry that has forgotten everything, under calls that run."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import Continuation, FactEvent, Facts, merge
from gateway.pool.memory.registry import MemoryRegistry
from gateway.protocol.codes import EndReason
from gateway.sessions.facts_sync import as_event
from gateway.sessions.lease_renewal import resend_after_registry_loss
from tests.kit.lost_answers import LosesAnswers
from tests.kit.waiting import until
from tests.sessions.test_session import ended, serving, session_id, state_known


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


async def test_a_registry_that_goes_away_while_it_is_told_is_told_again(gateway):
    await gateway.call()
    await serving(gateway)
    name = await session_id(gateway)
    gateway.node.leases = replace(gateway.node.leases, beat=0.05)
    forget(gateway)
    fails_once(gateway.memory, "merge")
    async with telling(gateway):
        assert (await known(gateway, name)).call_id == "CA1"


async def test_a_mark_whose_answer_was_lost_hides_no_empty_registry(gateway):
    await gateway.call()
    await serving(gateway)
    name = await session_id(gateway)
    gateway.node.leases = replace(gateway.node.leases, beat=0.05)
    forget(gateway)
    gateway.node.registry.registry = lossy = LosesAnswers(gateway.memory, "set_if_absent")
    async with telling(gateway):
        assert (await known(gateway, name)).call_id == "CA1"
    assert lossy.lost == 1


async def test_what_a_bot_leaves_in_an_outage_is_known_after_it(gateway):
    await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    [session] = gateway.sessions
    async with telling(gateway):
        gateway.memory.down = True
        bot.say(type="state", state="c3RhdGU=")
        await until(lambda: session.unsaved)
        gateway.memory.down = False
        assert (await state_known(gateway, name)).state == b"state"
        await until(lambda: not session.unsaved)


async def test_the_next_write_repeats_those_that_were_not_answered(gateway):
    await gateway.call()
    await serving(gateway)
    name = await session_id(gateway)
    [session] = gateway.sessions
    gateway.memory.down = True
    assert not await session.remember(FactEvent(starts=7))
    gateway.memory.down = False
    assert await session.remember(FactEvent(answered_by="human"))
    facts = await gateway.memory.find(name)
    assert (facts.starts, facts.answered_by, session.unsaved) == (7, "human", False)


async def test_a_transfer_that_was_refused_in_an_outage_is_not_dialled_later(gateway):
    """The registry had written it, and its answer was lost: the bot has been told that the caller stays."""
    await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    await until(lambda: _starts_known(gateway, name))
    gateway.node.registry.registry = lossy = LosesAnswers(gateway.memory, "merge")
    bot.say(type="transfer", to="+15550100009")
    assert (await bot.until("status"))["status"] == "refused"
    assert lossy.lost == 1
    assert (await gateway.memory.find(name)).continuation.kind == "dial"
    async with telling(gateway):
        await until(lambda: _continuation_is(gateway, name, ""))


async def test_a_hangup_whose_answer_was_lost_is_not_taken_back(gateway):
    await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    await until(lambda: _starts_known(gateway, name))
    gateway.node.registry.registry = LosesAnswers(gateway.memory, "merge")
    bot.say(type="hangup", reason="done")
    assert await ended(gateway, name) == EndReason.BOT_HANGUP
    assert (await gateway.memory.find(name)).continuation.kind == "hangup"


async def _starts_known(gateway, name: str) -> bool:
    """The facts of the stream and of the bot's start are written."""
    facts = await gateway.memory.find(name)
    return facts.streams > 0 and facts.starts > 0


async def _continuation_is(gateway, name: str, kind: str) -> bool:
    return (await gateway.memory.find(name)).continuation.kind == kind


def test_facts_as_an_event_are_those_facts():
    facts = Facts(
        session="s", carrier="twilio", account="AC1", call_id="CA1", body={"a": 1}, status="streaming", attempt=2,
        starts=1, state=b"x", state_seq=3, continuation=Continuation("attach", seq=1), created=1.0, answered=2.0,
    )  # fmt: skip
    assert merge(Facts(session="s"), as_event(facts)) == facts
    assert merge(facts, as_event(replace(facts, state=b"w", state_seq=2))) == facts
    assert as_event(Facts(session="s")).aliases == ()


@asynccontextmanager
async def telling(gateway):
    """The node's own task runs."""
    task = asyncio.create_task(resend_after_registry_loss(gateway.sessions))
    yield
    task.cancel()


def fails_once(registry, name: str) -> None:
    """This method does nothing the first time: the registry is away."""
    method = getattr(registry, name)

    async def failing(*_args, **_options):
        setattr(registry, name, method)
        raise RegistryUnavailable("away for a moment")

    setattr(registry, name, failing)


def forget(gateway) -> None:
    """The registry restarts, and is empty."""
    gateway.node.registry.registry = MemoryRegistry(gateway.node.leases)


async def known(gateway, name: str) -> Facts:
    return await until(lambda: gateway.memory.find(name))
