"""The WebSocket client against the `websockets` server, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.simulator.socket import ClientSocket, Refused
from tests.kit.waiting import PATIENCE

Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/path"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def until_closed(socket: ClientSocket) -> tuple[int, str]:
    return await asyncio.wait_for(socket.closed, PATIENCE)


async def test_text_and_binary_cross() -> None:
    got: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with server(echo) as url:
        socket = await ClientSocket.connect(url, {}, got.put_nowait)
        socket.send_text("grüß".encode())
        socket.send_binary(b"\0\1")
        assert await asyncio.wait_for(got.get(), PATIENCE) == "grüß"
        assert await asyncio.wait_for(got.get(), PATIENCE) == b"\0\1"
        socket.close(1000)
        assert (await until_closed(socket))[0] == 1000
        assert not socket.is_open


async def test_a_fragmented_message_is_one_message() -> None:
    async def fragments(connection: ServerConnection) -> None:
        await connection.send(["a", "b", "c"])

    got: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with server(fragments) as url:
        socket = await ClientSocket.connect(url, {}, got.put_nowait)
        assert await asyncio.wait_for(got.get(), PATIENCE) == "abc"
        assert (await until_closed(socket))[0] == 1000


async def test_the_headers_are_sent_and_the_servers_close_is_told() -> None:
    async def check(connection: ServerConnection) -> None:
        assert connection.request is not None
        await connection.close(4000, connection.request.headers["X-Signature"])

    async with server(check) as url:
        socket = await ClientSocket.connect(url, {"X-Signature": "s"}, lambda _: None)
        assert await until_closed(socket) == (4000, "s")


async def test_a_drop_has_no_close_frame() -> None:
    seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def watch(connection: ServerConnection) -> None:
        try:
            await connection.recv()
        except ConnectionClosed as closed:
            seen.set_result(closed.rcvd.code if closed.rcvd else 1006)

    async with server(watch) as url:
        socket = await ClientSocket.connect(url, {}, lambda _: None)
        socket.drop()
        assert (await until_closed(socket))[0] == 1006
        assert await asyncio.wait_for(seen, PATIENCE) == 1006


async def test_invalid_utf8_can_be_sent() -> None:
    async with server(echo) as url:
        socket = await ClientSocket.connect(url, {}, lambda _: None)
        socket.send_text(b"\xff\xfe")
        assert (await until_closed(socket))[0] == 1007


async def test_a_frozen_socket_neither_reads_nor_writes() -> None:
    got: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with server(echo) as url:
        socket = await ClientSocket.connect(url, {}, got.put_nowait)
        socket.freeze()
        socket.send_text(b"lost")
        socket.pause(False)
        await asyncio.sleep(0.05)
        assert got.empty()
        assert not socket.closed.done()
        socket.drop()
        await until_closed(socket)


async def test_a_paused_socket_reads_later() -> None:
    got: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with server(echo) as url:
        socket = await ClientSocket.connect(url, {}, got.put_nowait)
        socket.pause(True)
        socket.send_text(b"late")
        await asyncio.sleep(0.05)
        assert got.empty()
        socket.pause(False)
        assert await asyncio.wait_for(got.get(), PATIENCE) == "late"
        socket.drop()
        await until_closed(socket)
        socket.pause(True)  # of a connection that is gone: nothing


async def answer(text: bytes) -> tuple[asyncio.Server, str]:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        writer.close()
        await writer.wait_closed()

    running = await asyncio.start_server(reply, "127.0.0.1", 0)
    return running, f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 0),
        (b"hello\r\n", 0),
        (b"", 0),
    ],
)
async def test_what_is_no_101_is_refused_with_its_status(text: bytes, status: int) -> None:
    running, url = await answer(text)
    with pytest.raises(Refused) as refused:
        await ClientSocket.connect(url, {}, lambda _: None)
    assert refused.value.status == status
    running.close()
    await running.wait_closed()


async def test_a_port_without_a_listener_is_refused() -> None:
    running, url = await answer(b"")
    running.close()
    await running.wait_closed()
    with pytest.raises(Refused) as refused:
        await ClientSocket.connect(url, {}, lambda _: None)
    assert refused.value.status == 0
