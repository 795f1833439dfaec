"""Gateways with real webhooks and streams, a scripted bot, and the simulated carriers behind their REST APIs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.dialout.conductor import DialOut
from gateway.dialout.dial_queue import DialQueue
from gateway.dialout.limits import DialoutLimits
from gateway.dialout.request import DialRequest
from gateway.dialout.shared_queue import KEY
from gateway.node.node import Node
from gateway.pool.client import RegistryClient
from gateway.pool.facts import Facts
from gateway.pool.memory.registry import MemoryRegistry
from gateway.pool.registry import Host, Leases, Registry
from gateway.protocol.workers import Worker
from gateway.serve.app import make_app, make_authorizer, make_node
from gateway.sessions.lease_renewal import renew_claims
from gateway.sessions.node_messages import read_mailbox
from gateway.sessions.table import Sessions
from gateway.settings import load
from gateway.simulator.rest import PlacedCall, SimulatedCarriers
from gateway.sockets import server_protocol
from tests.kit.http_server import serving
from tests.kit.node import SERVICE, Bot
from tests.kit.waiting import until

CARRIERS = ("twilio", "telnyx", "plivo", "exotel")
OURS, TO = "+15550100", "+15550190001"
PUBLIC = "http://127.0.0.1:1"
LIMITS = DialoutLimits(
    allow=("+1",),
    callers=(OURS,),
    cps=200.0,
    order_timeout=1.0,
    retry=0.02,
    poll_ringing=0.03,
    poll_answered=0.05,
    poll_empty_queue=0.1,
    worker_wait=0.01,
)
SETTINGS = """
public_url = "http://127.0.0.1:1"
secret = "a secret of the tests"

[[services]]
host = "support.acme"
default = true
wrapup_seconds = 1.0
when_full = "busy"
"""


def request(carrier: str, to: str = TO, **more) -> DialRequest:
    """A request for a call; its body is what the bot must have whole."""
    return DialRequest(carrier, to, OURS, **({"body": {"order": 17, "notes": ["ä", {"b": None}]}} | more))


@dataclass
class Gateway:
    """One node. port: of its webhooks and streams."""

    node: Node
    sessions: Sessions
    dialout: DialOut
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def facts(self, session: str) -> Facts:
        found = await self.node.registry.find(session)
        assert found is not None
        return found

    async def over(self, session: str) -> Facts:
        """The facts of the call, once it has ended."""

        async def ended() -> Facts | None:
            facts = await self.facts(session)
            return facts if facts.over else None

        return await until(ended, complain="the call is over")

    async def nothing_is_left(self) -> None:
        """No slot is taken, and no call is in the queue."""

        async def free() -> bool:
            return (await self.node.registry.slots(SERVICE)).used == 0

        await until(free, complain="every slot is free")
        await self.lane_is_empty()

    async def pause(self, seconds: float) -> None:
        """Give no turn for so long."""

        def change(text: str, now: float) -> tuple[str, None]:
            queue = DialQueue(text)
            queue.next_at = now + seconds
            return queue.write(), None

        await self.node.registry.change(KEY, 60.0, change)

    async def lane_is_empty(self) -> None:
        """No call is in the queue."""

        async def empty() -> bool:
            return not DialQueue(await self.node.registry.change(KEY, 60.0, lambda text, _: (text, text))).entries

        await until(empty, complain="the queue is empty")


class Rig:
    """Everything of one test. bots: one worker each."""

    def __init__(self, registry: Registry, bots: list[Bot], carriers: SimulatedCarriers) -> None:
        self.registry = registry
        self.bots = bots
        self.carriers = carriers
        self.gateways: list[Gateway] = []
        self.running: list[asyncio.Task[None]] = []
        """Of each gateway, what serves its queue."""

    @property
    def bot(self) -> Bot:
        """The one that has been told of a call."""
        return next(bot for bot in self.bots if bot.told)

    async def started(self) -> dict:
        """What a bot is told at its start."""
        await until(lambda: any(bot.of("start") for bot in self.bots), complain="a bot has started")
        return self.bot.of("start")[0]

    def dialled(self, to: str = TO) -> list[PlacedCall]:
        """The simulator's log."""
        return self.carriers.calls_to(to)


@asynccontextmanager
async def rig(
    tmp_path: Path,
    *,
    nodes: int = 1,
    workers: int = 2,
    limits: DialoutLimits = LIMITS,
    registry: Callable[[], Registry] | None = None,
    leases: Leases = Leases(),  # noqa: B008 - frozen
    **carriers,
) -> AsyncIterator[Rig]:
    """Gateways on one registry. registry: makes a client of it for each gateway; None: one in memory for all.

    carriers: for `SimulatedCarriers`; its webhooks go to the last gateway.
    """
    async with AsyncExitStack() as stack:
        shared = registry() if registry is not None else MemoryRegistry(leases)
        bots = [Bot() for _ in range(workers)]
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(server_protocol(bot.decide), "127.0.0.1", 0) for bot in bots]
        urls = [f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws" for server in servers]
        ready = tuple(Worker(f"w{n}", url, "ready") for n, url in enumerate(urls))
        await shared.put_host(Host("h", 1, SERVICE, "pcm", workers, ready, "link-key"))
        simulated = await stack.enter_async_context(SimulatedCarriers(public_url=PUBLIC, **carriers))
        made = Rig(shared, bots, simulated)
        file = tmp_path / "gateway.toml"
        file.write_text(SETTINGS + simulated.settings())
        tasks = [asyncio.create_task(_beat(shared, ready))]
        for _ in range(nodes):
            own = registry() if registry is not None else shared
            gateway = await stack.enter_async_context(_gateway(file, own, limits, leases))
            made.gateways.append(gateway)
            made.running.append(asyncio.create_task(gateway.dialout.run()))
        simulated.gateway_url = made.gateways[-1].url
        try:
            yield made
        finally:
            await _end(*tasks, *made.running)
            for server in servers:
                server.close()
            await shared.close()


@asynccontextmanager
async def _gateway(file: Path, registry: Registry, limits: DialoutLimits, leases: Leases) -> AsyncIterator[Gateway]:
    settings = load(str(file), {})
    node = replace(make_node(settings), registry=RegistryClient(registry, leases=leases), leases=leases)
    sessions = Sessions(node)
    node.ticker.start()
    decide = make_authorizer(sessions, settings, dev=False, local_key="local").decide
    gateway = Gateway(node, sessions, DialOut(sessions, limits))
    upkeep = [asyncio.create_task(renew_claims(sessions)), asyncio.create_task(read_mailbox(sessions))]
    try:
        async with serving(app=make_app(sessions, lambda: True), decide=decide) as served:
            gateway.port = served.port
            try:
                yield gateway
            finally:
                for session in sessions:
                    session.superseded()
                await until(lambda: not sessions, complain="all sessions have ended")
                await _end(*upkeep, *node._tasks)
    finally:  # behind the server: a webhook that came meanwhile would open both again
        await _end(*node._tasks)
        node.ticker.stop()
        await node.http_client.close()
        await registry.close()


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _beat(registry: Registry, workers: tuple[Worker, ...]) -> None:
    while True:
        await asyncio.sleep(1.0)
        await registry.beat("h", 1, workers)
