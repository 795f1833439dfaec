"""The session's bot, sought and lost and sought again, while streams come and go and the registry is slow."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lxml import etree

from gateway.media.endpoints import LinkEndpoint
from gateway.pool.facts import TRANSFER_FAILED, Continuation, FactEvent
from gateway.pool.registry import Host, Leases
from gateway.protocol import pcm
from gateway.protocol.codes import EndReason
from gateway.protocol.workers import Worker
from gateway.sessions import worker_link
from gateway.sessions.preconnect import PreopenedLinks
from gateway.sockets import server_protocol
from tests.kit.node import SERVICE, start
from tests.kit.waiting import until


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


async def test_a_worker_that_drops_its_call_is_tried_once_more_and_not_again(gateway):
    """A proxy, a key that is refused after the handshake, a static worker that is broken: none may go on for ever."""
    for bot in gateway.bots:
        bot.drops = True
    gateway.node.limits = replace(gateway.node.limits, reconnect_after=0.01)
    await gateway.call()
    assert await ended(gateway) == EndReason.WORKER_LOST
    assert sum(bot.connections for bot in gateway.bots) <= 2 * gateway.node.limits.max_worker_starts


async def test_a_worker_of_this_machine_that_is_gone_is_not_waited_for(gateway, tmp_path):
    gateway.node.limits = replace(gateway.node.limits, reconnect_after=3600.0)
    loop, registry = asyncio.get_running_loop(), gateway.memory
    paths = [str(tmp_path / f"{n}.sock") for n in range(2)]
    servers = [
        await loop.create_unix_server(server_protocol(bot.decide), path)
        for bot, path in zip(gateway.bots, paths, strict=True)
    ]
    [state] = registry._hosts.values()
    await registry.drop_host(state.host.id, state.host.epoch)
    workers = tuple(Worker(f"local/w{n}", f"unix:{path}", "ready") for n, path in enumerate(paths))
    await registry.put_host(Host("local", 1, SERVICE, "pcm", 2, workers, "link-key"))
    await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    [other] = [each for each in gateway.bots if each is not bot]
    servers[gateway.bots.index(bot)].close()
    bot.socket.abort()
    await other.until("start")
    servers[gateway.bots.index(other)].close()


async def test_a_worker_with_an_invalid_address_does_not_leave_the_caller_alone(gateway):
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
    monkeypatch.setattr(PreopenedLinks, "take", lambda *_: None)
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


async def test_a_hangup_behind_keys_takes_effect_when_they_are_pressed(gateway):
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


async def test_a_bot_that_ends_behind_keys_and_a_transfer_ends_the_call(gateway):
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    bot.say(type="dtmf", digits="12#")
    bot.say(type="transfer", to="+442079460000")
    bot.socket.close()
    assert await carrier.until_closed() == 1000
    await gateway.resume()
    again = await gateway.open(gateway.path_in(await gateway.resume("CA1", "?gw_attempt=1&gw_after=digits")))
    again.send(start("CA1", "MZ2"))
    for n in range(2):
        again.send({"event": "mark", "streamSid": "MZ2", "mark": (await again.until("mark", n + 1))["mark"]})
    assert await ended(gateway) == EndReason.BOT_HANGUP
    assert await again.until_closed() == 1000


async def test_a_fence_that_comes_after_its_search_is_the_sessions_all_the_same(gateway):
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


async def nothing_used(gateway) -> None:
    async def unused() -> bool:
        return not (await gateway.memory.slots(SERVICE)).used

    await until(unused, complain="no slot is used")


async def test_a_slot_that_an_outage_kept_from_release_is_released_after_it(gateway):
    carrier = await gateway.call()
    await gateway.started()
    registry, asked = gateway.memory, []
    release = registry.release

    async def noting(*about):
        asked.append(about)
        await release(*about)

    registry.release = noting
    registry.down = True
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: asked)
    registry.down = False
    await nothing_used(gateway)


async def test_a_static_worker_is_offered_again_after_an_outage_at_its_end(gateway):
    """Unreleased, its claim would run out, and the worker be kept for one that still talks: for two hours."""
    gateway.node.leases = gateway.memory.leases = Leases().scaled(0.1)
    [state] = gateway.memory._hosts.values()
    url = state.host.workers[0].url
    await gateway.memory.drop_host("h", 1)
    static = Host("static:x", 1, SERVICE, "pcm", 1, (Worker("w0", url, "ready"),), "link-key", static=True)
    await gateway.memory.put_host(static)
    gateway.node.services._by_host[SERVICE] = replace(gateway.node.services.get(SERVICE), rest=0.0)
    carrier = await gateway.call()
    await gateway.bots[0].until("start")
    registry, failed = gateway.memory, []
    release = registry.release

    async def failing(*about):
        registry.down = not failed
        failed.append(about)
        try:
            await release(*about)
        finally:
            registry.down = False

    registry.release = failing
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: failed)
    await nothing_used(gateway)
    await registry.beat("static:x", 1, static.workers)
    assert (await registry.claim(SERVICE, "another")).worker.id == "w0"


async def test_a_search_that_is_stopped_before_it_is_confirmed_holds_nothing(gateway):
    carrier = await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    registry, claimed = gateway.memory, asyncio.Event()
    claim = registry.claim

    async def unheard(*about, **how):
        await claim(*about, **how)
        claimed.set()
        await asyncio.Event().wait()

    registry.claim = unheard
    gateway.node.limits = replace(gateway.node.limits, reconnect_after=0.0)
    gateway.node.registry.suspect(session.claim.worker.id)  # the search gives up its claim, and takes another
    session.link_dead()
    await claimed.wait()
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: not gateway.sessions)
    await nothing_used(gateway)


async def test_what_a_newer_session_of_its_id_waits_for_is_left_to_it(gateway):
    """The carrier's close was taken for a hang-up, and its next stream is on hold."""
    for n in range(2):
        await gateway.call(f"CA-{n}")
    await gateway.started(2)
    await gateway.call("CA1")
    session = gateway.node.signer.session_id("twilio", "", "CA1")
    await until(lambda: session in gateway.sessions)
    older = gateway.sessions.get(session)
    left, leave = [], gateway.memory.leave_queue

    async def noting(*about):
        left.append(about)
        await leave(*about)

    gateway.memory.leave_queue = noting
    older.ended = EndReason.CALLER_HANGUP
    newer = gateway.sessions.make(older.service, None, older.facts)
    gateway.sessions.serve(newer)
    older.end(EndReason.CALLER_HANGUP)
    await until(lambda: [task.get_name() for task in gateway.node._tasks].count(f"session {session}") == 1)
    assert left == []


async def test_a_failed_transfer_is_told_to_one_worker_only(gateway):
    """The next one, an hour later, would apologise for it once more."""
    session = gateway.node.signer.session_id("twilio", "", "CA1")
    carrier = await gateway.open(await gateway.stream_path())
    failed = Continuation("attach", TRANSFER_FAILED, 2)
    await gateway.memory.merge(session, FactEvent(continuation=failed))
    carrier.send(start())
    await gateway.started()

    def told() -> list[str]:
        return [one["status"] for bot in gateway.bots for one in bot.of("status")]

    await until(lambda: told() == ["transfer_failed"])
    gateway.node.limits = replace(gateway.node.limits, reconnect_after=0.0)
    gateway.sessions.get(session).link_dead()
    await gateway.started(2)
    gateway.sessions.get(session).bridge.tell(pcm.Status("human", {}))
    await until(lambda: "human" in told())
    assert told() == ["transfer_failed", "human"]


async def test_a_worker_whose_link_broke_at_once_is_not_counted_as_attached(gateway, monkeypatch):
    await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    gateway.node.limits = replace(gateway.node.limits, reconnect_after=0.0)
    bind, broken = LinkEndpoint.bind, []

    def breaks_once(link, bridge):
        if not broken:
            broken.append(link)
            return None
        return bind(link, bridge)

    monkeypatch.setattr(LinkEndpoint, "bind", breaks_once)
    session.link_dead()
    await gateway.started(2)
    assert broken
    assert gateway.node.metrics.resumes["worker_lost", "attached"] == 1


async def test_a_bot_whose_link_broke_in_the_announcement_was_no_start(gateway):
    """Nobody has greeted the caller yet: the next bot must not be told that it goes on with a call."""
    services = gateway.node.services._by_host
    services[SERVICE] = gateway.node.services._default = replace(services[SERVICE], announcement=bytes(32 * 300))
    gateway.node.services._by_number["+15550100000"] = services[SERVICE]
    gateway.node.limits = replace(gateway.node.limits, reconnect_after=0.0)
    carrier = await gateway.call()
    await carrier.until("media")  # the announcement
    await until(lambda: any(bot.socket for bot in gateway.bots), complain="a bot is linked")
    [bot] = [bot for bot in gateway.bots if bot.socket]
    bot.refuse = 503
    bot.socket.abort()
    await gateway.started()
    [told] = gateway.starts()
    assert (told["resumed"], told["attempt"]) == (False, 1)
    [session] = gateway.sessions
    await until(lambda: session.facts.starts)
    assert (session.facts.starts, session.facts.hold_ms) == (1, 0) and session.facts.bot_start_ms
