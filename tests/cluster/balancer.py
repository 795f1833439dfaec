"""A TCP balancer for tests: what HAProxy does for a cluster, and the faults of a network on demand.

    round robin or least connections over the backends that are up; a backend that cannot be reached, or whose /lbz
    does not answer, is down, and its connections are cut (`on-marked-down shutdown-sessions`); one that answers 404
    drains: it keeps what it has and gets nothing new (`http-check disable-on-404`)

A black hole (`swallow`) accepts everything and passes nothing on, health checks included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tests.kit.waiting import until

CHECK_EVERY = 0.2
CHECK_TIMEOUT = 0.5
CHECK_FAILURES = 2
CONNECT_TIMEOUT = 1.0
CHUNK = 64 * 1024


@dataclass(eq=False)
class Backend:
    """One gateway, as the balancer sees it."""

    name: str
    port: int
    state: Literal["up", "draining", "down"] = "up"
    failures: int = 0
    served: int = 0
    """Connections ever passed on to it."""
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set: a black hole."""
    connections: set[_Connection] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.flowing.set()


class Balancer:
    """Use as an async context manager. url: where carriers call. rule: how the next backend is chosen."""

    def __init__(self, port: int, backends: Iterable[Backend]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.backends = {backend.name: backend for backend in backends}
        self.rule: Literal["roundrobin", "leastconn"] = "roundrobin"
        self.checks = True
        """Ask for /lbz. Without, a backend is always up."""
        self.preferred = ""
        """Every new connection goes to this backend while it is up."""
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._checking: set[asyncio.Task[None]] = set()
        self._passing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Balancer:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, limit=CHUNK)
        for backend in self.backends.values():
            if self.checks:
                self._checking.add(asyncio.create_task(self._check_for_ever(backend)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._checking:
            task.cancel()
        for backend in self.backends.values():
            backend.flowing.set()
            self.cut(backend.name)
        await asyncio.gather(*self._checking, *self._passing, return_exceptions=True)

    # Faults.

    def cut(self, name: str) -> None:
        """Reset all connections of this backend."""
        for connection in tuple(self.backends[name].connections):
            connection.reset()

    def swallow(self, name: str) -> None:
        """Nothing passes to or from this backend any more, and nobody is told."""
        self.backends[name].flowing.clear()

    def let_pass(self, name: str) -> None:
        """The black hole is over. What it held is delivered late, if anybody is still there."""
        self.backends[name].flowing.set()

    async def until(self, name: str, state: str, seconds: float = 20.0) -> None:
        """Wait for a backend to be seen up, draining or down."""
        await until(lambda: self.backends[name].state == state, seconds, f"{name} is {state}")

    # Connections.

    def _choose(self, tried: set[str]) -> Backend | None:
        up = [b for b in self.backends.values() if b.state == "up" and b.name not in tried]
        for backend in up:
            if backend.name == self.preferred:
                return backend
        if not up:
            return None
        if self.rule == "leastconn":
            return min(up, key=lambda b: len(b.connections))
        self._turn += 1
        return up[self._turn % len(up)]

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        tried: set[str] = set()
        while (backend := self._choose(tried)) is not None:
            tried.add(backend.name)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    upstream = await asyncio.open_connection("127.0.0.1", backend.port, limit=CHUNK)
            except (OSError, TimeoutError):
                self._mark_down(backend)
                continue
            backend.served += 1
            await _Connection(backend, (reader, writer), upstream).run()
            return
        writer.transport.abort()

    # Health.

    async def _check_for_ever(self, backend: Backend) -> None:
        while True:
            status = await self._check(backend)
            if status in (200, 404):
                backend.failures = 0
                backend.state = "up" if status == 200 else "draining"
            else:
                backend.failures += 1
                if backend.failures >= CHECK_FAILURES:
                    self._mark_down(backend)
            await asyncio.sleep(CHECK_EVERY)

    async def _check(self, backend: Backend) -> int:
        writer = None
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await backend.flowing.wait()
                reader, writer = await asyncio.open_connection("127.0.0.1", backend.port)
                writer.write(b"GET /lbz HTTP/1.1\r\nHost: check\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
                return int(line.split()[1])
        except (OSError, TimeoutError, IndexError, ValueError):
            return 0
        finally:
            if writer is not None:
                writer.transport.abort()

    def _mark_down(self, backend: Backend) -> None:
        if not self.checks:
            return
        backend.state = "down"
        backend.failures = CHECK_FAILURES
        self.cut(backend.name)


class _Connection:
    """One client and its backend: bytes both ways, and whatever ends one side ends the other in the same way."""

    def __init__(
        self,
        backend: Backend,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._backend = backend
        self._client, self._upstream = client, upstream

    async def run(self) -> None:
        self._backend.connections.add(self)
        try:
            await asyncio.gather(
                self._pump(self._client[0], self._upstream[1]), self._pump(self._upstream[0], self._client[1])
            )
        finally:
            self._backend.connections.discard(self)
            self.reset()

    def reset(self) -> None:
        for _, writer in (self._client, self._upstream):
            writer.transport.abort()
        for reader, _ in (self._client, self._upstream):
            reader.feed_eof()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._backend.flowing.wait()
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            self.reset()
