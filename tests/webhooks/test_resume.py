"""What the carrier is told when the stream has ended and the registry is away."""

from __future__ import annotations

from dataclasses import replace

from lxml import etree

from gateway.node.services import Fallback
from tests.kit.node import MEDIA
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
    gateway.memory.down = True
    answer = await gateway.resume(query="?gw_attempt=2")
    assert etree.fromstring(answer.content).xpath("//Dial//text()") == ["+15550123"]
