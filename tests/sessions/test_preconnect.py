"""The link is opened at the webhook: the stream finds it open, and no worker is kept for a caller who never comes."""

from __future__ import annotations

import asyncio

from gateway.pool.registry import Leases
from gateway.sessions import preconnect
from gateway.sessions.open_link import open_link
from tests.kit.node import MEDIA, start
from tests.kit.waiting import until


def connections(gateway) -> int:
    return sum(bot.connections for bot in gateway.bots)


async def test_the_webhook_opens_the_link_and_the_stream_uses_it(gateway):
    path = await gateway.stream_path()
    await until(lambda: connections(gateway) == 1)
    assert not any(bot.told for bot in gateway.bots)
    carrier = await gateway.open(path)
    carrier.send(start())
    await gateway.started()
    assert connections(gateway) == 1
    assert not gateway.sessions.preopened


async def test_a_repeated_webhook_opens_no_second_link(gateway):
    await gateway.voice()
    await gateway.voice()
    await until(lambda: not gateway.node.tasks)
    assert connections(gateway) == 1


async def test_a_link_whose_caller_never_comes_is_closed_with_its_claim(gateway):
    gateway.memory.leases = Leases(reserved=0.3)
    await gateway.voice()
    await until(lambda: connections(gateway) == 1)
    await until(lambda: any(bot.closed_with == 1000 for bot in gateway.bots))
    assert not gateway.sessions.preopened


async def test_a_call_that_ends_before_its_stream_gives_the_worker_back(gateway):
    await gateway.voice()
    await until(lambda: connections(gateway) == 1)
    await gateway.http.post(
        "/webhooks/twilio/status", data={"CallSid": "CA1", "AccountSid": "AC1", "CallStatus": "completed"}
    )
    await until(lambda: any(bot.closed_with == 1000 for bot in gateway.bots))
    assert (await gateway.memory.slots("support.acme")).used == 0


async def test_a_link_that_broke_before_its_stream_came_is_opened_again(gateway):
    path = await gateway.stream_path()
    await until(lambda: connections(gateway) == 1)
    next(bot for bot in gateway.bots if bot.socket is not None).socket.abort()
    await until(lambda: any(waiting.link.gone.is_set() for waiting in gateway.sessions.preopened))
    carrier = await gateway.open(path)
    carrier.send(start())
    await gateway.started()
    assert connections(gateway) == 2


async def test_a_worker_that_cannot_be_reached_is_not_offered_to_the_next_call(gateway):
    for bot in gateway.bots:
        bot.refuse = 503
    await gateway.voice("CA1")
    await until(lambda: len(gateway.node.registry.suspected()) == 1)
    await gateway.voice("CA2")
    await until(lambda: len(gateway.node.registry.suspected()) == 2)


async def test_a_link_that_opens_when_its_call_is_over_is_closed(gateway, monkeypatch):
    """The worker was slow to answer; meanwhile the caller hung up."""
    began, gate = asyncio.Event(), asyncio.Event()

    async def slow(*args):
        began.set()
        await gate.wait()
        return await open_link(*args)

    monkeypatch.setattr(preconnect, "open_link", slow)
    await gateway.voice()
    await began.wait()
    ended = {"CallSid": "CA1", "AccountSid": "AC1", "CallStatus": "completed"}
    await gateway.http.post("/webhooks/twilio/status", data=ended)
    gate.set()
    await until(lambda: any(bot.closed_with == 1000 for bot in gateway.bots))
    assert connections(gateway) == 1


async def test_a_stream_that_takes_the_link_the_moment_it_opens_keeps_it(gateway, monkeypatch):
    opened, gate = asyncio.Event(), asyncio.Event()

    async def opening(*args):
        socket = await open_link(*args)
        opened.set()
        await gate.wait()
        return socket

    monkeypatch.setattr(preconnect, "open_link", opening)
    path = await gateway.stream_path()
    await opened.wait()
    carrier = await gateway.open(path)
    carrier.send(start())
    await gateway.started()
    gate.set()
    carrier.send(MEDIA)
    await gateway.a_bot_hears()
    assert connections(gateway) == 1
    assert carrier.code is None


async def test_a_bug_in_one_opening_keeps_no_later_link_from_its_call(gateway, monkeypatch):
    async def broken(*_):
        raise TypeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(preconnect, "open_link", broken)
        await gateway.voice()
        await until(lambda: not gateway.node.tasks)
    assert not gateway.sessions.preopened
    await gateway.voice()
    await until(lambda: connections(gateway) == 1)
