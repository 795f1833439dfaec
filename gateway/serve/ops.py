"""What operators ask, on an address of its own (`[server] ops_bind`): /metrics, /livez, /readyz, /lbz.

Metrics say how much business is done, so they are not on the public port; the health of the node is on both, as load
balancers look where calls come in. The address is served until the last call has ended.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.errors import RegistryUnavailable, SettingsError
from gateway.metrics import CONTENT_TYPE
from gateway.node.node import Node
from gateway.pool.registry import Slots
from gateway.serve.http_protocol import http_protocol
from gateway.serve.listening import HttpServer, bind

SETTING = "server.ops_bind"


def health_routes(node: Node, ready: Callable[[], bool]) -> list[Route]:
    """ready: has every local host had its `min_warm`?"""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        if node.draining or not ready():
            return PlainTextResponse("draining\n" if node.draining else "not ready\n", status_code=503)
        return PlainTextResponse("ready\n")

    async def lbz(_: Request) -> Response:
        return PlainTextResponse("draining\n" if node.draining else "ok\n", status_code=404 if node.draining else 200)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/lbz", lbz)]


def make_ops_app(node: Node, ready: Callable[[], bool]) -> Starlette:
    """The routes of `ops_bind`."""

    async def metrics(_: Request) -> Response:
        return Response(node.metrics.expose(await _slots(node)), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/metrics", metrics), *health_routes(node, ready)])


async def _slots(node: Node) -> dict[str, Slots]:
    """Of each service's pool; of none that the registry does not tell of: no number is better than an old one."""
    hosts = [service.host for service in node.services]
    told = await asyncio.gather(*(node.registry.slots(host) for host in hosts), return_exceptions=True)
    for answer in told:
        if isinstance(answer, BaseException) and not isinstance(answer, RegistryUnavailable):
            raise answer
    return {host: slots for host, slots in zip(hosts, told, strict=True) if isinstance(slots, Slots)}


def bind_ops(ops_bind: str, *, or_any: bool = False) -> socket.socket | None:
    """The socket of `[server] ops_bind`, None for "". or_any: when it is taken, any free port of the same host.

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
    """Serves `make_ops_app` on a listening socket."""

    def __init__(self, node: Node, ready: Callable[[], bool], sock: socket.socket) -> None:
        config = uvicorn.Config(
            make_ops_app(node, ready),
            http=http_protocol(lambda reason: node.refuse("ops", reason)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            limit_concurrency=64,  # a scraper and some probes; more is a mistake, and must not cost the calls
            timeout_graceful_shutdown=1,
        )
        self._http = HttpServer(config)
        self._serving = asyncio.create_task(self._http.serve(sockets=[sock]), name="ops")

    async def stop(self) -> None:
        """Answer what has been asked, then close."""
        self._http.should_exit = True
        await asyncio.gather(self._serving, return_exceptions=True)
