"""`gateway serve`: one process from bind to drain.

It listens first, warms its workers, then says that it is ready.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from gateway.api.parts import Api
from gateway.dialout.conductor import DialOut
from gateway.errors import BotError
from gateway.node.node import Node
from gateway.node.overload import LoopLagMonitor, OverloadLimits
from gateway.node.static_workers import probe_static_workers, static_host
from gateway.serve.app import list_headers, make_app, make_authorizer, make_dialout, make_node, make_parts
from gateway.serve.browser_guard import BrowserGuard
from gateway.serve.drain import Drain
from gateway.serve.http_protocol import http_protocol
from gateway.serve.listening import HttpServer, address
from gateway.serve.local_hosts import USER_ERROR, HostProcesses, LocalHosts
from gateway.serve.ops import OpsServer, bind_ops
from gateway.serve.record_keeping import RecordKeeping, make_record_keeping
from gateway.sessions.lease_renewal import renew_claims, resend_after_registry_loss
from gateway.sessions.node_messages import read_mailbox
from gateway.sessions.recording import close_recordings, note_recovered
from gateway.sessions.table import Sessions
from gateway.settings import Settings
from gateway.sockets import Decision, Upgrade, server_protocol
from gateway.sockets.tls import client_tls_context
from gateway.streams.authorize import UpgradeAuthorizer

log = structlog.get_logger(__name__)


def key_for_local_hosts(settings: Settings) -> str:
    """Derive the key of local worker hosts from the secret.

    So a gateway that comes back can take over the hosts of the one that died.
    """
    if not settings.secret:
        return secrets.token_urlsafe(24)
    secret = settings.secret[0].get_secret_value().encode()
    return hmac.new(secret, b"worker hosts of this machine", hashlib.sha256).hexdigest()


def _is_ready(hosts: LocalHosts, keeping: RecordKeeping | None) -> bool:
    """Whether calls find a bot, and the tables of their records; a database that is away holds nothing up."""
    return hosts.ready() and (keeping is None or keeping.writer.tried.is_set())


@dataclass
class Server:
    """A gateway process.

    sock: bound. on_ready: called once every local host has had its `min_warm`.
    """

    settings: Settings
    sock: socket.socket
    dev: bool = False
    parent: int | None = None
    """A pipe, at its end when the parent is, who keeps socket and hosts for several gateways; None: no parent."""
    notes: Sequence[str] = ()
    """What the log is to say of the settings once they can be served, a warning each."""
    on_ready: Callable[[Node], None] = lambda _: None
    on_unusable: Callable[[BotError], None] = lambda _: None
    """Is told why a bot cannot be used, as soon as that is known: the gateway then ends."""

    async def run(self) -> int:
        """Serve until told to stop; return the exit status.

        Raises SettingsError before anything is served.
        """
        keeping = make_record_keeping(self.settings)
        node = make_node(self.settings, dev=self.dev, keeping=keeping)
        sessions = Sessions(node)
        local_key = key_for_local_hosts(self.settings)
        authorizer = make_authorizer(sessions, self.settings, dev=self.dev, local_key=local_key)
        processes = HostProcesses(self.settings, self.sock.getsockname(), local_key) if self.parent is None else None
        hosts = LocalHosts(node, self.settings, processes)
        dialout = make_dialout(sessions, self.settings)
        ready = partial(_is_ready, hosts, keeping)
        web = self._web(authorizer, ready, make_parts(sessions, self.settings, dialout, keeping))
        stop = self._drain(sessions, dialout)
        self._listen_for_the_end(stop)
        node.ticker.start()
        ops = self._serve_ops(node, ready)
        self._log_notes()
        serving = asyncio.create_task(web.serve(sockets=[self.sock]), name="http")
        upkeep = self._upkeep(sessions, dialout)
        if keeping is not None:
            keeping.start(sessions)
        try:
            hosts.start()
            stopping = asyncio.create_task(stop.wait(), name="stop")
            announcing = asyncio.create_task(self._announce(node, hosts, keeping), name="announce")
            upkeep += [announcing, stopping]
            await asyncio.wait({serving, announcing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if announcing.done():
                announcing.result()  # raises what kept the gateway from being ready
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        except BotError as error:
            self.on_unusable(error)  # at once: to end what has been started takes its time
            node.draining = node.refusing = True
            hosts.kill()  # what they say at their end would bury that line
            return USER_ERROR
        finally:
            sessions.preopened.discard_all()
            if keeping is not None:
                keeping.live.close()
            await hosts.stop()  # while we can still tell them
            web.should_exit = True
            web.force_exit = stop.forced
            await asyncio.gather(serving, return_exceptions=True)
            for task in upkeep:
                task.cancel()
            await self._close(node, keeping, ops)
        return 0

    @staticmethod
    async def _close(node: Node, keeping: RecordKeeping | None, ops: OpsServer | None) -> None:
        """Let go of what the process had. Recordings before records, which name them."""
        node.ticker.stop()
        await node.http_client.close()
        await node.worker_http.close()
        await close_recordings(node)
        if keeping is not None:
            await keeping.close()
        await node.registry.close()
        if ops is not None:
            await ops.stop()

    def _log_notes(self) -> None:
        for note in self.notes:
            log.warning(note)

    def _drain(self, sessions: Sessions, dialout: DialOut) -> Drain:
        others = self.settings.registry != "memory"
        return Drain(sessions, self.settings.server.drain_seconds, others=others, busy=lambda: dialout.busy)

    def _listen_for_the_end(self, stop: Drain) -> None:
        """Drain at a signal, and at the end of the process that started this one."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.on_signal, signum)
        if self.parent is not None:
            loop.add_reader(self.parent, stop.on_orphaned, self.parent)

    def _web(self, authorizer: UpgradeAuthorizer, ready: Callable[[], bool], api: Api) -> HttpServer:
        """Prepare the listener for webhooks and streams."""
        node = api.node
        app: ASGIApp = make_app(api.sessions, ready, api)
        decide: Callable[[Upgrade], Decision] = authorizer.decide
        if self.dev:
            guard = BrowserGuard(node)
            app, decide = guard.app(app), guard.decide(decide)
        config = uvicorn.Config(
            app,
            http=http_protocol(lambda reason: node.refuse("http", reason)),
            ws=server_protocol(decide, lists=list_headers(node), invalid=authorizer.invalid),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=self.settings.server.keep_alive_seconds,  # type: ignore[arg-type]  # call_later's
            timeout_graceful_shutdown=3,
        )
        return HttpServer(config)

    def _upkeep(self, sessions: Sessions, dialout: DialOut) -> list[asyncio.Task[Any]]:
        """Start what runs beside all calls until the server ends."""
        return [
            sessions.node.spawn(renew_claims(sessions), "renew claims"),
            sessions.node.spawn(read_mailbox(sessions), "read mailbox"),
            sessions.node.spawn(dialout.run(), "dial out"),
            sessions.node.spawn(resend_after_registry_loss(sessions), "resend after registry loss"),
            *self._static_workers(sessions.node),
        ]

    def _serve_ops(self, node: Node, ready: Callable[[], bool]) -> OpsServer | None:
        server = self.settings.server
        # Two gateways under --dev can run beside each other, unless the settings ask for that very address.
        sock = bind_ops(
            server.ops_bind, or_any=self.parent is not None or (self.dev and "ops_bind" not in server.model_fields_set)
        )
        if sock is None:
            return None
        log.info("metrics and health", ops=f"http://{address(sock)}")
        return OpsServer(node, ready, sock, guard=BrowserGuard(node).app if self.dev else None)

    def _static_workers(self, node: Node) -> list[asyncio.Task[Any]]:
        tasks = []
        for section in self.settings.services:
            if section.workers:
                key = section.link_key[0].get_secret_value() if section.link_key else ""
                host = static_host(section.host, section.protocol or "pcm", section.workers, key, section.slots)
                tasks.append(node.spawn(probe_static_workers(node, host), f"static workers of {section.host}"))
        return tasks

    async def _announce(self, node: Node, hosts: LocalHosts, keeping: RecordKeeping | None) -> None:
        for carrier in node.carriers.values():
            await asyncio.to_thread(carrier.warm_up)
        await asyncio.to_thread(node.http_client.warm_up)
        await asyncio.to_thread(client_tls_context)
        node.spawn(note_recovered(node), "recover recordings")
        # All modules are there now, and stay. To look through them in each full collection holds up all calls.
        gc.collect()
        gc.freeze()
        # Not before: what importing SDKs costs the loop says nothing about calls.
        node.ticker.add(LoopLagMonitor(node, OverloadLimits(enter=self.settings.server.overload_lag_ms / 1000)))
        await hosts.until_ready()
        if keeping is not None:
            await keeping.writer.tried.wait()
        log.info("ready", public_url=node.public_url, carriers=sorted(node.carriers))
        self.on_ready(node)
