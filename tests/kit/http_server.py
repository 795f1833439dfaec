"""A real HTTP server and a stranger with a socket: uvicorn, our protocol, our WebSockets, literal bytes."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.serve.http_protocol import HttpLimits, http_protocol
from gateway.serve.listening import HttpServer, bind
from gateway.sockets import Accept, Decision, Socket, Upgrade, server_protocol
from tests.kit.waiting import PATIENCE, until

NEVER = 1000.0
"""A deadline that no test waits for."""


class Echo:
    """What is behind the WebSockets here."""

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes, text: bool) -> None:
        self.socket.send(data.decode() if text else data)

    def closed(self, code: int, reason: str) -> None:
        pass


@dataclass
class Served:
    """A real server: uvicorn, our protocol, our WebSockets."""

    port: int = 0
    refused: list[str] = field(default_factory=list)
    upgrades: list[Upgrade] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Paths, in order."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    """`/waits` waits for it."""
    server: uvicorn.Server | None = None

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def app(self) -> Starlette:
        async def hello(request: Request) -> Response:
            self.asked.append(request.url.path)
            return PlainTextResponse("hello")

        async def waits(request: Request) -> Response:
            self.asked.append(request.url.path)
            await self.go_on.wait()
            return PlainTextResponse("at last")

        async def length(request: Request) -> Response:
            return PlainTextResponse(str(len(await request.body())))

        return Starlette(routes=[
            Route("/hello", hello, methods=["GET", "POST"]), Route("/waits", waits, methods=["GET", "POST"]),
            Route("/length", length, methods=["POST"]),
        ])  # fmt: skip

    def decide(self, upgrade: Upgrade) -> Accept:
        self.upgrades.append(upgrade)
        return Accept(Echo())


@contextlib.asynccontextmanager
async def serving(
    *,
    head_seconds: float = NEVER,
    keep_alive: float = NEVER,
    first_seconds: float = NEVER,
    idle: int = 500,
    app: Starlette | None = None,
    decide: Callable[[Upgrade], Decision] | None = None,
    invalid: Callable[[int], None] = lambda _: None,
) -> AsyncIterator[Served]:
    served = Served()
    limits = HttpLimits(head_seconds=head_seconds, first_seconds=first_seconds, idle=idle)
    config = uvicorn.Config(
        app or served.app(),
        http=http_protocol(served.refused.append, limits),
        ws=server_protocol(decide or served.decide, invalid=invalid),
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=1,
    )
    served.server = HttpServer(config)
    sock = bind("127.0.0.1", 0)
    served.port = sock.getsockname()[1]
    task = asyncio.create_task(served.server.serve(sockets=[sock]))
    try:
        await until(lambda: served.server.started)
        yield served
    finally:
        served.server.should_exit = True
        await task


class Client:
    """A stranger with a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, bytes]:
        """The next one: status and body."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            [length] = re.findall(rb"content-length: (\d+)", head)
            return int(head.split()[1]), await self.reader.readexactly(int(length))

    async def end(self) -> bytes:
        """Whatever comes until the server closes; TimeoutError if it does not."""
        said = b""
        async with asyncio.timeout(PATIENCE):
            try:
                while chunk := await self.reader.read(65536):
                    said += chunk
            except ConnectionError:
                pass
        return said


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


GET = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
HANDSHAKE = (
    b"GET /ws/twilio/t?x=1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
