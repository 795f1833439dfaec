"""A receiver of webhooks on a real socket, which answers what a test tells it to, in literal bytes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The standard's own example."""
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


def status(code: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {code} x", *headers, f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Got:
    """One request. data: its verified body, {} where the receiver does not verify."""

    path: str
    headers: dict[str, str]
    body: bytes
    data: dict[str, object]

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """answer: the bytes for a request; None for none at all, with the connection left open."""

    answer: Callable[[Got], bytes | None] = lambda _: OK
    secret: str = SECRET
    verify: bool = True
    """Refuse (400) what the library does not find well signed, and say so in `forged`."""
    port: int = 0
    asked: list[Got] = field(default_factory=list)
    took: list[Got] = field(default_factory=list)
    """Those that were answered with 2xx."""
    forged: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    hold: asyncio.Event | None = None
    """Answers wait for it."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/calls"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rest = head.strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
                body = await reader.readexactly(int(headers["content-length"]))
                await self._handle(Got(line.split()[1], headers, body, {}), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _handle(self, got: Got, writer: asyncio.StreamWriter) -> None:
        self.asked.append(got)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.hold is not None:
                await self.hold.wait()
            answer = self._checked(got)
        finally:
            self.at_once -= 1
        if answer is None:
            await asyncio.Event().wait()
            return
        if re.match(rb"HTTP/1.1 2", answer):
            self.took.append(got)
        writer.write(answer)
        await writer.drain()

    def _checked(self, got: Got) -> bytes | None:
        answer = self.answer(got)
        if self.verify and answer is not None and answer.startswith(b"HTTP/1.1 2"):
            try:
                got.data = Webhook(self.secret).verify(got.body, got.headers)
            except Exception as error:
                self.forged.append(f"{got.id}: {error}")
                return status(400)
        return answer


def bound_socket() -> socket.socket:
    """Make a receiver that is down: nobody else gets the port, and it refuses every connection."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@contextlib.asynccontextmanager
async def receiving(
    receiver: Receiver | None = None, sock: socket.socket | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """sock: bound, so that it refuses connections until it is served here; None for any port."""
    receiver = receiver or Receiver()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(receiver.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if sock is None:
        sock = bound_socket()
    server = await asyncio.start_server(connected, sock=sock, ssl=tls)
    receiver.port = sock.getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
