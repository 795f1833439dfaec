"""Serve operators on an address of its own: /metrics, /livez, /readyz, /lbz.

The address is `[server] ops_bind`. Metrics say how much business is done, so they are not on the public port; the
health of the node is on both, as load balancers look where calls come in. The address is served until the last call
has ended.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Literal

import uvicorn
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.api.operation import Asked, Operation
from gateway.api.parts import Api
from gateway.errors import RegistryUnavailable, SettingsError
from gateway.metrics import CONTENT_TYPE
from gateway.node.node import Node
from gateway.node.tokens import WEBSOCKET
from gateway.pool.registry import PoolCounts
from gateway.serve.http_protocol import HttpLimits, http_protocol
from gateway.serve.listening import HttpServer, bind
from gateway.serve.routes import both_forms, make_starlette

SETTING = "server.ops_bind"
POOL_STATE_SECONDS = 0.5
"""An answer of the registry is used for so long."""


def health_routes(node: Node, ready: Callable[[], bool]) -> list[Route]:
    """ready: has every local host had its `min_warm`, and are the tables of the records there?"""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        if node.draining or not ready():
            return PlainTextResponse("draining\n" if node.draining else "not ready\n", status_code=503)
        return PlainTextResponse("ready\n")

    async def lbz(_: Request) -> Response:
        return PlainTextResponse("draining\n" if node.draining else "ok\n", status_code=404 if node.draining else 200)

    return [*both_forms("/livez", livez), *both_forms("/readyz", readyz), *both_forms("/lbz", lbz)]


class NodeStatus(BaseModel):
    """Whether a call would be served, and what by."""

    status: Literal["ready", "not ready"]
    reason: str | None = Field(None, description="Why it is not ready.")
    transports: list[str] = Field(
        description="The carriers that are on, and `websocket` where a relayed bot is served."
    )


def status_operation(node: Node, ready: Callable[[], bool]) -> Operation:
    """Make `/status`: the carriers that are on, and whether a call would be served. Strangers may ask for it."""
    pools = PoolState(node)

    async def status(_: Api, __: Asked) -> Response:
        """Say whether a call would be served, as Pipecat's runner does: 503 while none would be."""
        if node.draining:
            why = "draining"
        elif not ready():
            why = "not every worker host has had its min_warm, or the tables of the records are still being made"
        else:
            why = await pools.lacks(time.monotonic())
        known = {"status": "not ready", "reason": why} if why else {"status": "ready"}
        relays = any((one.protocol or node.protocols.get(one.host)) == "relay" for one in node.services)
        transports = [*node.carriers, *([WEBSOCKET] if relays else [])]
        return JSONResponse({**known, "transports": transports}, status_code=503 if why else 200)

    return Operation(
        name="status",
        method="GET",
        path="/status",
        scope=None,
        summary="Whether a call would be served.",
        handle=status,
        answers={200: NodeStatus, 503: NodeStatus},
        raw=True,
    )


class PoolState:
    """What the pools lack, asked of the registry now and then.

    Strangers may ask for it as often as they like.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._asking = asyncio.Lock()
        self._lacks = ""
        self._until = 0.0

    async def lacks(self, now: float) -> str:
        """Return why no call would be served, "" if one would.

        now: seconds of a monotonic clock.
        """
        async with self._asking:
            if now >= self._until:
                self._lacks = await self._look()
                self._until = now + POOL_STATE_SECONDS
            return self._lacks

    async def _look(self) -> str:
        told = await _slots(self._node)
        if not told and self._node.services:
            return "the registry does not answer"
        # A host without warm workers starts one for each call; while one is being started, none is there.
        if any(slots.ready or slots.busy or (slots.cap and not slots.starting) for slots in told.values()):
            return ""
        return "no worker is ready"


def make_ops_app(node: Node, ready: Callable[[], bool]) -> Starlette:
    """Make the application of `ops_bind`."""

    async def metrics(_: Request) -> Response:
        return Response(node.metrics.expose(await _slots(node)), media_type=CONTENT_TYPE)

    return make_starlette([*both_forms("/metrics", metrics), *health_routes(node, ready)])


async def _slots(node: Node) -> dict[str, PoolCounts]:
    """Return the slots of each service's pool.

    A pool of which the registry tells nothing is left out: no number is better than an old one.
    """
    hosts = [service.host for service in node.services]
    told = await asyncio.gather(*(node.registry.slots(host) for host in hosts), return_exceptions=True)
    for answer in told:
        if isinstance(answer, BaseException) and not isinstance(answer, RegistryUnavailable):
            raise answer
    return {host: slots for host, slots in zip(hosts, told, strict=True) if isinstance(slots, PoolCounts)}


def bind_ops(ops_bind: str, *, or_any: bool = False) -> socket.socket | None:
    """Bind the socket of `[server] ops_bind`; None for "".

    or_any: when the port is taken, take any free one of the same host.

    Raises SettingsError, naming the setting, when it cannot be had.
    """
    if not ops_bind:
        return None
    host, _, port = ops_bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    mend = 'name another "host:port", port 0 for any, or "" for none'
    try:
        return bind(host, int(port), setting=SETTING, mend=mend)
    except SettingsError:
        if not or_any:
            raise
    return bind(host, 0, setting=SETTING, mend=mend)


class OpsServer:
    """Serves `make_ops_app` on a listening socket. guard: put in front of it."""

    def __init__(
        self,
        node: Node,
        ready: Callable[[], bool],
        sock: socket.socket,
        *,
        guard: Callable[[ASGIApp], ASGIApp] | None = None,
    ) -> None:
        app = make_ops_app(node, ready)
        config = uvicorn.Config(
            guard(app) if guard is not None else app,
            http=http_protocol(lambda reason: node.refuse("ops", reason), HttpLimits(idle=32)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            limit_concurrency=64,  # a scraper and some probes; more is a mistake, and must not cost the calls
            timeout_keep_alive=75,  # longer than between two scrapes or probes: see `http_protocol`
            timeout_graceful_shutdown=1,
        )
        self._http = HttpServer(config)
        self._serving = asyncio.create_task(self._http.serve(sockets=[sock]), name="ops")

    async def stop(self) -> None:
        """Answer what has been asked, then close."""
        self._http.should_exit = True
        await asyncio.gather(self._serving, return_exceptions=True)
