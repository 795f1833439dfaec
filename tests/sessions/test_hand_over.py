"""A node that drains gives its calls away: the carrier is led to /resume, the bot waits for whoever comes."""

from __future__ import annotations

from dataclasses import replace

from lxml import etree

from gateway.protocol.codes import EndReason
from tests.kit.node import start
from tests.kit.slow_facts import SlowFacts
from tests.kit.waiting import until
from tests.sessions.test_session import serving, session_id


async def test_the_stream_is_closed_the_bot_waits_and_resume_attaches_it_again(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    gateway.sessions.get(name).hand_over()
    assert await carrier.until_closed() == 1000
    await until(lambda: name not in gateway.sessions)
    assert not bot.of("stop")
    assert (await gateway.memory.slots("support.acme")).used == 1, "its slot is kept for it"
    answer = etree.fromstring((await gateway.resume()).content)
    again = await gateway.open("/ws/" + answer.xpath("//Stream/@url")[0].split("/ws/")[1])
    again.send(start("CA1", "MZ2"))
    await bot.until("start", 2)
    assert bot.closed_with == 4002
    assert len({message["session_id"] for message in bot.of("start")}) == 1


async def test_it_waits_for_a_pause_of_the_bots(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    bot.socket.send(bytes(16000))  # half a second of 16 kHz
    await carrier.until("media", 5)
    gateway.sessions.get(name).hand_over()
    await carrier.until_closed()
    assert len([m for m in carrier.heard if m["event"] == "media"]) == 25


async def test_a_bot_that_never_pauses_is_cut_off_in_the_end(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    gateway.node.limits = replace(gateway.node.limits, hand_over=0.3)
    bot.socket.send(bytes(32000 * 10))
    await carrier.until("media")
    gateway.sessions.get(name).hand_over()
    assert await carrier.until_closed() == 1000


async def test_a_static_stream_leads_nowhere_and_is_ended(gateway):
    carrier = await gateway.open("/ws/twilio/s/support.acme/any-key")
    carrier.send(start())
    bot, _ = await serving(gateway)
    gateway.sessions.get(await session_id(gateway)).hand_over()
    assert (await bot.until("stop"))["reason"] == "drained"


async def test_a_caller_who_hangs_up_in_the_last_pause_has_hung_up(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    bot.socket.send(bytes(16000))
    await carrier.until("media")
    gateway.sessions.get(name).hand_over()
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    assert (await bot.until("stop"))["reason"] == "caller_hangup"
    await until(lambda: name not in gateway.sessions)
    assert (await gateway.memory.slots("support.acme")).used == 0


async def test_a_caller_who_hangs_up_while_the_hand_over_is_written_has_hung_up(gateway):
    """Nothing would tell the other node: it would wait for a stream, and the slot would stay taken."""
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    session = gateway.sessions.get(name)
    await until(lambda: session.facts.streams)
    slow = SlowFacts(gateway, lambda event: event.continuation.kind == "attach")
    session.hand_over()
    await until(lambda: slow.asked)
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: session._events.qsize(), complain="the stop has come")
    slow.gate.set()
    assert (await bot.until("stop"))["reason"] == "caller_hangup"
    await until(lambda: name not in gateway.sessions)
    facts = await gateway.memory.find(name)
    assert (facts.end_reason, facts.continuation.kind) == ("caller_hangup", "")
    assert (await gateway.memory.slots("support.acme")).used == 0


async def test_an_operators_hang_up_that_comes_meanwhile_is_not_lost(gateway):
    await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    session = gateway.sessions.get(name)
    slow = SlowFacts(gateway, lambda event: event.continuation.kind == "attach")
    session.hand_over()
    await until(lambda: slow.asked)
    session.end(EndReason.API_HANGUP)
    slow.gate.set()
    assert (await bot.until("stop"))["reason"] == "api_hangup"
    await until(lambda: name not in gateway.sessions)
    assert (await gateway.memory.find(name)).continuation.kind == "hangup"
