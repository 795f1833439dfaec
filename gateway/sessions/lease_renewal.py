"""What a node does by the clock beside its calls: renew its claims, tell a registry that has forgotten its calls, and
speak for static workers.

All go on for ever, whatever happens in one round: a node that stopped would lose its calls' slots after one lease.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

import structlog

from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.pool.registry import Host
from gateway.protocol.workers import LinkProtocol, Worker
from gateway.sessions.facts_sync import remind
from gateway.sessions.worker_search import ASK_AGAIN

log = structlog.get_logger(__name__)


async def renew_claims(node: Node) -> None:
    """For ever: renew what this node's sessions hold; those that somebody else holds now are let go."""
    while True:
        await asyncio.sleep(node.leases.renew * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret
        try:
            await _renew(node)
        except Exception:
            log.exception("claims not renewed: a bug; the next round may go better")


async def _renew(node: Node) -> None:
    held = {s.id: s.claim.fence for s in node.sessions.values() if s.claim is not None}
    if not held:
        return
    try:
        lost = await node.registry.renew(held)
    except RegistryUnavailable:
        log.warning("claims not renewed: the registry is away; running calls go on", calls=len(held))
        return
    for session in (
        lost - node.registry.claims_in_flight.keys()
    ):  # a fence of our own that is on its way took nothing from us
        live = node.sessions.get(session)
        if live is None or live.claim is None or live.claim.fence != held[session]:
            continue
        if not live.bot.seeking:  # else it has given this one up itself, and learns by the next who has the call
            live.superseded()


async def keep_told(node: Node) -> None:
    """For ever: a registry that does not know our mark has forgotten all else, too, and is told again, as soon as the
    hosts tell it of their workers: before the next node dies, whose calls nobody else could tell it of.
    """
    mark = f"told:{secrets.token_hex(8)}"
    while True:
        try:
            async with asyncio.timeout(node.leases.beat * random.uniform(0.8, 1.0)):  # noqa: S311 - jitter, not a secret
                await node.registry.registry_failed.wait()
        except TimeoutError:
            pass
        else:  # it was away, and may be back at any moment, empty
            node.registry.registry_failed.clear()
            await asyncio.sleep(ASK_AGAIN)
        try:
            if node.sessions and (await node.registry.once(mark, node.leases.facts)).first:
                await remind(tuple(node.sessions.values()))
        except RegistryUnavailable:
            pass
        except Exception:
            log.exception("the registry was not told: a bug; the next round may go better")


def static_host(service: str, protocol: LinkProtocol, urls: Iterable[str], link_key: str) -> Host:
    """Workers that know nothing of us, as a host of their own: each URL is one slot."""
    workers = tuple(Worker(url, url, "ready") for url in urls)
    return Host(f"static:{service}", 1, service, protocol, len(workers), workers, link_key, static=True)


async def keep_static(node: Node, host: Host) -> None:
    """For ever: look after static workers, and beat for them."""
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
    """What its /readyz says; who has no such page but answers is taken for ready.

    Who does not answer is busy, not gone: a call that runs on it must not be taken for dead by a probe.
    """
    url = urlsplit(worker.url)
    scheme = "https" if url.scheme == "wss" else "http"
    status = await node.rest.status(f"{scheme}://{url.netloc}/readyz", seconds=node.limits.link_timeout)
    return replace(worker, state="busy" if status in (None, 503) else "ready")
