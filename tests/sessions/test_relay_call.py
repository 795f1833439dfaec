"""A call in relay mode: what passes, and what each end of a link means. See `gateway.sessions.bot_end`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.pool.registry import Host
from gateway.protocol.codes import EndReason
from gateway.protocol.workers import Worker
from tests.kit.node import SERVICE, TIME, Bot, Carrier, start
from tests.kit.waiting import until
from tests.sessions.relay_wires import TWILIO, WIRES, RelayWire, same
from tests.sessions.relay_worker import relay_worker

ENDS_OF_WORKERS = {EndReason.BOT_ERROR, EndReason.NO_WORKER, EndReason.WORKER_LOST, EndReason.HOLD_TIMEOUT}
SPEECH = '{"event":"media","streamSid":"MZ1","media":{"payload":"AAAA"}}'


@pytest.fixture
def service(service):
    return replace(service, protocol="relay", max_hold=30.0 * TIME, rest=0.0)


@pytest.fixture(params=[True], ids=["static"])
def static_workers(request) -> bool:
    return request.param


of_a_host = pytest.mark.parametrize("static_workers", [False], indirect=True, ids=["of a host"])
both = pytest.mark.parametrize("static_workers", [True, False], indirect=True, ids=["static", "of a host"])
on_all_carriers = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)


async def relayed(gateway) -> tuple[Carrier, Bot]:
    """A call of Twilio's whose bot has had its `start`."""
    carrier = await gateway.open(await gateway.stream_path())
    for message in TWILIO.messages("MZ1"):
        carrier.send(message)
    return carrier, await the_bot(gateway)


async def the_bot(gateway, *, but: Bot | None = None) -> Bot:
    return await until(lambda: next((bot for bot in gateway.bots if bot.of_wire("start") and bot is not but), None))


async def static_call(gateway, wire: RelayWire, stream_id: str) -> Carrier:
    carrier = await gateway.open(f"/ws/{wire.carrier}")
    for message in wire.messages(stream_id):
        carrier.send(message)
    return carrier


async def speaks(carrier: Carrier, bot: Bot) -> None:
    bot.say(event="clear", streamSid="MZ1")
    await carrier.until("clear")


def session_id(gateway) -> str:
    return gateway.node.signer.session_id("twilio", "", "CA1")


async def end_reason(gateway) -> EndReason | None:
    await until(lambda: session_id(gateway) not in gateway.sessions)
    return (await gateway.memory.find(session_id(gateway))).end_reason


# What passes.


async def test_the_worker_gets_connected_and_start_as_the_carrier_sent_them(gateway):
    _, bot = await relayed(gateway)
    assert [message.decode() for message in bot.relayed] == TWILIO.messages("MZ1")
    assert bot.headers[0]["x-daily-session-id"] in gateway.sessions
    assert "sec-websocket-protocol" not in bot.headers[0]


@on_all_carriers
async def test_all_that_either_side_says_passes_as_it_is(gateway, wire):
    carrier = await static_call(gateway, wire, "S-1")
    bot = await the_bot(gateway)
    for name in ("media", "dtmf"):
        carrier.send(wire.of(name, "S-1"))
    await bot.until_wire("dtmf")
    expected = [*wire.messages("S-1"), wire.of("media", "S-1"), wire.of("dtmf", "S-1")]
    assert [message.decode() for message in bot.relayed] == expected
    for said in wire.bot_says("S-1"):
        bot.socket.send(said)
    bot.socket.send(b"\x00\x01")  # a message of the other kind
    await until(lambda: len(carrier.raw) > len(wire.says))
    assert carrier.raw == [*(said.encode() for said in wire.bot_says("S-1")), b"\x00\x01"]
    carrier.send(wire.of("stop", "S-1"))
    await until(lambda: bot.closed_with is not None)
    assert bot.relayed[-1].decode() == wire.of("stop", "S-1")


# The ends of a link.


@both
@pytest.mark.parametrize("code", [1000, 1005])
@pytest.mark.parametrize("words", [0, 1])
async def test_a_bot_that_closes_is_done_whatever_it_said(gateway, code, words, monkeypatch):
    """Nor is the call hung up by REST: the bot may have moved it."""
    asked = []
    monkeypatch.setattr(type(gateway.node.http_client), "ask", lambda self, *a, **k: asked.append(a))
    carrier, bot = await relayed(gateway)
    for _ in range(words):
        await speaks(carrier, bot)
    bot.socket.close(code)
    assert await carrier.until_closed() == 1000
    assert b"Hangup" in (await gateway.resume()).content
    assert await end_reason(gateway) == EndReason.BOT_HANGUP
    assert sum(bot.connections for bot in gateway.bots) == 1
    assert not asked


async def test_a_static_worker_that_lets_go_of_tcp_and_lives_is_done(gateway):
    carrier, bot = await relayed(gateway)
    await speaks(carrier, bot)
    bot.socket.abort()
    assert await carrier.until_closed() == 1000
    assert b"Hangup" in (await gateway.resume()).content
    assert sum(bot.connections for bot in gateway.bots) == 1


async def test_a_static_worker_that_ends_without_a_word_is_lost(gateway):
    """A bot that crashed at its start, or lacks the credentials that it needs: its image closes as at any other end."""
    carrier, bot = await relayed(gateway)
    bot.socket.abort()
    other = await the_bot(gateway, but=bot)
    assert [message.decode() for message in other.relayed] == TWILIO.messages("MZ1")
    assert carrier.code is None


@both
@pytest.mark.parametrize("words", [0, 1])
async def test_a_bot_that_raised_is_lost_and_the_handshake_replayed(gateway, words):
    carrier, bot = await relayed(gateway)
    for _ in range(words):
        await speaks(carrier, bot)
    bot.socket.close(1011)
    other = await the_bot(gateway, but=bot)
    assert [message.decode() for message in other.relayed] == TWILIO.messages("MZ1")
    other.socket.send(SPEECH)
    await carrier.until("media")


@of_a_host
async def test_a_link_to_a_hosts_worker_that_breaks_is_opened_again(gateway):
    """Its bot may live, and has had its `start`."""
    carrier, bot = await relayed(gateway)
    await speaks(carrier, bot)
    [session] = gateway.sessions
    bot.socket.abort()
    await until(lambda: bot.connections == 2 and session.worker.link is not None)  # what is said before has no call yet
    bot.socket.send(SPEECH)
    await carrier.until("media")
    carrier.send(TWILIO.of("media", "MZ1"))
    await bot.until_wire("media")
    assert len(bot.of_wire("start")) == 1


@of_a_host
async def test_a_link_that_breaks_before_a_word_brings_the_handshake_again(gateway):
    """It may have broken before `start` was read; a bot that has had it takes no notice of another."""
    _, bot = await relayed(gateway)
    bot.socket.abort()
    await bot.until_wire("start", 2)
    assert bot.connections == 2


async def test_a_worker_that_does_not_answer_is_lost_and_another_takes_over(gateway):
    carrier, bot = await relayed(gateway)
    await speaks(carrier, bot)
    [session] = gateway.sessions
    session.link_dead()  # as the relay says after its pings
    other = await the_bot(gateway, but=bot)
    other.socket.send(SPEECH)
    await carrier.until("media")
    await until(lambda: bot.closed_with == 1006)


async def test_workers_that_all_raise_are_not_given_the_call_for_ever(gateway):
    carrier, _ = await relayed(gateway)
    closed = set()

    def raise_all() -> bool:
        for bot in gateway.bots:
            if bot.socket is not None and bot.socket not in closed and bot.of_wire("start"):
                closed.add(bot.socket)
                bot.socket.close(1011)
        return carrier.code is not None

    await until(raise_all)
    assert await end_reason(gateway) in ENDS_OF_WORKERS
    assert len(closed) <= gateway.node.limits.max_worker_starts


async def test_a_killed_static_worker_is_followed_by_another(gateway):
    """Real processes: the kernel closes the socket of a killed one as Pipecat's image does at a normal end."""
    async with relay_worker() as first, relay_worker() as second:
        workers = tuple(Worker(f"p{n}", worker.url, "ready") for n, worker in enumerate((first, second)))
        await gateway.memory.drop_host("h", 1)  # else the kit goes on beating for its own workers
        await gateway.memory.put_host(Host("processes", 1, SERVICE, "relay", 2, workers, static=True))
        carrier = await gateway.open(await gateway.stream_path())
        for message in TWILIO.messages("MZ1"):
            carrier.send(message)
        said = await carrier.until("media")  # each says its process id, with the stream that it was told of
        assert said["streamSid"] == "MZ1"
        killed = first if said["media"]["payload"] == str(first.process.pid) else second
        lives = second if killed is first else first
        killed.process.kill()
        again = await carrier.until("media", 2)
        assert again["media"]["payload"] == str(lives.process.pid)
        assert carrier.code is None
        lives.process.terminate()


# Lost streams.


@on_all_carriers
async def test_a_bot_is_parked_while_its_stream_is_gone(gateway, wire):
    """The new stream's handshake is kept from it, and each side reads the stream's id that it knows."""
    first = await static_call(gateway, wire, "S-1")
    bot = await the_bot(gateway)
    first.socket.abort()
    [session] = gateway.sessions
    await until(lambda: session.stream is None)
    second = await static_call(gateway, wire, "S-2")
    await until(lambda: session.stream is not None)
    for said in wire.bot_says("S-1"):
        bot.socket.send(said)
    await until(lambda: len(second.heard) >= len(wire.says))
    assert all(same(*pair) for pair in zip(second.raw, wire.bot_says("S-2"), strict=True))
    second.send(wire.of("dtmf", "S-2"))
    await bot.until_wire("dtmf")
    assert same(bot.relayed[-1], wire.of("dtmf", "S-1"))
    assert len(bot.of_wire("start")) == 1
    assert bot.connections == 1


async def test_resume_brings_the_same_bot(gateway):
    carrier, bot = await relayed(gateway)
    carrier.socket.abort()
    [session] = gateway.sessions
    await until(lambda: session.stream is None)
    second = await gateway.open(gateway.path_in(await gateway.resume("CA1", "?gw_attempt=1")))
    second.send(TWILIO.messages("MZ2")[0])
    second.send(TWILIO.messages("MZ2")[1])
    await until(lambda: session.stream is not None)
    bot.socket.send(SPEECH)
    assert (await second.until("media"))["streamSid"] == "MZ2"
    assert bot.closed_with is None
    assert [bot.connections, len(bot.of_wire("start"))] == [1, 1]


async def test_a_bot_that_follows_on_a_later_stream_is_told_of_that_one(gateway):
    carrier, bot = await relayed(gateway)
    carrier.socket.abort()
    [session] = gateway.sessions
    await until(lambda: session.stream is None)
    second = await gateway.open(gateway.path_in(await gateway.resume("CA1", "?gw_attempt=1")))
    second.send(start(stream_id="MZ2"))
    await until(lambda: session.stream is not None)
    bot.socket.close(1011)
    other = await the_bot(gateway, but=bot)
    assert other.of_wire("start")[0]["streamSid"] == "MZ2"
    other.say(event="clear", streamSid="MZ2")
    assert (await second.until("clear"))["streamSid"] == "MZ2"


async def test_a_carrier_that_does_not_come_back_ends_the_call(gateway):
    gateway.limit(reattach_timeout=0.2)
    carrier, bot = await relayed(gateway)
    carrier.socket.abort()
    await until(lambda: bot.closed_with is not None)
    assert await end_reason(gateway) == EndReason.STREAM_LOST


async def test_a_second_stream_before_the_first_ones_end_is_seen_takes_the_call(gateway):
    """The carrier's end of the first one is not seen; /resume finds it silent, and leads to another."""
    first, bot = await relayed(gateway)
    second = await gateway.open(gateway.path_in(await gateway.resume("CA1", "?gw_attempt=1")))
    second.send(TWILIO.messages("MZ2")[1])
    await first.until_closed()
    bot.socket.send(SPEECH)
    assert (await second.until("media"))["streamSid"] == "MZ2"
    assert bot.closed_with is None
    await asyncio.sleep(0)
    assert (await gateway.memory.slots(SERVICE)).used == 1
