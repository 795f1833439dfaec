"""From a claim to an open link: find the worker, dial it, and if it does not answer take the next one."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
import structlog

from gateway.calls.node import Node
from gateway.errors import LinkError, LinkRefused, RegistryUnavailable
from gateway.pool.registry import Claim, Stale
from gateway.protocol import pcm
from gateway.protocol.ends import EndReason
from gateway.sockets import Handler, Socket, connect

log = structlog.get_logger(__name__)

MAX_BODY_QUERY = 4096
"""Bytes of JSON that go into the upgrade's `body=`: what Pipecat Cloud's image takes."""


@dataclass(frozen=True, slots=True)
class Linked:
    """A worker has the link. handler: the one that was made for this claim."""

    socket: Socket
    claim: Claim
    handler: Handler


@dataclass(frozen=True, slots=True)
class Unlinked:
    """There is no worker to be had. superseded: because somebody else serves the session."""

    reason: EndReason
    superseded: bool = False


async def link_up(
    node: Node,
    claim: Claim,
    handler: Callable[[Claim], Handler],
    body: Mapping[str, Any],
    *,
    avoid: frozenset[str] = frozenset(),
    again: bool = False,
) -> Linked | Unlinked:
    """Open a link for this confirmed claim; on failure claim again elsewhere, within `connect_tries` and `connect_all`.

    again: the claim's own link has broken: start with a fresh fence, on the same worker if it lives.
    Never raises.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + node.limits.connect_all
    tries = 0
    while True:
        try:
            if again:
                result = await _claim_again(node, claim, avoid)
                if isinstance(result, Unlinked):
                    return result
                claim = result
            if claim.worker is None:
                waited = loop.time()
                located = await _await_worker(node, claim)
                deadline += loop.time() - waited  # a worker that had to be started is not a worker that failed
                if isinstance(located, Unlinked):
                    return located
                claim = located
            assert claim.worker is not None
            listener = handler(claim)
            return Linked(await _dial(node, claim, listener, body), claim, listener)
        except RegistryUnavailable:
            return Unlinked(EndReason.NO_WORKER)
        except LinkRefused as refused:
            if refused.status == 409:
                return Unlinked(EndReason.UNKNOWN_END, superseded=True)
            failure: LinkError = refused
        except LinkError as error:
            failure = error
        tries += 1
        assert claim.worker is not None
        avoid |= {claim.worker.id}
        again = True
        log.warning("worker unreachable", session=claim.session, worker=claim.worker.id, error=str(failure))
        if tries >= node.limits.connect_tries or loop.time() >= deadline:
            return Unlinked(EndReason.NO_WORKER)


async def _claim_again(node: Node, claim: Claim, avoid: frozenset[str]) -> Claim | Unlinked:
    claimed = await node.ask(node.registry.claim(claim.service, claim.session, avoid=avoid))
    if not isinstance(claimed, Claim):
        return Unlinked(EndReason.NO_WORKER)
    confirmed = await node.ask(node.registry.confirm(claim.session, claimed.attempt))
    if isinstance(confirmed, Stale):
        return Unlinked(EndReason.UNKNOWN_END, superseded=confirmed.spent)
    return confirmed


async def _await_worker(node: Node, claim: Claim) -> Claim | Unlinked:
    """The host had a unit left but no ready worker: it starts one, and we wait for that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + node.limits.worker_start
    node.start_worker(claim.host, claim.session)
    while loop.time() < deadline:
        now = await node.ask(node.registry.look(claim.session, claim.fence))
        if isinstance(now, Stale):
            return Unlinked(EndReason.NO_WORKER, superseded=now.spent)
        if now.worker is not None:
            return now
        await asyncio.sleep(0.02)
    return Unlinked(EndReason.NO_WORKER)


async def _dial(node: Node, claim: Claim, handler: Handler, body: Mapping[str, Any]) -> Socket:
    assert claim.worker is not None
    headers = {pcm.SESSION_HEADER: claim.session, pcm.FENCE_HEADER: str(claim.fence)}
    if claim.link_key:
        headers["Authorization"] = f"Bearer {claim.link_key}"
    query = _body_query(body)
    url, target = claim.worker.url, "/ws" + query
    if not url.startswith("unix:"):
        url += query if "?" not in url else "&" + query[1:] if query else ""
    return await connect(
        url,
        handler,
        headers=headers,
        subprotocol=pcm.SUBPROTOCOL if claim.protocol == "pcm" else None,
        timeout=node.limits.link,
        max_size=pcm.MAX_AUDIO,
        target=target,
    )


def _body_query(body: Mapping[str, Any]) -> str:
    """`?body=` as Pipecat Cloud's image reads it: standard base64 of JSON, percent-encoded (a raw + gives None)."""
    if not body:
        return ""
    data = orjson.dumps(dict(body), default=str)
    if len(data) > MAX_BODY_QUERY:
        return ""
    return "?body=" + quote(base64.b64encode(data), safe="")
