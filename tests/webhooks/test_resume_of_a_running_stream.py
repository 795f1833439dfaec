"""A webhook that came twice gives two documents; the second one leads to /resume while the first one's stream runs."""

from __future__ import annotations

import asyncio

from tests.kit.node import MEDIA


async def test_resume_takes_no_call_from_a_stream_that_runs(gateway):
    carrier = await gateway.call()
    await gateway.started()

    async def speak() -> None:
        while True:
            carrier.send(MEDIA)
            await asyncio.sleep(0.02)

    speaking = asyncio.create_task(speak())
    answer = await gateway.resume("CA1", "?gw_attempt=1")
    speaking.cancel()
    assert b"<Stream" not in answer.content and b"<Hangup" not in answer.content
    assert b"<Pause" in answer.content
    assert carrier.code is None


async def test_resume_attaches_again_where_the_stream_is_silent(gateway):
    carrier = await gateway.call()
    await gateway.started()
    answer = await gateway.resume("CA1", "?gw_attempt=1")
    assert b"<Stream" in answer.content
    assert carrier.code is None


async def test_a_resume_that_overtakes_the_last_media_attaches_again(gateway):
    """The carrier's request and its stream are two connections: the stream's end may come a little later."""
    carrier = await gateway.call()
    await gateway.started()

    async def end() -> None:
        for _ in range(4):
            carrier.send(MEDIA)
            await asyncio.sleep(0.02)
        carrier.socket.abort()

    ending = asyncio.create_task(end())
    answer = await gateway.resume("CA1", "?gw_attempt=1")
    await ending
    assert b"<Stream" in answer.content
