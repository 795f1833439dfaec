"""Static workers: asked over kept connections, busy from a call's end until they say that they are ready."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway.node.probe import Probe
from gateway.node.static_workers import StaticWorkers, slot_names, static_host
from gateway.pool.registry import Leases
from gateway.protocol.workers import Worker
from tests.kit.listening import stop_listening
from tests.kit.waiting import until

SERVICE = "static.acme"


class Page(asyncio.Protocol):
    """An HTTP server of one page, in so many words."""

    def __init__(self, server: PageServer) -> None:
        self.server = server

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.server.connections += 1

    def data_received(self, data: bytes) -> None:
        self.server.asked.append(data)
        if self.server.answer:
            self.transport.write(self.server.answer)
        if self.server.closes:
            self.transport.close()


class PageServer:
    def __init__(self) -> None:
        self.answer, self.closes, self.connections = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", False, 0
        self.asked: list[bytes] = []
        self.url = ""


@asynccontextmanager
async def page():
    made = PageServer()
    server = await asyncio.get_running_loop().create_server(lambda: Page(made), "127.0.0.1", 0)
    made.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
    yield made
    await stop_listening(server)


class Asked:
    """A probe, and what it was told."""

    def __init__(self, url: str, seconds: float = 5.0) -> None:
        self.told: list[int | None] = []
        self.probe = Probe(url, seconds, self.told.append)

    async def ask(self) -> int | None:
        before = len(self.told)
        self.probe.ask()
        await until(lambda: len(self.told) > before)
        return self.told[-1]


@pytest.mark.parametrize(
    ("answer", "status", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, 1),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 503, 1),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno", 404, 3),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, 3),
        (b"HTTP/1.0 200 OK\r\n\r\nok", 200, 3),
        (b"220 mail.example.com ESMTP\r\n\r\n", None, 3),
        (b"x" * 20_000, None, 3),
    ],
)
async def test_what_a_page_answers_is_told_and_its_connection_kept(answer, status, connections):
    async with page() as server:
        server.answer = answer
        asked = Asked(server.url)
        assert [await asked.ask() for _ in range(3)] == [status] * 3
        assert server.connections == connections
        assert server.asked[0].startswith(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:")
        asked.probe.close()


async def test_a_connection_that_was_closed_meanwhile_is_no_answer():
    async with page() as server:
        asked = Asked(server.url)
        assert await asked.ask() == 200
        server.closes = True
        assert await asked.ask() == 200
        assert await asked.ask() == 200
        asked.probe.close()


async def test_one_that_does_not_answer_or_is_not_there_is_told_as_none():
    async with page() as server:
        server.answer = b""
        asked = Asked(server.url, 0.05)
        assert await asked.ask() is None
        asked.probe._seconds = 5.0  # at once, before the end of the connection that was dropped is told
        server.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        assert await asked.ask() == 200
        asked.probe.close()
    assert await Asked(server.url).ask() is None


@asynccontextmanager
async def watched(gateway, server, slots: int = 1, scale: float = 0.02):
    gateway.node.leases = Leases().scaled(scale)
    workers = StaticWorkers(gateway.node, static_host(SERVICE, "relay", [server.url], "", slots))
    task = gateway.node.spawn(workers.run(), "static workers")
    yield workers
    task.cancel()
    await asyncio.wait({task})


async def ready(gateway, wanted: int) -> None:
    async def look() -> bool:
        return (await gateway.memory.slots(SERVICE)).ready == wanted

    await until(look)


async def test_each_url_has_as_many_workers_as_slots(gateway):
    async with page() as server, watched(gateway, server, slots=3):
        await ready(gateway, 3)
        assert (await gateway.memory.slots(SERVICE)).cap == 3
        assert len({(await gateway.memory.claim(SERVICE, f"s{n}")).worker_id for n in range(3)}) == 3
        assert server.connections == 1
    assert slot_names("ws://a/ws", 3) == ["ws://a/ws", "ws://a/ws#2", "ws://a/ws#3"]


async def test_one_whose_call_has_ended_is_busy_until_it_says_that_it_is_ready(gateway):
    """It is asked at once, however seldom it was asked in its call; what it said before the call counts no more."""
    async with page() as server, watched(gateway, server, scale=1.0) as workers:
        await ready(gateway, 1)
        claim = await gateway.memory.claim(SERVICE, "s1")
        claim = await gateway.memory.confirm("s1", claim.attempt)
        workers.call_began(claim.worker)
        server.answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"  # its bot wraps up
        asked = len(server.asked)
        workers.call_ended(claim.worker)
        await gateway.memory.release("s1", claim.fence)
        await until(lambda: len(server.asked) > asked)
        assert (await gateway.memory.slots(SERVICE)).ready == 0
        server.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        workers._schedule.hurry(0, asyncio.get_running_loop().time())
        await ready(gateway, 1)


async def test_one_that_never_answered_is_not_taken_but_one_that_says_503_is(gateway):
    async def states() -> tuple[int, int, bool]:
        slots = await gateway.memory.slots(SERVICE)
        return slots.starting, slots.busy, slots.deserted

    async with page() as server, watched(gateway, server) as workers:
        server.answer = b"220 mail.example.com ESMTP\r\n\r\n"  # something else listens there

        async def away() -> bool:
            return await states() == (1, 0, True)

        await until(away)
        server.answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

        async def busy() -> bool:
            return await states() == (0, 1, False)

        await until(busy)
        server.answer = b"220 mail.example.com ESMTP\r\n\r\n"
        await until(away)
        workers.call_began(Worker(server.url, server.url, "busy"))
        await until(busy, complain="its call runs, whatever it answers")


async def test_one_that_is_gone_is_asked_seldom_while_another_wraps_up(gateway):
    async with page() as gone, page() as wraps_up:
        gone.answer = b"220 mail.example.com ESMTP\r\n\r\n"
        wraps_up.answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
        gateway.node.leases = Leases().scaled(0.02)
        workers = StaticWorkers(gateway.node, static_host(SERVICE, "relay", [gone.url, wraps_up.url], ""))
        task = gateway.node.spawn(workers.run(), "static workers")
        workers.call_ended(Worker(wraps_up.url, wraps_up.url, "busy"))
        await until(lambda: len(wraps_up.asked) >= 24)
        assert len(gone.asked) <= 12
        task.cancel()
        await asyncio.wait({task})
