"""What the carrier knows of the caller reaches the bot, on all carriers and whichever node is told."""

from __future__ import annotations

import pytest

from gateway.pool.facts import call_alias
from tests.kit.node import Bot
from tests.kit.two_nodes import second_node
from tests.kit.waiting import until
from tests.webhooks.wires import UUID, WIRES, join, ring


@pytest.fixture(params=WIRES)
def carrier(request) -> str:
    return request.param


async def say_who_answered(gateway, carrier: str) -> None:
    wire = WIRES[carrier]
    answer = await gateway.http.post(f"/webhooks/{carrier}/status", data={**wire.status, **wire.who})
    assert answer.status_code == 200


def statuses(bot: Bot) -> list[str]:
    return [told["status"] for told in bot.of("status")]


async def test_what_the_carrier_knows_of_the_caller_is_in_the_call_data(gateway, carrier):
    bot, _ = await join(gateway, carrier, await ring(gateway, carrier, **WIRES[carrier].known))
    call = bot.of("start")[0]["call"]
    assert (call["caller_name"], call["forwarded_from"]) == ("ACME INC", "+15550100009")
    if carrier != "exotel":  # it is not known to say more
        assert call["stir"] == "A"
        assert "spring" in call["sip_headers"].values()


async def test_who_answered_is_a_status(gateway, carrier):
    bot, _ = await join(gateway, carrier, await ring(gateway, carrier))
    await say_who_answered(gateway, carrier)
    await until(lambda: statuses(bot) == ["machine"])


async def test_who_answered_before_the_stream_began_is_a_status(gateway, carrier):
    path = await ring(gateway, carrier)
    await say_who_answered(gateway, carrier)
    bot, _ = await join(gateway, carrier, path)
    await until(lambda: statuses(bot) == ["machine"])


async def test_who_answered_is_a_status_when_voice_says_it(gateway, carrier):
    """Synchronous detection delays the call's instructions until there is a verdict."""
    bot, _ = await join(gateway, carrier, await ring(gateway, carrier, **WIRES[carrier].who))
    await until(lambda: statuses(bot) == ["machine"])


async def test_who_answered_is_a_status_when_another_node_is_told(gateway, carrier):
    async with second_node(gateway) as second:
        bot, stream = await join(gateway, carrier, await ring(gateway, carrier))
        session = await until(lambda: next(iter(gateway.sessions), None))
        await until(lambda: session.facts.node)
        await say_who_answered(second, carrier)
        await until(lambda: statuses(bot) == ["machine"])
        assert stream.code is None


async def test_who_answered_is_said_to_the_next_bot_too(gateway):
    bot, _ = await join(gateway, "twilio", await ring(gateway, "twilio"))
    await say_who_answered(gateway, "twilio")
    await until(lambda: statuses(bot) == ["machine"])
    bot.socket.close(1011)
    await gateway.started(2)
    await until(lambda: [who for bot in gateway.bots for who in statuses(bot)] == ["machine", "machine"])


async def test_a_name_that_plivo_tells_while_it_rings_is_in_the_call_data(gateway):
    """CallerName comes with the ring callback alone, before or after the answer URL is asked."""
    path = await ring(gateway, "plivo", STIRAttestation="A")
    ring_callback = {"CallUUID": UUID, "Event": "Ring", "CallStatus": "ringing", "CallerName": "ACME INC"}
    await gateway.http.post("/webhooks/plivo/status", data=ring_callback)
    bot, _ = await join(gateway, "plivo", path)
    call = bot.of("start")[0]["call"]
    assert (call["caller_name"], call["stir"]) == ("ACME INC", "A")


async def test_a_call_that_ended_is_ended_where_its_stream_runs(gateway):
    """The carrier's own `stop` may be lost with its connection."""
    async with second_node(gateway) as second:
        bot, _ = await join(gateway, "twilio", await ring(gateway, "twilio"))
        session = await until(lambda: next(iter(gateway.sessions), None))
        await until(lambda: session.facts.node)
        over = {"CallSid": "CA1", "AccountSid": "AC1", "CallStatus": "completed"}
        await second.http.post("/webhooks/twilio/status", data=over)
        assert (await bot.until("stop"))["reason"] == "caller_hangup"
        facts = await gateway.node.registry.find(call_alias("twilio", "", "CA1"))
        assert facts.status == "ended"
