"""A node on loopback with real sockets and a scripted bot: everything real but the worker's process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from lxml import etree

from gateway.carriers import CARRIERS
from gateway.carriers.base import RestCall
from gateway.node.limits import CallLimits
from gateway.node.node import Node
from gateway.node.services import Service, Services
from gateway.node.tokens import Signer
from gateway.pool.client import RegistryClient
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.registry import Host, Leases
from gateway.protocol import pcm
from gateway.protocol.workers import Worker
from gateway.serve.app import make_app
from gateway.sessions.table import Sessions
from gateway.sockets import Accept, Refusal, Socket, connect, server_protocol
from gateway.streams.authorize import UpgradeAuthorizer
from tests.kit.waiting import PATIENCE, until

SERVICE = "support.acme"
TIME = 0.2
"""What waits in the product for a bot or on hold waits this share of it here."""


class Bot:
    """One worker: answers upgrades by its script, keeps what it is told, says what the test wants."""

    def __init__(self) -> None:
        self.refuse: int | None = None
        self.socket: Socket | None = None
        self.headers: list[dict[str, str]] = []
        self.queries: list[str] = []
        self.told: list[dict] = []
        self.relayed: list[bytes] = []
        """Text of the carrier's wire, which has `event` where ours has `type`."""
        self.audio = bytearray()
        self.closed_with: int | None = None
        self.connections = 0
        self.drops = False
        """It breaks every link as soon as it has the call."""

    def decide(self, upgrade):
        self.headers.append(dict(upgrade.headers))
        self.queries.append(upgrade.query)
        if self.refuse:
            return Refusal(self.refuse)
        return Accept(_BotEar(self), subprotocol=pcm.SUBPROTOCOL, max_size=pcm.MAX_AUDIO)

    def say(self, **message) -> None:
        self.socket.send(json.dumps(message))

    def of(self, kind: str) -> list[dict]:
        return [m for m in self.told if m["type"] == kind]

    async def until(self, kind: str, n: int = 1) -> dict:
        await until(lambda: len(self.of(kind)) >= n, complain=lambda: f"the bot was told {n} {kind}: {self.told}")
        return self.of(kind)[n - 1]

    def of_wire(self, event: str) -> list[dict]:
        """What came of the carrier's own messages of this kind."""
        return [told for told in map(json.loads, self.relayed) if told["event"] == event]

    async def until_wire(self, event: str, n: int = 1) -> dict:
        await until(lambda: len(self.of_wire(event)) >= n, complain=lambda: f"the bot got {n} {event}: {self.relayed}")
        return self.of_wire(event)[n - 1]


class _BotEar:
    def __init__(self, bot: Bot) -> None:
        self.bot = bot

    def opened(self, socket) -> None:
        self.bot.socket = socket
        self.bot.connections += 1

    def received(self, data, text) -> None:
        if text and b'"event"' in data:
            self.bot.relayed.append(data)
        elif text:
            self.bot.told.append(json.loads(data))
            if self.bot.told[-1]["type"] == "stop":
                self.bot.socket.close()
            elif self.bot.drops:
                self.bot.socket.abort()
        else:
            self.bot.audio += data

    def closed(self, code, reason) -> None:
        self.bot.closed_with = code


@dataclass
class Carrier:
    """A carrier's stream: a client socket that keeps what it hears."""

    heard: list[dict] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    code: int | None = None
    socket: Socket | None = None

    def opened(self, socket) -> None:
        self.socket = socket

    def received(self, data, text) -> None:
        self.raw.append(data)
        try:
            self.heard.append(json.loads(data))
        except ValueError:
            pass

    def closed(self, code, reason) -> None:
        self.code = code

    def send(self, message: dict | str | bytes) -> None:
        self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def until_closed(self) -> int:
        await until(lambda: self.code is not None, complain="the carrier's stream is closed")
        return self.code

    async def until(self, event: str, n: int = 1) -> dict:
        def found() -> list[dict]:
            return [m for m in self.heard if m.get("event") == event]

        await until(lambda: len(found()) >= n, complain=lambda: f"the carrier heard {n} {event}: {self.heard}")
        return found()[n - 1]


class Gateway:
    """The node, its port, its bots, and what a carrier does with them."""

    def __init__(self, sessions: Sessions, bots: list[Bot]) -> None:
        self.sessions = sessions
        self.node = sessions.node
        self.bots = bots
        self.port = 0
        self.worker_urls: list[str] = []
        self.http: httpx.AsyncClient | None = None

    @property
    def memory(self) -> MemoryRegistry:
        """The registry itself, behind the node's client."""
        return self.node.registry.registry

    def limit(self, **seconds: float) -> None:
        """Set limits of its calls, by their names: by default a machine that stands still for seconds reaches none."""
        self.node.limits = replace(self.node.limits, **seconds)

    @property
    def bot(self) -> Bot:
        return self.bots[0]

    def starts(self) -> list[dict]:
        """Of all bots."""
        return [told for bot in self.bots for told in bot.of("start")]

    async def started(self, n: int = 1) -> None:
        """So many bots have been started."""
        await until(lambda: len(self.starts()) >= n, complain=lambda: f"{n} bots have started: {self.starts()}")

    async def a_bot_hears(self, size: int = 1) -> None:
        """So much audio."""
        await until(lambda: any(len(bot.audio) >= size for bot in self.bots), complain=f"a bot hears {size} bytes")

    async def open(self, path: str, headers: dict[str, str] | None = None) -> Carrier:
        carrier = Carrier()
        await connect(
            f"ws://127.0.0.1:{self.port}{path}", carrier, headers=headers or {}, timeout=PATIENCE, max_size=2**20
        )
        return carrier

    async def voice(self, call_id: str = "CA1", **fields: str) -> httpx.Response:
        form = {
            "CallSid": call_id,
            "AccountSid": "AC1",
            "From": "+15550100001",
            "To": "+15550100000",
            "CallStatus": "ringing",
            "Direction": "inbound",
        } | fields
        return await self.http.post("/webhooks/twilio/voice", data=form)

    async def resume(self, call_id: str = "CA1", query: str = "", **fields: str) -> httpx.Response:
        form = {"CallSid": call_id, "AccountSid": "AC1", "CallStatus": "in-progress"} | fields
        return await self.http.post(f"/webhooks/twilio/resume{query}", data=form)

    async def stream_path(self, call_id: str = "CA1") -> str:
        return self.path_in(await self.voice(call_id))

    def path_in(self, answer: httpx.Response) -> str:
        """Of the stream that the answer asks for."""
        [url] = etree.fromstring(answer.content).xpath("//Stream/@url")
        return "/ws/" + url.split("/ws/")[1]

    async def call(self, call_id: str = "CA1") -> Carrier:
        """A call as far as its bot's `start`."""
        carrier = await self.open(await self.stream_path(call_id))
        carrier.send(start(call_id))
        return carrier


def start(call_id: str = "CA1", stream_id: str = "MZ1", **custom: str) -> dict:
    return {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": "AC1",
            "streamSid": stream_id,
            "callSid": call_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": custom,
        },
        "streamSid": stream_id,
    }


MEDIA = {
    "event": "media",
    "sequenceNumber": "2",
    "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": "/" * 213 + "w=="},
    "streamSid": "MZ1",
}


@pytest.fixture
def service() -> Service:
    return Service(host=SERVICE, default=True, numbers=("+15550100000",), wrapup=30.0 * TIME)


@pytest.fixture
def static_workers() -> bool:
    """Whether the workers are a static host's, who know nothing of us."""
    return False


@pytest.fixture
async def gateway(service, static_workers):
    """One node, two workers."""
    async with node_on_loopback(service, static_workers=static_workers) as made:
        yield made


@contextlib.asynccontextmanager
async def node_on_loopback(service: Service, *, static_workers: bool = False) -> AsyncIterator[Gateway]:
    """One node, two workers. static_workers: they are a static host's, who know nothing of us."""
    before = open_sockets()
    bots = [Bot(), Bot()]
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(server_protocol(bot.decide), "127.0.0.1", 0) for bot in bots]
    urls = [f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws" for server in servers]
    leases = Leases()
    registry = MemoryRegistry(leases)
    limits = replace(CallLimits(), start_timeout=PATIENCE, reattach_timeout=PATIENCE, order_timeout=PATIENCE)
    public_url = "http://127.0.0.1:1"
    node = Node(
        public_url=public_url,
        registry=RegistryClient(registry, leases=leases),
        signer=Signer((b"a secret of the tests",)),
        services=Services([service]),
        carriers={name: entry.carrier(None, public_url=public_url, dev=True) for name, entry in CARRIERS.items()},
        leases=leases,
        limits=limits,
        dial_allowed=lambda to: to.startswith("+1555"),
    )
    workers = tuple(Worker(f"w{n}", url, "ready") for n, url in enumerate(urls))
    await registry.put_host(
        Host("h", 1, SERVICE, service.protocol or "pcm", 2, workers, "link-key", static=static_workers)
    )
    keeper = asyncio.create_task(_keep_alive(registry, workers))
    sessions = Sessions(node)
    node.ticker.start()
    authorizer = UpgradeAuthorizer(sessions, dev=True)
    door = await loop.create_server(server_protocol(authorizer.decide), "127.0.0.1", 0)
    made = Gateway(sessions, bots)
    made.port = door.sockets[0].getsockname()[1]
    made.worker_urls = urls
    transport = httpx.ASGITransport(make_app(sessions, ready=lambda: True))
    async with httpx.AsyncClient(transport=transport, base_url=public_url) as made.http:
        yield made
    keeper.cancel()
    for session in sessions:
        session.superseded()
    await until(lambda: not (sessions or node.tasks), complain="all sessions and tasks have ended")
    early = sessions.preopened.discard_all()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(link.gone.wait() for link in early))
    node.ticker.stop()
    for server in (*servers, door):
        server.close()
    await until(lambda: open_sockets() <= before, complain="all connections are closed, on both sides")


@pytest.fixture
def rest_requests(gateway, monkeypatch) -> list[str]:
    """What is asked of the carriers' REST APIs, which do it."""
    requests: list[str] = []

    async def ask(_, request: RestCall, *, seconds: float) -> bool:
        requests.append(request.url)
        return True

    monkeypatch.setattr(type(gateway.node.http_client), "ask", ask)
    for carrier in gateway.node.carriers.values():
        monkeypatch.setattr(type(carrier), "hang_up", lambda _, call_id, account: RestCall("POST", call_id))
        monkeypatch.setattr(type(carrier), "cancel_call", lambda _, call_id, *rest: RestCall("DELETE", call_id))
    return requests


def open_sockets() -> int:
    """Of this process."""
    links = (Path(entry) for entry in os.scandir("/proc/self/fd"))
    return sum(link.is_symlink() and os.readlink(link).startswith("socket:") for link in links)


async def _keep_alive(registry, workers) -> None:
    while True:
        await asyncio.sleep(1.0)
        await registry.beat("h", 1, workers)
