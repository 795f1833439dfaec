"""Calls of which no more news will come are closed, and no others."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.pool.facts import Continuation, FactEvent
from gateway.records.row import row_of
from tests.kit.waiting import until
from tests.records.calls import COMPLETED, HANGUP, INBOUND, STREAM, facts_of
from tests.records.upkept import BEATS, LIMITS, Node, Registry


async def test_what_a_killed_gateway_left_behind_is_closed(engine):
    killed = Node(engine, "n1", now=101.0)
    killed.live.add("s1")
    await killed.write(INBOUND, STREAM)
    await killed.round(120.0)
    started = Node(engine, "n2")
    await started.rounds(121.0, 125.0)
    assert (await started.end())[0] == "answered"  # its node may still live
    await started.rounds(126.5, 126.5)
    assert await started.end() == ("ended", "unknown_end", 120.0)


async def test_a_call_on_a_node_that_lives_is_left_alone(engine):
    one, other = Node(engine, "n1", now=101.0), Node(engine, "n2")
    one.live.add("s1")
    await one.write(INBOUND, STREAM)
    for now in range(102, 200, 4):
        await one.round(now)
        await other.round(now + 0.5)
    assert (await other.end())[0] == "answered"


async def test_no_node_is_dead_while_none_could_beat(engine):
    """The database was away for both: the other one is heard again as late as this one can beat."""
    one, other = Node(engine, "n1", now=101.0), Node(engine, "n2")
    await one.write(INBOUND, STREAM)
    await one.round(102.0)
    await other.round(102.0)
    other.upkeep.beats.note_away()
    await other.rounds(150.0, 154.0)
    assert (await other.end())[0] == "answered"
    await other.rounds(156.0, 156.0)
    assert (await other.end())[0] == "ended"


async def test_what_the_registry_knows_comes_first(engine):
    killed = Node(engine, "n1", now=101.0)
    await killed.write(INBOUND, STREAM)
    started = Node(engine, "n2")
    started.known["s1"] = facts_of(INBOUND, STREAM, HANGUP, COMPLETED)
    await started.rounds(120.0, 131.0)
    assert await started.end() == ("ended", "caller_hangup", 112.0)


async def test_nothing_is_closed_that_the_registry_cannot_be_asked_of(engine):
    killed = Node(engine, "n1", now=101.0)
    await killed.write(INBOUND, STREAM)
    started = Node(engine, "n2")
    started.registry.away = True
    await started.rounds(120.0, 130.0)
    assert (await started.end())[0] == "answered"


async def test_a_call_that_another_node_took_over_goes_on(engine):
    killed, other = Node(engine, "n1", now=101.0), Node(engine, "n2")
    await killed.write(INBOUND, STREAM)
    other.known["s1"] = facts_of(INBOUND, STREAM, FactEvent(streams=2, node="n2"))
    other.live.add("s1")
    await other.rounds(104.0, 160.0)
    assert (await other.end())[0] == "answered"


async def test_an_end_without_the_carriers_word_settles(engine):
    node = Node(engine, "n1", now=112.0)
    await node.write(INBOUND, STREAM, HANGUP)
    await node.round(120.0)
    assert (await node.end())[0] == "ending"
    await node.round(128.0)
    assert await node.end() == ("ended", "caller_hangup", 111.5)


async def test_a_transferred_call_is_not_closed_before_the_longest_call_is_over(engine):
    node = Node(engine, "n1", now=112.0)
    dial = FactEvent(
        status="ended",
        end_reason="transferred",
        ended=110.0,
        ended_streams=1,
        continuation=Continuation("dial", "+1", 1),
    )
    await node.write(INBOUND, STREAM, dial)
    await node.round(4000.0)
    assert (await node.end())[0] == "ending"
    await node.round(100_000.0)
    assert await node.end() == ("ended", "transferred", 110.0)


async def test_a_call_that_never_came_to_a_stream_is_closed_at_last(engine):
    node = Node(engine, "n1", now=100.0)
    await node.write(INBOUND)
    await node.round(300.0)
    assert (await node.end())[0] == "ringing"
    await node.round(401.0)
    assert (await node.end())[:2] == ("ended", "unknown_end")


async def test_a_session_that_is_gone_from_its_own_node_is_closed(engine):
    node = Node(engine, "n1", now=101.0)
    await node.write(INBOUND, STREAM)
    node.live.add("s1")
    await node.round(140.0)
    assert (await node.end())[0] == "answered"
    node.live.clear()
    await node.round(141.0)
    assert (await node.end())[:2] == ("ended", "unknown_end")


async def test_a_node_that_stood_still_finds_its_call_open_again(engine):
    """Its record was closed meanwhile, by a node that could not know better; the next end counts as if it had not."""
    stalled, other = Node(engine, "n1", now=101.0), Node(engine, "n2")
    stalled.live.add("s1")
    await stalled.write(INBOUND, STREAM)
    await stalled.rounds(102.0, 110.0)
    await other.rounds(104.0, 118.0)
    assert await other.end() == ("ended", "unknown_end", 110.0)
    await stalled.round(130.0)
    assert await other.end() == ("answered", "", None)
    await other.rounds(131.0, 135.0)
    assert (await other.end())[0] == "answered"
    await other.rounds(137.0, 141.0)  # now it is dead
    assert await other.end() == ("ended", "unknown_end", 130.0)


async def test_a_call_that_ended_while_it_was_taken_for_dead_stays_ended(engine):
    node, other = Node(engine, "n1", now=101.0), Node(engine, "n2")
    node.live.add("s1")
    await node.write(INBOUND, STREAM)
    await node.rounds(102.0, 110.0)
    await other.rounds(104.0, 118.0)
    await node.write(INBOUND, STREAM, HANGUP)  # and it is wrapping up
    await node.round(130.0)
    assert await node.end() == ("ended", "caller_hangup", 111.5)


@pytest.mark.parametrize("ahead", [-40.0, 40.0])
async def test_a_clock_that_is_off_ends_no_call(engine, ahead):
    """Of the node that has it or of the others."""
    one, other = Node(engine, "n1", now=101.0), Node(engine, "n2")
    one.ahead = ahead
    one.live.add("s1")
    await one.round(102.0 - ahead)
    await one.write(INBOUND, STREAM)
    for now in range(102, 200, 2):
        await one.round(now - ahead)
        await other.round(now)
    assert (await other.end())[0] == "answered"


async def test_a_node_that_the_registry_hears_keeps_its_calls(engine):
    """It has lost its way to the database, and its calls go on."""
    registry = Registry()
    one, other = (Node(engine, name, 101.0, registry) for name in ("n1", "n2"))
    await one.write(INBOUND, STREAM)
    registry.known["s1"] = facts_of(INBOUND, STREAM)
    await one.upkeep.beat()
    for now in range(102, 150, 2):
        registry.now = now
        await one.upkeep.beats.tell_registry()
        await other.round(now)
    assert (await other.end())[0] == "answered"
    await other.rounds(150.0, 176.0)
    assert (await other.end())[0] == "answered"
    await other.rounds(178.0, 180.0)
    assert (await other.end())[:2] == ("ended", "unknown_end")


async def test_a_beat_waits_for_nothing_else(engine):
    """To remove files and to delete old records may take minutes."""
    node, may_end = Node(engine, "n1", now=101.0), asyncio.Event()
    began = []

    async def slow() -> None:
        began.append(True)
        await may_end.wait()

    async def seen() -> bool:
        async with engine.connect() as connection:
            return (await node.upkeep.beats.seen(connection)).get("n1") == node.now

    node.upkeep._limits = replace(LIMITS, beats=replace(BEATS, beat=0.01), look=0.01)
    node.upkeep.close_abandoned_calls = node.upkeep.remove = node.upkeep.purge = slow
    running = asyncio.create_task(node.upkeep.run())
    await until(lambda: len(began) == 3)
    node.now = 102.0
    await until(seen)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_bug_in_one_part_does_not_end_the_others(engine):
    node = Node(engine, "n1", now=101.0)
    node.upkeep._limits = replace(LIMITS, beats=replace(BEATS, beat=0.01), look=0.01)
    looks = []

    async def look() -> None:
        looks.append(True)
        raise ValueError("a bug")

    node.upkeep.close_abandoned_calls = look
    running = asyncio.create_task(node.upkeep.run())
    await until(lambda: len(looks) > 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_all_unfinished_calls_are_looked_at_some_at_a_time(engine):
    """Long calls are the oldest unfinished rows: many of them must not hide the others."""
    killed = Node(engine, "n1", now=101.0)
    for n in range(5):
        await killed.write(INBOUND, STREAM, session=f"dead{n}")
    started = Node(engine, "n2", now=90.0, limits=replace(LIMITS, batch=2))
    for n in range(5):
        started.live.add(f"s{n}")
        await started.write(INBOUND, replace(STREAM, node="n2"), session=f"s{n}")
    await started.rounds(102.0, 120.0)
    assert {(await started.end(f"dead{n}"))[0] for n in range(5)} == {"ended"}
    assert {(await started.end(f"s{n}"))[0] for n in range(5)} == {"answered"}


@pytest.mark.parametrize("events", [(INBOUND,), (INBOUND, STREAM), (INBOUND, STREAM, HANGUP)])
def test_a_call_of_a_moment_ago_may_go_on(events):
    upkeep = Node(None, "n1").upkeep
    row = row_of(facts_of(*events))
    assert upkeep.closing_time(row, {}, row.updated + 1.0) is None
