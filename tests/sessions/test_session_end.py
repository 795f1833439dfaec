"""The end of a session leaves nothing behind, whatever fails on the way to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.media.types import Stream
from gateway.node.static_workers import StaticWorkers, static_host
from gateway.protocol.codes import EndReason
from gateway.sessions.event_queue import MAX_WAITING
from gateway.sessions.events import EndSession
from tests.kit.node import SERVICE, TIME, Gateway
from tests.kit.slow_facts import SlowFacts
from tests.kit.waiting import until


@pytest.fixture
def service(service):
    return replace(service, rest=0.2 * TIME)


async def session_of(gateway: Gateway):
    await gateway.started()
    [session] = gateway.sessions
    return session


async def test_a_bug_on_the_way_to_its_end_keeps_no_slot(gateway, monkeypatch):
    """A carrier's plugin may raise: its worker's slot would be taken until the lease ends, a static one's for hours."""
    await gateway.call()
    session = await session_of(gateway)
    await until(lambda: session.facts.streams)

    def broken(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(type(gateway.node.carriers["twilio"]), "hang_up", broken)
    session.stream = replace(session.stream, verified=True)
    session.end(EndReason.API_HANGUP)
    await until(lambda: not gateway.sessions)
    assert (await gateway.memory.slots(SERVICE)).used == 0


@pytest.mark.parametrize("static_workers", [True])
async def test_a_superseded_session_has_no_static_worker_any_more(gateway):
    """Counted as in a call for good, its worker would be asked seldom, and be busy when it is dead."""
    watched = StaticWorkers(gateway.node, static_host(SERVICE, "pcm", gateway.worker_urls, ""))
    gateway.node.static_workers[SERVICE] = watched
    await gateway.call()
    session = await session_of(gateway)
    assert watched._in_calls.total() == 1
    session.superseded()
    await until(lambda: not gateway.sessions)
    assert watched._in_calls.total() == 0


async def test_events_of_a_session_that_has_ended_are_not_kept(gateway):
    """It no longer reads them, and may wait for its bot for half a minute."""
    carrier = await gateway.call()
    session = await session_of(gateway)
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: not gateway.sessions)
    for _ in range(10):
        session.post(EndSession(EndReason.API_HANGUP))
    assert session._events.empty()


async def test_the_events_of_others_are_bounded_too(gateway):
    """A carrier that says stop again and again, faster than the registry answers."""
    await gateway.call()
    session = await session_of(gateway)
    stream = session.stream
    assert isinstance(stream, Stream)
    for _ in range(2 * MAX_WAITING):
        session.stream_stopped("again")
    assert session._events.qsize() <= MAX_WAITING
    await until(lambda: not gateway.sessions)
    await asyncio.sleep(0)
    assert session.ended is EndReason.CALLER_HANGUP


async def test_a_caller_who_hangs_up_while_keys_are_written_is_not_waited_for(gateway):
    """Twilio's XML is to press them: the stream is closed for that, unless the carrier has ended it already."""
    carrier = await gateway.call()
    await gateway.started()
    [session] = gateway.sessions
    await until(lambda: session.facts.streams)
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    slow = SlowFacts(gateway, lambda event: event.continuation.kind == "digits")
    bot.say(type="dtmf", digits="12#")
    await until(lambda: slow.asked)
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: session._events.qsize(), complain="the stop has come")
    slow.gate.set()
    assert (await bot.until("stop"))["reason"] == "caller_hangup"
