"""The gateway's end of `gateway.workers.v1`, and of links, for tests with real hosts and real workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.protocol import pcm, workers
from gateway.sockets import Accept, Decision, Refusal, Socket, Upgrade, connect, server_protocol
from tests.kit.waiting import PATIENCE, SCALE, SECONDS, until

KEY = "worker-key"


class FakeGateway:
    """Listens on a unix socket; knows at most one host."""

    def __init__(self, path: Path, lease_s: float = 6.0) -> None:
        self.path = path
        self.url = f"unix:{path}"
        self.lease_s = lease_s
        self.registers: list[workers.Register] = []
        self.beats: list[workers.Beat] = []
        self.workers: tuple[workers.Worker, ...] = ()
        self.ends: Mapping[workers.WorkerEnd, int] = {}
        self.wrapup_s = 0.0
        self.drained = False
        self.answer_beats: workers.ToHost | None = workers.Ok()
        self.registers_hosts = True
        self.socket: Socket | None = None
        self.refused = 0
        self.refuses_hosts = ""
        """Why it takes no host."""
        self.waiting = ""
        """A session that waits for a worker."""
        self._server: asyncio.Server | None = None

    async def open(self) -> FakeGateway:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(server_protocol(self._decide), str(self.path))
        return self

    async def open_tcp(self) -> int:
        """Listen on a loopback port in place of the path; returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(server_protocol(self._decide), "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def _decide(self, upgrade: Upgrade) -> Decision:
        if upgrade.headers.get("authorization") != f"Bearer {KEY}":
            self.refused += 1
            return Refusal(401)
        assert upgrade.path == workers.PATH
        return Accept(self, subprotocol=workers.SUBPROTOCOL, max_size=workers.MAX_MESSAGE)

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes, text: bool) -> None:
        match workers.decode_to_gateway(data):
            case workers.Register() if self.refuses_hosts:
                self.refused += 1
                assert self.socket is not None
                self.socket.close(1008, self.refuses_hosts)
            case workers.Register() as register:
                self.registers.append(register)
                self.workers = register.workers
                if self.registers_hosts:
                    self.tell(workers.Registered(0.1 * SCALE, self.lease_s, self.wrapup_s))
            case workers.Beat() as beat:
                self.beats.append(beat)
                self.workers, self.ends = beat.workers, beat.ends
                if self.answer_beats is not None:
                    self.tell(self.answer_beats)
                if self.waiting and not any(w.session == self.waiting for w in self.workers):
                    self.tell(workers.StartWorker(self.waiting))
            case workers.Drain():
                self.drained = True

    def closed(self, code: int, reason: str) -> None:
        self.socket = None

    def tell(self, message: workers.ToHost) -> None:
        assert self.socket is not None
        self.socket.send(workers.encode(message))

    def die(self) -> None:
        """Break off, as after a SIGKILL."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        if self.socket is not None:
            self.socket.abort()

    def leave(self) -> None:
        """Say that the gateway drains, and close the connection."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        if self.socket is not None:
            self.tell(workers.Drain())
            self.socket.close(1000)

    async def until(self, condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
        return await until(condition, seconds)

    def ready(self) -> list[workers.Worker]:
        return [w for w in self.workers if w.state == "ready" and not w.session]

    async def ready_worker(self) -> workers.Worker:
        ready: list[workers.Worker] = await self.until(self.ready)
        return ready[0]

    async def ready_besides(self, *others: workers.Worker) -> workers.Worker:
        """Wait for a ready worker besides these: what is known of them may be older than what was done to them."""
        ids = {w.id for w in others}
        found: workers.Worker = await self.until(lambda: next((w for w in self.ready() if w.id not in ids), None))
        return found

    async def link(self, worker: workers.Worker, session: str = "s1", fence: int = 1) -> Link:
        return await Link().dial(worker.url, self.registers[-1].link_key, session, fence)


class Link:
    """The gateway's end of a link to a real worker. rate: of its audio. seconds: it waits so long for what it wants."""

    def __init__(self, rate: int = 16000, seconds: float = 15) -> None:
        self.rate, self.seconds = rate, seconds
        self.socket: Socket
        self.said: list[Any] = []
        self.ended: int | None = None

    async def dial(self, url: str, key: str, session: str, fence: int | str) -> Link:
        headers = {pcm.SESSION_HEADER: session, pcm.FENCE_HEADER: str(fence)}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        await connect(url, self, headers=headers, subprotocol=pcm.SUBPROTOCOL, timeout=PATIENCE, max_size=pcm.MAX_AUDIO)
        return self

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes, text: bool) -> None:
        self.said.append(json.loads(data) if text else data)

    def closed(self, code: int, reason: str) -> None:
        self.ended = code

    def start(self, session: str = "s1", fence: int = 1, **fields: Any) -> Link:
        call = {"from": "+15550100", "to": "+15550199", "carrier": "twilio"}
        self.tell(pcm.Start(session, "a.b", "twilio", fence, call, self.rate, **fields))
        return self

    def tell(self, message: pcm.ToWorker) -> None:
        self.socket.send(pcm.encode(message))

    async def until(self, condition: Callable[[], Any]) -> None:
        await until(condition, self.seconds)

    async def echoes(self, audio: bytes = b"\x01\x02\x03\x04") -> None:
        """Wait until the bot says back what it hears."""
        before = self.said.count(audio)
        self.socket.send(audio)
        await self.until(lambda: self.said.count(audio) > before)

    async def end(self) -> int:
        await self.until(lambda: self.ended is not None)
        assert self.ended is not None
        return self.ended
