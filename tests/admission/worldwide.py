"""Worker hosts, workers and carriers for the virtual clock: what they do is drawn by lot, deaths included."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from typing import Any
from urllib.parse import urlencode

from lxml import etree

from gateway.carriers.base import HttpAnswer, HttpRequest
from gateway.errors import LinkError, LinkRefused, LinkTimeout
from gateway.protocol import pcm, workers
from gateway.sessions.table import Sessions
from gateway.sockets import Accept, Handler, Upgrade
from gateway.streams.authorize import UpgradeAuthorizer
from gateway.webhooks.resume import resume
from gateway.webhooks.status import status
from gateway.webhooks.voice import voice
from tests.admission.virtual import OurEnd
from tests.kit.node import start

KEY = "worker-key-of-the-tests"


class Worker:
    """One slot. Its bot ends with its call, or by one of the ways to go wrong."""

    def __init__(self, host: Host, name: str, session: str) -> None:
        self.host, self.id, self.session = host, name, session
        self.state: workers.WorkerState = "ready"
        self.fence = 0
        self.link: OurEnd | None = None
        self.stopped = False

    @property
    def url(self) -> str:
        return f"unix:/{self.host.id}/{self.host.epoch}/{self.id}"

    def accept(self, handler: Handler, session: str, fence: int) -> OurEnd:
        self.host.world.happened["links"] += 1
        self.state, self.session, self.fence = "busy", session, fence
        self.link = OurEnd(handler, self._told, lambda code: self._broken(link, code))
        link = self.link
        handler.opened(link)
        self.host.beat()
        return link

    def _told(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            return
        loop, lot = asyncio.get_running_loop(), self.host.world.lot
        match json.loads(data)["type"]:
            case "start":
                self.host.world.happened["starts"] += 1
                way = lot.choices(["stays", "leaves", "raises", "dies", "hangs"], [80, 8, 5, 5, 2])[0]
                if way != "stays":
                    self.host.world.happened[f"bot {way}"] += 1
                    loop.call_later(lot.uniform(0.1, 3.0), getattr(self, f"_{way}"))
                if lot.random() < 0.3 and self.link is not None:
                    self.link.hear(json.dumps({"type": "state", "state": "bGVmdA=="}))
            case "stop":
                loop.call_later(lot.choice([0.0, 0.2, 60.0]) if lot.random() < 0.1 else 0.01, self._ends, 1000)

    def _leaves(self) -> None:
        self._ends(1000)

    def _raises(self) -> None:
        self._ends(1011)

    def _dies(self) -> None:
        self._ends(1006)

    def _hangs(self) -> None:
        """Its host finds that out, too."""
        if self.link is not None:
            self.link.deaf = self.stopped = True
            asyncio.get_running_loop().call_later(15.0, self._ends, 1006)

    def _broken(self, link: OurEnd, code: int) -> None:
        """The gateway has closed: in order, or the bot waits for another link."""
        if link is self.link and not self.stopped:
            self.link = None
            delay = 0.01 if code == 1000 else 15.0
            asyncio.get_running_loop().call_later(delay, lambda: self.link is None and self._ends(1000))

    def _ends(self, code: int) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.lose(code)
        self.state = "done"
        self.host.ended(self)


class Host:
    """A machine with workers: cap in all, warm of them ready."""

    def __init__(self, world: World, name: str, service: str, cap: int, warm: int) -> None:
        self.world, self.id, self.service, self.cap, self.warm = world, name, service, cap, warm
        self.epoch = 0
        self.workers: dict[str, Worker] = {}
        self.socket: OurEnd | None = None
        self.up = False
        self._count = itertools.count(1)

    def come_up(self) -> None:
        self.epoch, self.up, self.workers = self.epoch + 1, True, {}
        self.top_up()
        self.connect()

    def connect(self) -> None:
        """To the gateway's door, or again."""
        if self.up:
            headers = {"authorization": f"Bearer {KEY}"}
            decision = self.world.authorizer.decide(Upgrade(workers.PATH, "", headers, "127.0.0.1"))
            assert isinstance(decision, Accept)
            self.socket = OurEnd(decision.handler, self._told, self._left)
            decision.handler.opened(self.socket)
            self._register()

    def _register(self) -> None:
        running = tuple(workers.Running(w.session, w.fence, w.id) for w in self.workers.values() if w.state == "busy")
        assert self.socket is not None
        message = workers.Register(self.id, self.epoch, self.service, "pcm", self.cap, self._states(), running, "k")
        self.socket.hear(workers.encode(message))

    def _states(self) -> tuple[workers.Worker, ...]:
        return tuple(workers.Worker(w.id, w.url, w.state, w.session) for w in self.workers.values())

    def _told(self, data: str | bytes) -> None:
        match workers.decode_to_host(data.encode() if isinstance(data, str) else data):
            case workers.Gone():
                asyncio.get_running_loop().call_soon(self._register)
            case workers.StartWorker(session):
                if self.up and not any(w.session == session for w in self.workers.values()):
                    self.spawn(session)
                    self.beat()

    def _left(self, code: int) -> None:
        self.socket = None
        asyncio.get_running_loop().call_later(self.world.lot.uniform(0.1, 1.0), self.connect)

    def beat(self) -> None:
        if self.up and self.socket is not None:
            self.socket.hear(workers.encode(workers.Beat(self._states(), 0)))

    def top_up(self) -> None:
        idle = sum(w.state == "ready" and not w.session for w in self.workers.values())
        live = sum(w.state != "done" for w in self.workers.values())
        for _ in range(min(self.warm - idle, self.cap - live)):
            self.spawn("")

    def spawn(self, session: str) -> None:
        worker = Worker(self, f"w{next(self._count)}", session)
        self.workers[worker.id] = worker

    def ended(self, worker: Worker) -> None:
        if self.workers.get(worker.id) is worker:
            del self.workers[worker.id]
            self.top_up()
            self.beat()

    def lose_connection(self) -> None:
        socket, self.socket = self.socket, None
        if socket is not None:
            socket.lose(1006)
            asyncio.get_running_loop().call_later(self.world.lot.uniform(0.1, 1.0), self.connect)

    def die(self) -> None:
        """The machine is gone."""
        self.up = False
        socket, self.socket = self.socket, None
        if socket is not None:
            socket.lose(1006)
        for worker in list(self.workers.values()):
            worker._ends(1006)
        self.workers = {}


class World:
    """All that is outside of the gateway. happened: how often what did."""

    def __init__(self, sessions: Sessions, authorizer: UpgradeAuthorizer, seed: int) -> None:
        self.sessions, self.node, self.authorizer = sessions, sessions.node, authorizer
        self.lot = random.Random(seed)
        self.hosts: list[Host] = []
        self.happened: Counter[str] = Counter()

    async def dial(self, url: str, handler: Handler, *, headers: dict[str, str], timeout: float, **_: Any) -> OurEnd:
        """In the place of `gateway.sockets.connect`."""
        await asyncio.sleep(0.001)
        worker = next((w for host in self.hosts for w in host.workers.values() if w.url == url), None)
        if worker is None or not worker.host.up:
            raise LinkError("cannot connect")
        if worker.stopped:
            await asyncio.sleep(timeout)
            raise LinkTimeout("no answer")
        session, fence = headers[pcm.SESSION_HEADER], int(headers[pcm.FENCE_HEADER])
        if worker.state == "busy" and worker.session == session and fence > worker.fence:
            old, worker.link = worker.link, None
            if old is not None:
                old.lose(4001)
        elif worker.state != "ready" or worker.session not in ("", session):
            self.happened["worker refused"] += 1
            raise LinkRefused(503, "busy")
        return worker.accept(handler, session, fence)

    async def post(self, route: str, call_id: str, query: str = "", **fields: str) -> HttpAnswer:
        handle = {"voice": voice, "resume": resume, "status": status}[route]
        form = {"CallSid": call_id, "AccountSid": "AC1", "From": "+15550100001", "To": "+15550100000"} | fields
        headers = {"content-type": "application/x-www-form-urlencoded"}
        request = HttpRequest("POST", f"/webhooks/twilio/{route}", query, headers, urlencode(form).encode())
        return await handle(self.sessions, self.node.carriers["twilio"], request)

    def open(self, answer: HttpAnswer) -> OurEnd | None:
        """The stream that the answer asks for; None if it asks for none, or is refused."""
        urls = etree.fromstring(answer.body).xpath("//Stream/@url")
        if not urls:
            return None
        decision = self.authorizer.decide(Upgrade("/ws/" + urls[0].split("/ws/")[1], "", {}, "127.0.0.1"))
        if not isinstance(decision, Accept):
            return None
        stream = OurEnd(decision.handler)
        decision.handler.opened(stream)
        return stream

    async def call(self, call_id: str) -> None:
        """One caller, from ringing to the end of it."""
        way = self.lot.choices(
            ["talks", "is cut off", "comes back", "never streams", "never starts", "rings twice"], [70, 8, 8, 5, 3, 6]
        )[0]
        self.happened[way] += 1
        answer = await self.post("voice", call_id, CallStatus="ringing")
        if way == "rings twice":
            answer = await self.post("voice", call_id, CallStatus="ringing")
        stream = None if way == "never streams" else self.open(answer)
        if stream is not None:
            if way != "never starts":
                stream.hear(json.dumps(start(call_id)))
            await self._stay(stream, self.lot.uniform(0.1, 5.0))
            if way in ("is cut off", "comes back"):
                stream.lose(1006)
            elif way != "never starts" and stream.open:
                stream.hear(json.dumps({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": call_id}}))
                stream.lose(1000)
        if way == "comes back":
            await asyncio.sleep(self.lot.uniform(0.1, 12.0))
            stream = self.open(await self.post("resume", call_id, "gw_attempt=1", CallStatus="in-progress"))
            if stream is not None:
                stream.hear(json.dumps(start(call_id, "MZ2")))
                await self._stay(stream, self.lot.uniform(0.1, 5.0))
                stream.lose(1006 if self.lot.random() < 0.2 else 1000)
        elif stream is None:
            self.happened["not streamed"] += 1
        if self.lot.random() < 0.5:
            await asyncio.sleep(self.lot.uniform(0.0, 3.0))
            await self.post("status", call_id, CallStatus="completed")

    async def _stay(self, stream: OurEnd, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while stream.open and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.1)
