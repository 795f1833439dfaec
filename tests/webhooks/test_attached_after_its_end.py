"""A session ended, and a stream gave the call a bot again: it is a running call, to /resume and to every node."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.node.services import Services
from gateway.protocol.codes import EndReason
from gateway.sessions import control
from gateway.sessions.control import Done
from tests.kit.two_nodes import second_node
from tests.kit.waiting import until
from tests.webhooks.wires import WIRES, join, path_in, ring


async def resume(gateway, carrier: str) -> str:
    form = {**WIRES[carrier].voice, "CallStatus": "in-progress"}
    return (await gateway.http.post(f"/webhooks/{carrier}/resume?gw_attempt=1", data=form)).text


async def goes_on(gateway, carrier: str, path: str):
    """The call's second stream is served. Returns its session and the stream."""
    stream = await gateway.open(path)
    stream.send(dict(WIRES[carrier].start))
    await gateway.started(2)
    [session] = gateway.sessions
    await until(lambda: session.facts.streams == 2)
    return session, stream


async def comes_late(gateway, carrier: str):
    """A session ends as its stream is lost, and only then the stream comes that the carrier was told to open."""
    gateway.limit(reattach_timeout=0.05)
    _, stream = await join(gateway, carrier, await ring(gateway, carrier))
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    stream.socket.abort()
    path = path_in(await resume(gateway, carrier))
    await until(lambda: not gateway.sessions)
    assert session.ended == EndReason.STREAM_LOST
    return await goes_on(gateway, carrier, path)


async def comes_back(gateway, carrier: str):
    """A call is parked by its bot, and led to /voice again."""
    node = gateway.node
    node.services = Services([replace(service, after_bot="park") for service in node.services])
    bot, stream = await join(gateway, carrier, await ring(gateway, carrier))
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    bot.socket.close()
    await stream.until_closed()
    assert not path_in(await resume(gateway, carrier)), "it is parked"
    await until(lambda: not gateway.sessions)
    return await goes_on(gateway, carrier, await ring(gateway, carrier, CallStatus="in-progress"))


@pytest.fixture(params=[comes_late, comes_back])
def running(request):
    return request.param


# Exotel's flow asks for its stream at /voice, and knows of no parking.
CARRIERS = pytest.mark.parametrize("carrier", sorted(set(WIRES) - {"exotel"}))


@CARRIERS
async def test_a_node_that_takes_it_over_keeps_the_time_used(gateway, carrier, running):
    """Drained again and again, it would never have its longest time."""
    session, _ = await running(gateway, carrier)
    now = gateway.node.unix_time()
    facts = replace(await gateway.memory.find(session.id), began=now - 500.0)
    service = replace(session.service, max_call=600.0)
    left = gateway.sessions.make(service, None, facts)._limit.ends_at - asyncio.get_running_loop().time()
    assert abs(left - 100.0) < 20.0


@CARRIERS
async def test_a_stream_of_it_that_breaks_is_attached_again(gateway, carrier, running):
    session, stream = await running(gateway, carrier)
    gateway.limit(reattach_timeout=60.0)
    stream.socket.abort()
    await until(lambda: session.stream is None)
    assert path_in(await resume(gateway, carrier))


async def test_its_facts_are_kept_as_a_running_calls(gateway, running):
    session, _ = await running(gateway, "twilio")
    facts = await gateway.memory.find(session.id)
    assert (facts.over, facts.wraps_up, facts.may_expire_early) == (False, False, False)


async def test_another_node_hangs_it_up(gateway, running):
    async with second_node(gateway) as second:
        session, stream = await running(gateway, "twilio")
        assert await control.hang_up(second.sessions, session.id, at_once=True) == Done()
        await stream.until_closed()
        assert session.ended == EndReason.API_HANGUP


async def test_another_node_transfers_it(gateway, running):
    async with second_node(gateway) as second:
        session, stream = await running(gateway, "twilio")
        assert await control.transfer(second.sessions, session.id, "+15550123") == Done()
        await stream.until_closed()
        assert session.ended == EndReason.TRANSFERRED
