"""A deadline that waits for our own process: with real stalls of a real event loop."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from gateway.pool.runtime_timeout import PARTS, runtime_timeout


async def answer_beside_a_stall(patient) -> bytes:
    """Asks a server that answers at once, while our process does not run for four times our patience."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            async with patient:
                asyncio.get_running_loop().call_soon(time.sleep, 0.4)
                theirs.sendall(b"answer")
                answer = await reader.readexactly(6)
                await asyncio.sleep(0)
                return answer
        finally:
            writer.close()


async def test_an_answer_that_came_while_we_did_not_run_counts():
    assert await answer_beside_a_stall(runtime_timeout(0.1)) == b"answer"


async def test_it_does_not_count_for_asyncios_own_timeout():
    """The reason for ours."""
    with pytest.raises(TimeoutError):
        await answer_beside_a_stall(asyncio.timeout(0.1))


async def test_nobody_who_does_not_answer_is_waited_for():
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with runtime_timeout(0.1):
            await asyncio.Event().wait()
    assert time.monotonic() - began >= 0.1


async def test_a_loop_that_always_stalls_ends_its_patience_too():
    stalls = 0
    with pytest.raises(TimeoutError):
        async with runtime_timeout(0.05):
            while True:
                await asyncio.sleep(0)
                time.sleep(0.03)
                stalls += 1
    assert PARTS < stalls < 6 * PARTS


async def test_a_cancellation_from_outside_is_none_of_its_own():
    async def wait() -> None:
        async with runtime_timeout(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_raises_in_it_raises():
    with pytest.raises(ZeroDivisionError):
        async with runtime_timeout(60):
            raise ZeroDivisionError
