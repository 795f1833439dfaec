"""/resume comes to one node while the call's stream is, or was, another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from gateway.sessions.node_messages import is_heard_elsewhere
from tests.kit.node import MEDIA
from tests.kit.two_nodes import second_node
from tests.kit.waiting import until
from tests.webhooks.wires import WIRES, join, path_in, ring

MEDIA_OF = {
    "twilio": MEDIA,
    "telnyx": {"event": "media", "media": {"track": "inbound", "payload": MEDIA["media"]["payload"]}},
    "plivo": {"event": "media", "media": {"track": "inbound", "payload": MEDIA["media"]["payload"]}},
    "exotel": {"event": "media", "stream_sid": "ex1", "media": {"payload": "AAAA" * 800}},
}


@pytest.fixture(params=WIRES)
def carrier(request) -> str:
    return request.param


async def begin(gateway, carrier: str):
    """A call on the first node, of which the registry knows. Returns its bot and its stream."""
    bot, stream = await join(gateway, carrier, await ring(gateway, carrier))
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    return bot, stream


@asynccontextmanager
async def speaking(stream, carrier: str) -> AsyncIterator[None]:
    """The caller's audio comes in meanwhile."""

    async def speak() -> None:
        while True:
            stream.send(MEDIA_OF[carrier])
            await asyncio.sleep(0.02)

    task = asyncio.create_task(speak())
    yield
    task.cancel()


async def resume(gateway, carrier: str) -> tuple[int, bytes]:
    form = {**WIRES[carrier].voice, "CallStatus": "in-progress"}
    if carrier == "exotel":
        form = {**WIRES[carrier].voice, "Stream[Status]": "failed"}
    answer = await gateway.http.post(f"/webhooks/{carrier}/resume?gw_attempt=1", data=form)
    return answer.status_code, answer.content


def attaches(carrier: str, status: int, content: bytes) -> bool:
    """The answer leads the carrier to a new stream; Exotel's flow asks for its URL at /voice."""
    return status == 302 if carrier == "exotel" else bool(path_in(content.decode()))


async def test_it_takes_no_call_from_a_stream_that_runs(gateway, carrier):
    async with second_node(gateway) as second:
        bot, stream = await begin(gateway, carrier)
        async with speaking(stream, carrier):
            status, content = await resume(second, carrier)
        assert not attaches(carrier, status, content) and b"Hangup" not in content
        assert stream.code is None and not bot.of("stop")
        assert (await gateway.node.registry.find(next(iter(gateway.sessions)).id)).continuation.kind == ""


async def test_it_attaches_a_call_whose_stream_is_silent(gateway, carrier):
    async with second_node(gateway) as second:
        await begin(gateway, carrier)
        assert attaches(carrier, *await resume(second, carrier))


async def test_it_attaches_a_call_whose_stream_broke_at_once(gateway, carrier):
    async with second_node(gateway) as second:
        _, stream = await begin(gateway, carrier)
        stream.socket.abort()
        [session] = gateway.sessions
        await until(lambda: session.stream is None)
        assert attaches(carrier, *await resume(second, carrier))


async def test_it_attaches_a_call_whose_node_is_dead(gateway, carrier):
    """Media still arrive at a machine that is cut off from the registry, or do not: it does not answer."""
    async with second_node(gateway, first_answers=False) as second:
        _, stream = await begin(gateway, carrier)
        async with speaking(stream, carrier):
            assert attaches(carrier, *await resume(second, carrier))


async def test_a_session_that_went_on_here_is_not_asked_for_elsewhere(gateway):
    """The stream runs on the second node now; what the first one knew is of no interest."""
    async with second_node(gateway) as second:
        _, older = await begin(gateway, "twilio")
        older.socket.abort()
        _, content = await resume(second, "twilio")
        stream = await second.open(path_in(content.decode()))
        stream.send(dict(WIRES["twilio"].start))
        session = await until(lambda: next(iter(second.sessions), None))
        await until(lambda: session.facts.node == second.node.id)
        async with speaking(stream, "twilio"):
            status, content = await resume(gateway, "twilio")
            assert not attaches("twilio", status, content)
        assert stream.code is None


async def test_a_message_that_is_none_of_ours_is_passed_over(gateway):
    """Another version of us may have written it."""
    async with second_node(gateway) as second:
        _, stream = await begin(gateway, "twilio")
        for odd in (
            "",
            "{",
            "[]",
            '["is_heard"]',
            '["who", "knows", ""]',
            '["end", 1, 2]',
            '["end", "s", "no reason"]',
        ):
            await gateway.node.registry.send(gateway.node.id, odd)
        async with speaking(stream, "twilio"):
            assert not attaches("twilio", *await resume(second, "twilio"))


async def test_a_node_without_sessions_says_that_it_lives(gateway):
    """Its session has ended, and its registry was away: the facts still say that the stream runs there."""
    async with second_node(gateway) as second:
        with capture_logs() as logged:
            assert not await is_heard_elsewhere(second.node, "a session", gateway.node.id)
        assert not [line for line in logged if "does not answer" in line["event"]]
