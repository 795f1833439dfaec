"""A call in relay mode: the worker's contract is Pipecat Cloud's, and every close of its socket is a normal end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.protocol.codes import EndReason
from tests.kit.node import start
from tests.waiting import until

CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}


@pytest.fixture
def service(service):
    return replace(service, protocol="relay")


async def relayed(gateway):
    carrier = await gateway.open(await gateway.stream_path())
    carrier.send(CONNECTED)
    carrier.send(start())
    return carrier, await until(lambda: next((bot for bot in gateway.bots if bot.connections), None))


@pytest.fixture(autouse=True)
def carriers_words(monkeypatch):
    """The bot speaks the carrier's wire, which has `event` where ours has `type`."""
    from tests.kit import node as conftest

    original = conftest._BotEar.received

    def received(self, data, text):
        if text:
            self.bot.audio += data + b"\n"
        else:
            original(self, data, text)

    monkeypatch.setattr(conftest._BotEar, "received", received)


async def test_the_worker_gets_connected_and_start_as_the_carrier_sent_them(gateway):
    _, bot = await relayed(gateway)
    await until(lambda: bot.audio.count(b"\n") >= 2)
    first, second, *_ = bytes(bot.audio).split(b"\n")
    assert b'"connected"' in first
    assert b'"start"' in second
    assert bot.headers[0]["x-daily-session-id"] in gateway.sessions
    assert "sec-websocket-protocol" not in bot.headers[0]


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_every_end_of_a_worker_that_spoke_is_the_end_of_the_call(gateway, how):
    carrier, bot = await relayed(gateway)
    bot.say(event="clear", streamSid="MZ1")
    await carrier.until("clear")
    getattr(bot.socket, how)()
    assert await carrier.until_closed() == 1000
    assert b"Hangup" in (await gateway.resume()).content
    assert sum(bot.connections for bot in gateway.bots) == 1


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_worker_that_ends_without_a_word_is_lost_and_another_takes_the_call(gateway, how):
    """A bot that crashed, or lacks the credentials that it needs: its image closes as at any other end."""
    carrier, bot = await relayed(gateway)
    await until(lambda: b'"start"' in bot.audio)
    [other] = [each for each in gateway.bots if each is not bot]
    bot.refuse = 503
    getattr(bot.socket, how)()
    await until(lambda: b'"start"' in other.audio)
    assert carrier.code is None


async def test_workers_that_all_end_without_a_word_are_the_end_of_the_call(gateway):
    carrier, _ = await relayed(gateway)
    closed = set()
    while carrier.code is None:
        for bot in gateway.bots:
            if bot.socket is not None and bot.socket not in closed:
                closed.add(bot.socket)
                bot.socket.close()
        await asyncio.sleep(0.01)
    name = gateway.node.signer.session_id("twilio", "", "CA1")
    await until(lambda: name not in gateway.sessions)
    assert (await gateway.memory.find(name)).end_reason in (EndReason.WORKER_LOST, EndReason.NO_WORKER)


async def test_a_lost_stream_ends_the_session_and_resume_brings_another_bot(gateway):
    carrier, bot = await relayed(gateway)
    carrier.socket.abort()
    await until(lambda: bot.closed_with is not None)


async def test_a_worker_that_does_not_answer_is_let_go_and_ends_the_call(gateway):
    carrier, bot = await relayed(gateway)
    [session] = await until(lambda: list(gateway.sessions))
    await until(lambda: session.worker.link)
    session.link_dead()  # as the bridge says after its pings
    assert await carrier.until_closed() == 1000
    await until(lambda: bot.closed_with == 1006)
    assert (await gateway.memory.find(session.id)).end_reason == EndReason.WORKER_LOST
