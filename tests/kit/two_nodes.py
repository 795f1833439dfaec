"""Two nodes on one registry: a carrier's requests come to either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from gateway.media.ticker import Ticker
from gateway.metrics import Metrics
from gateway.pool.client import RegistryClient
from gateway.serve.app import make_app
from gateway.sessions.node_messages import read_mailbox
from gateway.sessions.table import Sessions
from gateway.sockets import server_protocol
from gateway.streams.authorize import UpgradeAuthorizer
from tests.kit.node import Gateway
from tests.kit.waiting import until


@asynccontextmanager
async def second_node(first: Gateway, *, first_answers: bool = True) -> AsyncIterator[Gateway]:
    """Another node beside the first one, with the same secret, services, registry and bots.

    first_answers: the first one reads its mailbox. Else it is as good as dead, to the second.
    """
    node = replace(
        first.node,
        id="the second",
        registry=RegistryClient(first.memory, leases=first.node.leases),
        ticker=Ticker(),
        metrics=Metrics(),
        hosts={},
        static_workers={},
        start_seconds={},
        peak_ready={},
        _tasks=set(),
    )
    node.ticker.start()
    second = Gateway(Sessions(node), first.bots)
    decide = UpgradeAuthorizer(second.sessions, dev=True).decide
    door = await asyncio.get_running_loop().create_server(server_protocol(decide), "127.0.0.1", 0)
    second.port = door.sockets[0].getsockname()[1]
    reading = (first, second) if first_answers else (second,)
    readers = [asyncio.create_task(read_mailbox(one.sessions)) for one in reading]
    transport = httpx.ASGITransport(make_app(second.sessions, ready=lambda: True))
    async with httpx.AsyncClient(transport=transport, base_url=node.public_url) as second.http:
        yield second
    for reader in readers:
        reader.cancel()
    for session in second.sessions:
        session.superseded()
    await until(lambda: not (second.sessions or node.tasks), complain="all of the second node has ended")
    second.sessions.preopened.discard_all()
    node.ticker.stop()
    door.close()
