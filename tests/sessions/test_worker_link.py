"""The session's bot, sought and lost and sought again, while streams come and go and the registry is slow."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lxml import etree

from gateway.pool.registry import Host
from gateway.protocol.codes import EndReason
from gateway.protocol.workers import Worker
from gateway.sessions import worker_link
from gateway.sessions.preconnect import PreopenedLinks
from tests.kit.node import SERVICE, start
from tests.waiting import until


async def ended(gateway) -> str:
    """How the call CA1 ended."""
    session = gateway.node.signer.session_id("twilio", "", "CA1")

    async def reason() -> str:
        facts = await gateway.memory.find(session)
        return facts.end_reason if facts is not None else ""

    return await until(reason)


async def attach_again(gateway, call_id: str = "CA1"):
    """The carrier comes back by /resume."""
    answer = await gateway.resume(call_id, "?gw_attempt=1")
    carrier = await gateway.open(gateway.path_in(answer))
    carrier.send(start(call_id, "MZ2"))
    return carrier


async def test_a_stream_that_comes_back_while_a_worker_starts_still_gets_it(gateway):
    """Its new claim is newer than the one that the worker was waited for with: that one must not take it for theft."""
    registry = gateway.memory
    [state] = registry._hosts.values()
    ready, _ = state.host.workers
    await registry.put_host(replace(state.host, workers=()))
    broken = await gateway.call()
    await until(lambda: len(gateway.sessions) == 1)
    broken.socket.abort()
    carrier = await attach_again(gateway)
    [session] = gateway.sessions
    await until(lambda: session.stream is not None)
    await registry.put_host(replace(state.host, workers=(ready,)))
    await gateway.bots[0].until("start")
    assert carrier.code is None
    assert list(gateway.sessions) == [session]


async def test_a_worker_that_takes_the_call_and_drops_it_is_dialled_once_more_and_then_not_again(gateway):
    """A proxy, a key that is refused after the handshake, a static worker that is broken: none may go on for ever."""
    for bot in gateway.bots:
        bot.drops = True
    gateway.node.limits = replace(gateway.node.limits, redial=0.01)
    await gateway.call()
    assert await ended(gateway) == EndReason.WORKER_LOST
    assert sum(bot.connections for bot in gateway.bots) <= 2 * gateway.node.limits.max_worker_starts


async def test_a_worker_with_an_address_that_is_none_does_not_leave_the_caller_alone(gateway):
    registry = gateway.memory
    [state] = registry._hosts.values()
    await registry.drop_host(state.host.id, state.host.epoch)
    odd = tuple(Worker(f"odd/w{n}", "ws://bad..host/ws", "ready") for n in range(3))
    await registry.put_host(Host("odd", 1, SERVICE, "pcm", 3, odd, "link-key"))
    carrier = await gateway.call()
    assert await ended(gateway) == EndReason.NO_WORKER
    assert await carrier.until_closed() == 1000


async def test_a_bug_in_the_search_does_not_leave_the_caller_alone(gateway, monkeypatch):
    async def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(worker_link, "acquire_worker", broken)
    monkeypatch.setattr(PreopenedLinks, "claim", lambda *_: None)
    carrier = await gateway.call()
    assert await ended(gateway) == EndReason.NO_WORKER
    assert await carrier.until_closed() == 1000


async def test_a_bot_that_ends_behind_a_refused_transfer_ends_the_call(gateway):
    """`Call.transfer` does not wait, so returning behind it is what bots do."""
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    bot.say(type="transfer", to="+442079460000")
    mark = await carrier.until("mark")
    bot.socket.close()
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]})
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": (await carrier.until("mark", 2))["mark"]})
    assert await ended(gateway) == EndReason.BOT_HANGUP
    assert await carrier.until_closed() == 1000


async def test_a_bot_that_hangs_up_behind_its_keys_is_heard_when_they_are_pressed(gateway):
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    bot.say(type="dtmf", digits="12#")
    bot.say(type="hangup", reason="done")
    assert await carrier.until_closed() == 1000
    pressing = await gateway.resume()
    assert [e.tag for e in etree.fromstring(pressing.content)] == ["Play", "Redirect"]
    again = await gateway.open(gateway.path_in(await gateway.resume("CA1", "?gw_attempt=1&gw_after=digits")))
    again.send(start("CA1", "MZ2"))
    assert await ended(gateway) == EndReason.BOT_HANGUP
    assert await again.until_closed() == 1000


async def test_a_fence_that_comes_when_its_search_is_over_is_the_sessions_all_the_same(gateway):
    """A worker is sought, the registry confirms, and before it is heard a new stream brings a claim of its own."""
    carrier = await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    before, asked, gate = session.claim.fence, asyncio.Event(), asyncio.Event()
    registry = gateway.memory
    confirm = registry.confirm

    async def slow(session_id, attempt):
        claim = await confirm(session_id, attempt)
        asked.set()
        await gate.wait()
        return claim

    registry.confirm = slow
    session.link_dead()
    await asked.wait()
    session.worker.stop()
    gate.set()
    await until(lambda: session.claim is not None and session.claim.fence > before)
    assert await registry.renew({session.id: session.claim.fence}) == set()
    assert carrier.code is None
