"""The connections of worker hosts: `gateway.workers.v1`, one connection per host. What they say goes into the registry.

Not the hot path: one task per connection takes its messages in order, so that a slow registry slows no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import structlog

from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.node.worker_networks import HostPlace, Misplaced
from gateway.pool.registry import Host
from gateway.protocol import workers
from gateway.protocol.codes import CloseCode
from gateway.sockets import Socket

log = structlog.get_logger(__name__)

MAX_PENDING = 64
"""Messages of one host not yet looked at; more, and it is cut off: it will register again."""
LOCAL_HOST = "local-"
"""What the ids of hosts begin with that a gateway has started itself, and no other host's."""


class WorkerHostConnection:
    """The handler of one worker host's connection.

    peer: the address that it comes from, "" if that is not known.
    local: it has the key of the hosts that this gateway starts itself.
    """

    def __init__(self, node: Node, *, peer: str = "", local: bool = False) -> None:
        self._node = node
        self._local = local
        self._place = HostPlace(node.worker_networks, peer, local)
        self._socket: Socket | None = None
        self._inbox: asyncio.Queue[workers.ToGateway] = asyncio.Queue(MAX_PENDING)
        self._task: asyncio.Task[None] | None = None
        self.host: Host | None = None

    # Socket callbacks.

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self._task = self._node.spawn(self._serve(), "worker host")

    def received(self, data: bytes, text: bool) -> None:
        message = workers.decode_to_gateway(data) if text else None
        if message is None:
            return
        try:
            self._inbox.put_nowait(message)
        except asyncio.QueueFull:
            assert self._socket is not None
            self._socket.close(CloseCode.POLICY_VIOLATION, "too many messages")

    def closed(self, code: int, reason: str) -> None:
        if self.host is not None and self._node.hosts.get(self.host.id) is self:
            del self._node.hosts[self.host.id]
            # A node that drains is left by all its hosts: that is no news, and would bury why the gateway ends.
            tell = log.debug if self._node.draining else log.info
            tell("worker host left", host=self.host.id, service=self.host.service, code=code)
            if code != CloseCode.NORMAL_CLOSURE:
                self._node.registry.suspect_host(self.host.id)
        if self._task is not None:
            self._task.cancel()

    # To the host.

    def start_worker(self, session: str) -> None:
        self._say(workers.StartWorker(session))

    def drain(self) -> None:
        """No new sessions; the host ends when its calls are done and this socket is closed with 1000."""
        self._say(workers.Drain())

    def close(self) -> None:
        self._close(CloseCode.NORMAL_CLOSURE)

    def _close(self, code: CloseCode, reason: str = "") -> None:
        if self._socket is not None:
            self._socket.close(code, reason)

    def _say(self, message: workers.ToHost) -> None:
        if self._socket is not None:
            self._socket.send(workers.encode(message))

    # The task.

    async def _serve(self) -> None:
        while True:
            message = await self._inbox.get()
            try:
                match message:
                    case workers.Register():
                        await self._on_register(message)
                    case workers.Beat():
                        await self._on_beat(message)
                    case workers.Drain():
                        await self._on_drain()
            except RegistryUnavailable:
                log.warning("worker host message not stored: the registry is away")
                if not isinstance(message, workers.Beat):
                    # A beat comes again by itself; this one the host says once for each connection.
                    self._close(CloseCode.GOING_AWAY)
                    return
            except Exception:
                # Its messages would not be read any more: tell it, and it registers again.
                log.exception("worker host cut off: a bug", host=self.host.id if self.host is not None else "")
                self._close(CloseCode.INTERNAL_ERROR)
                return

    async def _on_register(self, message: workers.Register) -> None:
        service = self._node.services.get(message.service_host)
        if service is None:
            self._refuse("unknown_service", "no service has this --service-host", service=message.service_host)
            return
        if message.host.startswith(LOCAL_HOST) and not self._local:
            self._refuse("reserved_host", f"host ids that begin with {LOCAL_HOST} are the gateway's own")
            return
        if service.protocol not in (None, message.protocol):
            words = (
                f'its bot speaks {message.protocol}, and the service has protocol = "{service.protocol}": take it out'
            )
            self._refuse("wrong_protocol", words, service=message.service_host)
            return
        presented = (message.host, message.epoch, message.service_host)
        if self.host is not None and presented != (self.host.id, self.host.epoch, self.host.service):
            # Else one connection could name hosts without end, or drop another host's calls by taking its name.
            self._refuse("another_host", "one connection is for one host and one service", host=self.host.id)
            return
        addresses = await self._locate(message)
        if addresses is None:
            return
        host = Host(
            id=message.host,
            epoch=message.epoch,
            service=message.service_host,
            protocol=message.protocol,
            cap=message.cap,
            workers=_named_apart(message.host, message.workers, addresses),
            link_key=message.link_key,
            seq=message.seq,
        )
        running = [replace(run, worker=_name(message.host, run.worker)) for run in message.running]
        if not await self._node.registry.put_host(host, running):
            self._node.refuse("worker_host", "stale_epoch")
            self.close()
            return
        self.host = host
        self._node.hosts[host.id] = self
        self._node.protocols[host.service] = host.protocol
        self._node.registry.trust_host(host.id)
        self._update(message)
        leases = self._node.leases
        self._say(workers.Registered(leases.beat, leases.host, service.wrapup))
        log.info("worker host registered", host=host.id, service=host.service, cap=host.cap)

    async def _on_beat(self, message: workers.Beat) -> None:
        if self.host is None:
            self._say(workers.Gone())
            return
        addresses = await self._locate(message)
        if addresses is None:
            return
        named = _named_apart(self.host.id, message.workers, addresses)
        waiting = await self._node.registry.beat(self.host.id, self.host.epoch, named, message.seq)
        if waiting is None:
            self._say(workers.Gone())
            return
        self._update(message)
        self._node.metrics.note_ends(self.host.id, self.host.epoch, self.host.service, message.ends)
        self._say(workers.Ok())
        for session in waiting:
            self.start_worker(session)

    async def _locate(self, message: workers.Register | workers.Beat) -> Mapping[str, str] | None:
        """Return the address of each worker's URL, or None: one is not where it may be, and the host is sent off."""
        found = await self._place.locate(worker.url for worker in message.workers)
        if not isinstance(found, Misplaced):
            return found
        if found.permanent:
            self._refuse("worker_address", found.reason, address=found.address, peer=self._place.peer)
        else:
            log.warning("worker host disconnected, it may retry", reason=found.reason)
            self._close(CloseCode.GOING_AWAY, found.reason)
        return None

    def _refuse(self, reason: str, words: str, **details: str) -> None:
        """Send it off for good. words: what the host ends with, if it was never taken."""
        self._node.refuse("worker_host", reason, **details)
        self._close(CloseCode.POLICY_VIOLATION, words)

    def _update(self, message: workers.Register | workers.Beat) -> None:
        """Keep what the node itself wants to know of a host's workers."""
        assert self.host is not None
        ready = sum(worker.state == "ready" for worker in message.workers)
        self._node.note_ready(self.host.id, ready)
        if message.start_ms:
            self._node.start_seconds[self.host.service] = message.start_ms / 1000

    async def _on_drain(self) -> None:
        if self.host is not None:
            await self._node.registry.drain_host(self.host.id, self.host.epoch)


def _named_apart(
    host: str, known: tuple[workers.Worker, ...], addresses: Mapping[str, str]
) -> tuple[workers.Worker, ...]:
    """Every host has a w1 of its own; who is to be avoided must be known by more."""
    return tuple(replace(worker, id=_name(host, worker.id), address=addresses[worker.url]) for worker in known)


def _name(host: str, worker: str) -> str:
    return f"{host}/{worker}"
