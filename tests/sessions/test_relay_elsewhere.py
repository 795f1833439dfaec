"""A relayed call whose gateway dies, or gives it away: its bot is parked as ours are, if its worker can do that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.protocol.codes import EndReason
from tests.kit.node import TIME
from tests.kit.two_nodes import second_node
from tests.kit.waiting import until
from tests.sessions.relay_wires import TWILIO

SPEECH = '{"event":"media","streamSid":"MZ1","media":{"payload":"AAAA"}}'


@pytest.fixture
def service(service):
    return replace(service, protocol="relay", max_hold=30.0 * TIME, rest=0.0)


@pytest.fixture
def static_workers(request) -> bool:
    return getattr(request, "param", False)


static = pytest.mark.parametrize("static_workers", [True], indirect=True, ids=["static"])


async def relayed(gateway):
    """A call whose bot has had its `start`, of which the registry knows."""
    carrier = await gateway.open(await gateway.stream_path())
    for message in TWILIO.messages("MZ1"):
        carrier.send(message)
    bot = await until(lambda: next((bot for bot in gateway.bots if bot.of_wire("start")), None))
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    return carrier, bot, session


async def die(session, carrier) -> None:
    """As where the node's process is killed: nothing is said, and all connections break."""
    session.worker.stop()
    session.worker.link.socket.abort()
    carrier.socket.abort()
    session.superseded()
    await until(lambda: session.stream is None)


async def resumed(node):
    again = await node.open(node.path_in(await node.resume("CA1", "?gw_attempt=1")))
    for message in TWILIO.messages("MZ2"):
        again.send(message)
    return again


async def test_the_bot_of_a_hosts_worker_goes_on_with_another_gateway(gateway):
    carrier, bot, session = await relayed(gateway)
    await until(lambda: session.facts.told_stream.worker, complain="it is kept which stream the bot knows")
    async with second_node(gateway, first_answers=False) as second:
        await die(session, carrier)
        again = await resumed(second)
        await until(lambda: bot.connections == 2, complain="the second gateway has opened a link to the same bot")
        again.send(TWILIO.of("media", "MZ2"))
        assert (await bot.until_wire("media"))["streamSid"] == "MZ1"
        bot.socket.send(SPEECH)
        assert (await again.until("media"))["streamSid"] == "MZ2"
        assert len(bot.of_wire("start")) == 1
        assert (await gateway.memory.find(session.id)).starts == 1


@static
async def test_a_static_worker_whose_gateway_is_killed_begins_anew(gateway):
    """Its bot has ended with the link."""
    carrier, _, session = await relayed(gateway)
    async with second_node(gateway, first_answers=False) as second:
        await die(session, carrier)
        again = await resumed(second)
        await until(lambda: sum(len(bot.of_wire("start")) for bot in gateway.bots) == 2)
        told = next(bot for bot in gateway.bots if bot.of_wire("start")[-1]["streamSid"] == "MZ2")
        told.socket.send(SPEECH.replace("MZ1", "MZ2"))
        assert (await again.until("media"))["streamSid"] == "MZ2"


async def test_a_drain_gives_the_call_of_a_hosts_worker_away(gateway):
    carrier, bot, session = await relayed(gateway)
    session.hand_over()
    assert await carrier.until_closed() == 1000
    await until(lambda: bot.closed_with == 4002)
    again = await resumed(gateway)
    await until(lambda: bot.connections == 2)
    bot.socket.send(SPEECH)
    assert (await again.until("media"))["streamSid"] == "MZ2"
    assert len(bot.of_wire("start")) == 1


@static
async def test_a_drain_ends_the_call_of_a_static_worker(gateway):
    carrier, bot, session = await relayed(gateway)
    session.hand_over()
    assert await carrier.until_closed() == 1000
    await until(lambda: session.id not in gateway.sessions)
    assert (await gateway.memory.find(session.id)).end_reason == EndReason.DRAINED
    assert bot.closed_with == 1000
