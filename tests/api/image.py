"""A worker in Pipecat Cloud's image, by its contract: `/ws`, its probes, and the bot's own routes beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import uvicorn

from gateway.pool.registry import Host
from gateway.protocol.workers import Worker
from gateway.serve.listening import HttpServer, bind
from tests.kit.node import SERVICE
from tests.kit.waiting import until

JSON = (b"content-type", b"application/json")


@dataclass
class Route:
    """What a route of the bot answers. parts: of its body; the test lets the next one go."""

    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = (JSON,)
    parts: tuple[bytes, ...] = (b"{}",)


@dataclass
class Image:
    """One worker. Its routes are what the test wants them to be; any other path is 404."""

    url: str = ""
    routes: dict[str, Route] = field(default_factory=dict)
    asked: list[dict] = field(default_factory=list)
    """What came to the bot's routes: the scope, and the body."""
    go_on: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1000))
    """Acquired before each part of an answer."""
    upgrades: list[dict] = field(default_factory=list)
    heard: list[str | bytes] = field(default_factory=list)
    say: asyncio.Queue = field(default_factory=asyncio.Queue)
    """Messages for the other side; None: close."""

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "websocket":
            await self._ws(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope, receive, send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        path = scope["raw_path"].decode()
        if path != "/readyz":
            self.asked.append({**scope, "body": body})
        route = Route() if path == "/readyz" else self.routes.get(path, Route(404, parts=(b'{"detail":"Not Found"}',)))
        await send({"type": "http.response.start", "status": route.status, "headers": list(route.headers)})
        for part in route.parts:
            await self.go_on.acquire()
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    async def _ws(self, scope, receive, send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        self.upgrades.append(scope)
        await send({"type": "websocket.accept"})
        saying = asyncio.create_task(self._say(send))
        try:
            while (message := await receive())["type"] == "websocket.receive":
                self.heard.append(message.get("text") or message.get("bytes"))
        finally:
            saying.cancel()

    async def _say(self, send) -> None:
        while (said := await self.say.get()) is not None:
            await send({"type": "websocket.send", "text" if isinstance(said, str) else "bytes": said})
        await send({"type": "websocket.close", "code": 1000})


@contextlib.asynccontextmanager
async def image() -> AsyncIterator[Image]:
    """Serve one with uvicorn, as the image does."""
    made = Image()
    config = uvicorn.Config(made, ws="websockets-sansio", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = HttpServer(config)
    sock = bind("127.0.0.1", 0)
    made.url = f"ws://127.0.0.1:{sock.getsockname()[1]}/ws"
    task = asyncio.create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started)
    try:
        yield made
    finally:
        server.should_exit = True
        await task


async def serve_by(gateway, *images: Image) -> None:
    """Let these be the service's workers, and no others."""
    await gateway.memory.drop_host("h", 1)
    workers = tuple(Worker(one.url, one.url, "ready") for one in images)
    host = Host(f"static:{SERVICE}", 1, SERVICE, "relay", len(workers), workers, static=True)
    await gateway.memory.put_host(host)
