"""What the carrier is told when the stream has ended and the registry is away, or fails to answer once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lxml import etree

from gateway.node.services import Fallback
from tests.kit.lost_answers import LosesAnswers
from tests.kit.node import MEDIA, start
from tests.kit.waiting import until


async def talking(gateway):
    """A call, and the bot that has it."""
    carrier = await gateway.call()
    return carrier, await until(lambda: next((bot for bot in gateway.bots if bot.of("start")), None))


async def told(bot, status: str) -> dict:
    return await until(lambda: next((m for m in bot.of("status") if m["status"] == status), None))


async def test_a_transfer_told_to_no_node_is_refused_and_the_call_goes_on(gateway):
    carrier, bot = await talking(gateway)
    gateway.memory.down = True
    bot.say(type="transfer", to="+15550123")
    refused = await told(bot, "refused")
    assert (refused["what"], refused["reason"]) == ("transfer", "the registry is away")
    gateway.memory.down = False
    carrier.send(MEDIA)
    await until(lambda: bot.audio)
    assert carrier.code is None
    bot.say(type="hangup", reason="done")  # what the carrier is told then is newer than the transfer
    await carrier.until_closed()
    assert [e.tag for e in etree.fromstring((await gateway.resume()).content)] == ["Hangup"]


async def test_keys_told_to_no_node_are_refused_and_the_call_goes_on(gateway):
    carrier, bot = await talking(gateway)
    gateway.memory.down = True
    bot.say(type="dtmf", digits="12#")
    refused = await told(bot, "refused")
    assert (refused["what"], refused["reason"]) == ("dtmf", "the registry is away")
    assert carrier.code is None


async def test_a_call_is_not_given_away_while_no_node_could_be_told_of_it(gateway):
    carrier, bot = await talking(gateway)
    [session] = gateway.sessions
    gateway.memory.down = True
    session.hand_over()
    carrier.send(MEDIA)
    await until(lambda: bot.audio)
    assert carrier.code is None and gateway.sessions
    gateway.memory.down = False
    assert await carrier.until_closed() == 1000
    assert bot.closed_with == 4002


async def test_a_carrier_that_comes_back_in_an_outage_gets_what_is_set_for_that(gateway):
    """Not the Hangup of a call that nobody knows: what is known of it is not known now."""
    services = gateway.node.services
    forward = replace(services.get("support.acme"), when_down=Fallback("forward", "+15550123"))
    services._by_host["support.acme"] = services._default = services._by_number["+15550100000"] = forward
    await talking(gateway)
    gateway.node.limits = replace(gateway.node.limits, outage_grace=0.0)
    gateway.memory.down = True
    answer = await gateway.resume(query="?gw_attempt=2")
    assert etree.fromstring(answer.content).xpath("//Dial//text()") == ["+15550123"]


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("method", ["find", "set_if_absent", "merge", "claim"])
async def test_a_question_that_is_not_answered_costs_no_caller_their_call(gateway, method, done):
    carrier, _ = await talking(gateway)
    carrier.socket.abort()
    [session] = gateway.sessions
    await until(lambda: session.stream is None)
    gateway.node.registry.registry = loses = LosesAnswers(gateway.memory, method, done=done)
    answer = await gateway.resume()
    gateway.node.registry.registry = loses.registry
    assert loses.lost == 1
    again = await gateway.open(gateway.path_in(answer))
    again.send(start())
    await until(lambda: session.stream is not None)
    assert len(gateway.starts()) == 1 and gateway.bots[0].closed_with is gateway.bots[1].closed_with is None


async def test_the_caller_of_a_static_stream_is_waited_for_too(gateway):
    """Its session has another id: a question more, after the first that found nothing."""
    carrier = await gateway.open("/ws/twilio")
    carrier.send(start())
    await gateway.started()
    carrier.socket.abort()
    gateway.node.registry.registry = loses = LosesAnswers(gateway.memory, "find", after=2)
    answer = await gateway.resume()
    gateway.node.registry.registry = loses.registry
    assert loses.lost == 1 and gateway.path_in(answer)


async def test_a_memory_that_does_not_answer_makes_no_known_call_unknown(gateway):
    gateway.node.limits = replace(gateway.node.limits, outage_grace=0.0)
    carrier, _ = await talking(gateway)
    carrier.socket.abort()
    gateway.node.registry.registry = loses = LosesAnswers(gateway.memory, "set_if_absent")
    answer = await gateway.resume()
    gateway.node.registry.registry = loses.registry
    assert loses.lost == 1 and gateway.path_in(answer)
