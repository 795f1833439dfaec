"""Workers that know nothing of the gateway: a node asks them how they are, and beats for them as a host would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

import structlog

from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.pool.registry import STATIC_HOST, Host
from gateway.protocol.workers import LinkProtocol, Worker

log = structlog.get_logger(__name__)


def static_host(service: str, protocol: LinkProtocol, urls: Iterable[str], link_key: str) -> Host:
    """Make a host of these workers: each URL is one slot."""
    workers = tuple(Worker(url, url, "ready") for url in urls)
    return Host(f"{STATIC_HOST}{service}", 1, service, protocol, len(workers), workers, link_key, static=True)


async def probe_static_workers(node: Node, host: Host) -> None:
    """Probe the workers of this host, and beat for them, for ever."""
    known: tuple[Worker, ...] = ()
    while True:
        began = asyncio.get_running_loop().time()
        try:
            found = tuple(await asyncio.gather(*(_probe(node, worker) for worker in host.workers)))
            if found != known:
                log.info("static workers", service=host.service, ready=sum(w.state == "ready" for w in found))
                known = found
            await _beat(node, host, found)
        except Exception:
            log.exception("static workers not looked after: a bug; the next round may go better", service=host.service)
        took = asyncio.get_running_loop().time() - began
        await asyncio.sleep(max(0.0, node.leases.beat - took))


async def _beat(node: Node, host: Host, found: tuple[Worker, ...]) -> None:
    try:
        if await node.registry.beat(host.id, host.epoch, found) is None:
            await node.registry.put_host(replace(host, workers=found))
    except RegistryUnavailable:
        pass


async def _probe(node: Node, worker: Worker) -> Worker:
    """Ask its /readyz. A worker that has no such page but answers counts as ready.

    A worker that does not answer is busy, not gone: a call that runs on it must not be ended by a probe.
    """
    url = urlsplit(worker.url)
    scheme = "https" if url.scheme == "wss" else "http"
    status = await node.rest.status(f"{scheme}://{url.netloc}/readyz", seconds=node.limits.link_timeout)
    return replace(worker, state="busy" if status in (None, 503) else "ready")
