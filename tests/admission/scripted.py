"""A worker host and its workers without processes: real sockets and the real protocols, so that hundreds cost seconds.

It behaves as `gateway.worker` does towards a gateway: one call for each worker, which then ends and is replaced;
`warm` ready beyond those talking, `cap` in all; a beat at every change; `start` obeyed at once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

from gateway.protocol import pcm, workers
from gateway.sockets import Accept, Decision, Refusal, Socket, Upgrade, connect, server_protocol

KEY = "worker-key-of-the-tests"
LINK_KEY = "link-key-of-the-tests"
BIRTH = 0.005
"""Seconds from asking for a worker to its being ready: what a fork takes."""


class ScriptedWorker:
    """One slot. Notes its call; ends when it is told `stop`, or at once by `kill`."""

    def __init__(self, host: ScriptedHost, name: str, session: str) -> None:
        self.host = host
        self.id = name
        self.path = host.folder / f"{name}.sock"
        self.state: workers.WorkerState = "starting"
        self.session = session
        self.fence = 0
        self.call_id = ""
        self.socket: Socket | None = None
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(server_protocol(self._decide), str(self.path))
        self.state = "ready"

    def _decide(self, upgrade: Upgrade) -> Decision:
        session = upgrade.headers[pcm.SESSION_HEADER]
        if upgrade.headers.get("authorization") != f"Bearer {LINK_KEY}":
            return Refusal(401)
        if self._server is None:  # killed, with this connection already accepted
            return Refusal(500)
        if self.state != "ready" or self.session not in ("", session):
            self.host.asked_twice.append((self.id, self.session, session))
            return Refusal(503)
        self.session, self.fence, self.state = session, int(upgrade.headers[pcm.FENCE_HEADER]), "busy"
        self.host.top_up()
        self.host.changed()
        return Accept(self, subprotocol=pcm.SUBPROTOCOL, max_size=pcm.MAX_AUDIO)

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes, text: bool) -> None:
        message: dict[str, Any] = json.loads(data) if text else {}
        if message.get("type") == "start":
            self.call_id = message["call"]["call_id"]
            self.host.started.append((self.call_id, self.id, message["fence"]))
        elif message.get("type") == "stop" and self.socket is not None:
            self.state = "done"
            self.host.changed()
            self.socket.close()

    def closed(self, code: int, reason: str) -> None:
        self.end()

    def kill(self) -> None:
        """SIGKILL, as a gateway and a host would see it."""
        socket, self.socket = self.socket, None
        self.end()
        if socket is not None:
            socket.abort()

    def end(self) -> None:
        """Out of the pool."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)
        self.host.ended(self)


class ScriptedHost:
    """started: (call, worker, fence) in the order in which bots heard of their calls. asked_twice: a worker that was
    given to two. live, most: workers that are not done, and the most that there ever were.
    """

    def __init__(self, folder: Path, service: str, *, cap: int, warm: int) -> None:
        self.folder = folder
        self.service = service
        self.cap = cap
        self.warm = warm
        self.started: list[tuple[str, str, int]] = []
        self.asked_twice: list[tuple[str, str, str]] = []
        self.workers: dict[str, ScriptedWorker] = {}
        self.deaths: Counter[str] = Counter()
        self.socket: Socket | None = None
        self._count = itertools.count(1)
        self._beat_due = False
        self._births: set[asyncio.Task[None]] = set()
        self._closing = False
        self.epoch = 0
        self.stale: tuple[workers.Worker, ...] | None = None
        """What the gateway is told instead of what is: its news is late."""

    async def register(self, port: int) -> None:
        """Come to the gateway's door, warm."""
        self.epoch, self._closing = self.epoch + 1, False
        self.top_up()
        while self._births:
            await asyncio.wait(self._births)
        url = f"ws://127.0.0.1:{port}{workers.PATH}"
        headers = {"Authorization": f"Bearer {KEY}"}
        await connect(url, self, headers=headers, subprotocol=workers.SUBPROTOCOL, timeout=5.0, max_size=2**20)

    def talking(self) -> dict[str, str]:
        """Session -> worker, of those that serve one now."""
        return {worker.session: worker.id for worker in self.workers.values() if worker.state == "busy"}

    def by_call(self, call_id: str) -> ScriptedWorker:
        """Who serves this call now."""
        return next(w for w in self.workers.values() if w.call_id == call_id and w.state == "busy")

    # Workers.

    def top_up(self) -> None:
        idle = sum(w.state in ("starting", "ready") and not w.session for w in self.workers.values())
        live = sum(w.state != "done" for w in self.workers.values())
        for _ in range(min(self.warm - idle, self.cap - live)):
            self._spawn("")

    def _spawn(self, session: str) -> None:
        worker = ScriptedWorker(self, f"w{next(self._count)}", session)
        self.workers[worker.id] = worker
        birth = asyncio.create_task(self._bear(worker))
        self._births.add(birth)
        birth.add_done_callback(self._births.discard)

    async def _bear(self, worker: ScriptedWorker) -> None:
        await asyncio.sleep(BIRTH)
        if worker.id in self.workers:  # it may have been killed as it was born
            await worker.listen()
            self.changed()

    def ended(self, worker: ScriptedWorker) -> None:
        if self.workers.pop(worker.id, None) is not None and not self._closing:
            self.deaths[worker.state] += 1
            self.top_up()
            self.changed()

    def changed(self) -> None:
        """Beat, once for all that changes in the same breath."""
        if not self._beat_due:
            self._beat_due = True
            asyncio.get_running_loop().call_soon(self._beat)

    def states(self) -> tuple[workers.Worker, ...]:
        return tuple(workers.Worker(w.id, f"unix:{w.path}", w.state, w.session) for w in self.workers.values())

    def _beat(self) -> None:
        self._beat_due = False
        if self.socket is not None:
            self.socket.send(workers.encode(workers.Beat(self.stale or self.states(), 0)))

    def _register_message(self) -> workers.Register:
        running = tuple(workers.Running(w.session, w.fence, w.id) for w in self.workers.values() if w.state == "busy")
        return workers.Register("h", self.epoch, self.service, "pcm", self.cap, self.states(), running, LINK_KEY)

    # The gateway.

    def opened(self, socket: Socket) -> None:
        self.socket = socket
        socket.send(workers.encode(self._register_message()))

    def received(self, data: bytes, text: bool) -> None:
        match workers.decode_to_host(data):
            case workers.Registered(beat_s, _):
                asyncio.get_running_loop().call_later(beat_s, self._beat_every, beat_s)
            case workers.Gone():
                assert self.socket is not None
                self.socket.send(workers.encode(self._register_message()))
            case workers.StartWorker(session):
                if not any(w.session == session for w in self.workers.values()):
                    self._spawn(session)
                    self.changed()

    def closed(self, code: int, reason: str) -> None:
        self.socket = None

    def _beat_every(self, seconds: float) -> None:
        if self.socket is not None:
            self._beat()
            asyncio.get_running_loop().call_later(seconds, self._beat_every, seconds)

    async def close(self) -> None:
        """The machine is gone, and all that was on it."""
        self._closing = True
        if self.socket is not None:
            self.socket.close()
        while self._births:
            await asyncio.wait(self._births)
        for worker in list(self.workers.values()):
            worker.kill()
