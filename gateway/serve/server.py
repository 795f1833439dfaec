"""`gateway serve`: one process from bind to drain. It listens first, warms its workers, then says that it is ready."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
import uvicorn

from gateway.node.node import Node
from gateway.node.overload import LoopLagMonitor, OverloadLimits
from gateway.node.static_workers import probe_static_workers, static_host
from gateway.serve.app import make_app, make_doorkeeper, make_node
from gateway.serve.drain import Drain
from gateway.serve.http_protocol import http_protocol
from gateway.serve.listening import HttpServer, address
from gateway.serve.local_hosts import HostProcesses, LocalHosts
from gateway.serve.ops import OpsServer, bind_ops
from gateway.sessions.lease_renewal import renew_claims, resend_after_registry_loss
from gateway.sessions.table import Sessions
from gateway.settings import Settings
from gateway.sockets import server_protocol

log = structlog.get_logger(__name__)


def key_for_local_hosts(settings: Settings) -> str:
    """Made of the secret, so that a gateway that comes back can take over the hosts of the one that died."""
    if not settings.secret:
        return secrets.token_urlsafe(24)
    secret = settings.secret[0].get_secret_value().encode()
    return hmac.new(secret, b"worker hosts of this machine", hashlib.sha256).hexdigest()


@dataclass
class Server:
    """A gateway process. sock: bound. on_ready: called once every local host has had its `min_warm`."""

    settings: Settings
    sock: socket.socket
    dev: bool = False
    parent: int | None = None
    """A pipe, at its end when the parent is, who keeps socket and hosts for several gateways; None: no parent."""
    on_ready: Callable[[Node], None] = lambda _: None

    async def run(self) -> int:
        """Serve until told to stop; the exit status. Raises SettingsError before anything is served."""
        loop = asyncio.get_running_loop()
        node = make_node(self.settings, dev=self.dev)
        sessions = Sessions(node)
        local_key = key_for_local_hosts(self.settings)
        doorkeeper = make_doorkeeper(sessions, self.settings, dev=self.dev, local_key=local_key)
        processes = HostProcesses(self.settings, self.sock.getsockname(), local_key) if self.parent is None else None
        hosts = LocalHosts(node, self.settings, processes)
        config = uvicorn.Config(
            make_app(sessions, hosts.ready),
            http=http_protocol(lambda reason: node.refuse("http", reason)),
            ws=server_protocol(doorkeeper.decide),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=3,
        )
        web = HttpServer(config)
        stop = Drain(sessions, self.settings.server.drain_seconds, others=self.settings.registry != "memory")
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.on_signal, signum)
        if self.parent is not None:
            loop.add_reader(self.parent, stop.on_orphaned, self.parent)
        node.ticker.start()
        ops = self._serve_ops(node, hosts.ready)
        serving = asyncio.create_task(web.serve(sockets=[self.sock]), name="http")
        upkeep = [
            node.spawn(renew_claims(sessions), "renew claims"),
            node.spawn(resend_after_registry_loss(sessions), "resend after registry loss"),
            *self._static_workers(node),
        ]
        try:
            hosts.start()
            stopping = asyncio.create_task(stop.wait(), name="stop")
            announcing = asyncio.create_task(self._announce(node, hosts), name="announce")
            upkeep += [announcing, stopping]
            await asyncio.wait({serving, announcing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if announcing.done():
                announcing.result()  # raises what kept the gateway from being ready
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sessions.preopened.discard_all()
            await hosts.stop()  # while we can still tell them
            web.should_exit = True
            web.force_exit = stop.forced
            await asyncio.gather(serving, return_exceptions=True)
            for task in upkeep:
                task.cancel()
            node.ticker.stop()
            await node.rest.close()
            await node.registry.close()
            if ops is not None:
                await ops.stop()
        return 0

    def _serve_ops(self, node: Node, ready: Callable[[], bool]) -> OpsServer | None:
        server = self.settings.server
        # Two gateways in --dev shall do beside each other, unless somebody has asked for that very address.
        sock = bind_ops(
            server.ops_bind, or_any=self.parent is not None or (self.dev and "ops_bind" not in server.model_fields_set)
        )
        if sock is None:
            return None
        log.info("metrics and health", ops=f"http://{address(sock)}")
        return OpsServer(node, ready, sock)

    def _static_workers(self, node: Node) -> list[asyncio.Task[Any]]:
        tasks = []
        for section in self.settings.services:
            if section.workers:
                key = section.link_key[0].get_secret_value() if section.link_key else ""
                host = static_host(section.host, section.protocol, section.workers, key)
                tasks.append(node.spawn(probe_static_workers(node, host), f"static workers of {section.host}"))
        return tasks

    async def _announce(self, node: Node, hosts: LocalHosts) -> None:
        for carrier in node.carriers.values():
            await asyncio.to_thread(carrier.warm_up)
        await asyncio.to_thread(node.rest.warm_up)
        # Not before: what importing SDKs costs the loop says nothing about calls.
        node.ticker.add(LoopLagMonitor(node, OverloadLimits(enter=self.settings.server.overload_lag_ms / 1000)))
        await hosts.until_ready()
        log.info("ready", public_url=node.public_url, carriers=sorted(node.carriers))
        self.on_ready(node)
