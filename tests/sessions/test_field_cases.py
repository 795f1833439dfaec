"""What bots in the field do: start slowly, move the call themselves, crash without a word, wrap up late, flood."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from lxml import etree

from gateway.node.services import Fallback
from gateway.pool.registry import Host
from gateway.protocol.codes import EndReason
from gateway.protocol.workers import Worker
from gateway.sessions.duration_limit import DurationLimit
from gateway.sessions.event_queue import MAX_QUEUED
from gateway.sessions.orders import FLOOD
from tests.kit.node import MEDIA, SERVICE, start
from tests.kit.waiting import SCALE, until


def set_policy(gateway, **changes) -> None:
    """Change the one service."""
    services = gateway.node.services._by_host
    services[SERVICE] = gateway.node.services._default = replace(services[SERVICE], **changes)
    gateway.node.services._by_number["+15550100000"] = services[SERVICE]


async def take_workers_away(gateway):
    """Leave the host its capacity, and no worker that is ready. Returns how to put one there."""
    [state] = gateway.memory._hosts.values()
    ready, _ = state.host.workers
    await gateway.memory.put_host(replace(state.host, workers=()))

    async def put_back() -> None:
        await gateway.memory.put_host(replace(state.host, workers=(ready,)))

    return put_back


async def end_reason(gateway, call_id: str = "CA1") -> str:
    session = gateway.node.signer.session_id("twilio", "", call_id)

    async def reason() -> str:
        facts = await gateway.memory.find(session)
        return facts.end_reason if facts is not None else ""

    return await until(reason)


# A bot whose workers take long to start.


async def test_a_caller_who_may_be_held_waits_longer_than_a_start_takes(gateway):
    """`prewarm` of 15 s, a hold of 60 s: here both are a fraction of that, and so is what a start may take."""
    set_policy(gateway, max_hold=30.0)
    gateway.node.limits = replace(gateway.node.limits, worker_start=0.1)
    put_back = await take_workers_away(gateway)
    carrier = await gateway.call()
    await asyncio.sleep(0.5)
    assert carrier.code is None
    await put_back()
    await gateway.started()


async def test_without_hold_a_caller_waits_as_long_as_this_bot_takes_to_start(gateway):
    set_policy(gateway, when_full=Fallback("busy"))
    gateway.node.limits = replace(gateway.node.limits, worker_start=0.1)
    gateway.node.start_seconds[SERVICE] = 15.0
    put_back = await take_workers_away(gateway)
    carrier = await gateway.call()
    await asyncio.sleep(0.5)
    assert carrier.code is None
    await put_back()
    await gateway.started()


async def test_a_first_start_that_is_slow_is_waited_for_as_its_host_reports_it(gateway):
    """Nothing is known of this bot's starts when the caller comes; its host says meanwhile how long this one takes."""
    set_policy(gateway, when_full=Fallback("busy"))
    gateway.node.limits = replace(gateway.node.limits, worker_start=0.3)
    put_back = await take_workers_away(gateway)
    carrier = await gateway.call()
    await until(lambda: len(gateway.sessions) == 1)
    gateway.node.start_seconds[SERVICE] = 15.0
    await asyncio.sleep(0.6)
    assert carrier.code is None
    await put_back()
    await gateway.started()


# A bot that moves the call by a request of its own to the carrier, and ends.


async def play_mark(carrier) -> None:
    """Say of the first mark that it has been played, as a carrier does when it has played what stands before it."""
    mark = await carrier.until("mark")
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]})


async def test_a_bot_that_moved_the_call_and_ended_is_not_hung_up_by_rest(gateway, rest_requests):
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    bot.socket.close()
    await play_mark(carrier)
    assert await carrier.until_closed() == 1000
    assert await end_reason(gateway) == EndReason.BOT_HANGUP
    assert rest_requests == []


async def test_a_bot_that_asks_to_hang_up_is_hung_up_by_rest(gateway, rest_requests):
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    bot.say(type="hangup", reason="done")
    await play_mark(carrier)
    assert await carrier.until_closed() == 1000
    assert len(rest_requests) == 1


async def test_a_call_that_its_bot_moved_is_parked_when_the_service_says_so(gateway, rest_requests):
    set_policy(gateway, after_bot="park")
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    bot.socket.close()
    await play_mark(carrier)
    assert await carrier.until_closed() == 1000
    await until(lambda: not gateway.sessions)
    first, *_ = etree.fromstring((await gateway.resume()).content)
    assert first.tag == "Pause"
    assert rest_requests == []


# A static worker whose bot still wraps up.


async def test_a_static_worker_is_offered_again_only_after_its_rest(gateway):
    [state] = gateway.memory._hosts.values()
    url = state.host.workers[0].url
    await gateway.memory.drop_host("h", 1)
    static = Host("static:x", 1, SERVICE, "pcm", 1, (Worker("w0", url, "ready"),), "link-key", static=True)
    await gateway.memory.put_host(static)
    set_policy(gateway, rest=0.6 * SCALE, when_full=Fallback("busy"))
    carrier = await gateway.call()
    bot = gateway.bots[0]
    await bot.until("start")
    ended = asyncio.get_running_loop().time()
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: bot.closed_with is not None)
    await gateway.memory.beat("static:x", 1, static.workers)  # its /readyz says that it is ready
    assert b"Reject" in (await gateway.voice("CA-2")).content

    async def is_free() -> bool:
        return not (await gateway.memory.slots(SERVICE)).used

    await until(is_free)
    assert asyncio.get_running_loop().time() - ended >= 0.6 * SCALE
    await gateway.memory.beat("static:x", 1, static.workers)
    assert b"Stream" in (await gateway.voice("CA-3")).content


# A bot that floods its session with commands while the caller's stream is away.


async def test_a_flood_of_commands_without_a_stream_is_bounded_and_yields(gateway):
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    [session] = gateway.sessions
    carrier.socket.abort()
    await until(lambda: session.stream is None)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    command = json.dumps({"type": "transfer", "to": "+442079460000"}).encode()
    for _ in range(20 * MAX_QUEUED):
        session.bridge.link_received(command, True, 0.0)
    assert session._events.qsize() <= MAX_QUEUED
    counting = asyncio.create_task(count_turns())
    await until(lambda: session._events.empty())
    counting.cancel()
    assert turns >= MAX_QUEUED, "others had their turn after each command"
    await until(lambda: any(status.get("reason") == FLOOD for status in bot.of("status")))
    again = await gateway.open(gateway.path_in(await gateway.resume("CA1", "?gw_attempt=1")))
    again.send(start("CA1", "MZ2"))
    await until(lambda: session.stream is not None)
    await until(lambda: [status for status in bot.of("status") if status["status"] == "reattached"])


@pytest.mark.parametrize(
    ("limit", "passed", "reason"),
    [("_stream_due_by", 0.0, EndReason.STREAM_LOST), ("_limit", DurationLimit(0.0, 0.0, 0.0), EndReason.MAX_DURATION)],
    ids=["stream_lost", "max_duration"],
)
async def test_a_flood_of_commands_outlives_no_deadline(gateway, limit, passed, reason):
    carrier = await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    carrier.socket.abort()
    await until(lambda: session.stream is None)
    setattr(session, limit, passed)
    command = json.dumps({"type": "transfer", "to": "+442079460000"}).encode()

    async def flood() -> None:
        while session.ended is None:
            for _ in range(MAX_QUEUED):
                session.bridge.link_received(command, True, 0.0)
            await asyncio.sleep(0)

    flooding = asyncio.create_task(flood())
    try:
        await until(lambda: session.ended)
    finally:
        flooding.cancel()
    assert session.ended == reason


async def test_a_bot_hears_silence_when_its_caller_sends_nothing(gateway):
    carrier = await gateway.open(await gateway.stream_path())
    carrier.send(start())
    await gateway.started()
    carrier.send(MEDIA)
    await gateway.a_bot_hears(60 * 640)  # 1.2 s, where one frame came
    assert carrier.code is None
