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

from gateway.errors import LinkError, LinkRefused, LinkTimeout, RegistryUnavailable
from gateway.node.node import Node
from gateway.pool.registry import Claim, Stale
from gateway.protocol import pcm
from gateway.protocol.codes import EndReason
from gateway.sockets import Handler, Socket, connect

log = structlog.get_logger(__name__)

ASK_AGAIN = 0.25
"""Seconds until a registry that is away is asked again."""
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


@dataclass(frozen=True, slots=True)
class Quest:
    """Who needs a worker. body: for the upgrade. hold_until: loop time until which he may wait for a slot; 0: not.
    fence: by which he had the last one; 0: he had none.
    """

    service: str
    session: str
    body: Mapping[str, Any]
    hold_until: float = 0.0
    fence: int = 0


async def link_up(
    node: Node,
    quest: Quest,
    claim: Claim | None,
    make_handler: Callable[[], Handler],
    took: Callable[[Claim | None], None],
    *,
    avoid: frozenset[str] = frozenset(),
) -> Linked | Unlinked:
    """Open a link for this confirmed claim, or for the next one to be had; never raises.

    claim: None to take a fresh one, which is given on the same worker if it lives. A worker that cannot be reached is
    passed over for another, within `connect_tries` and `connect_all`. took: is told of each claim at once, so that
    nobody forgets to give it back, and of None when the registry has taken the last one away while we wait for the
    next. avoid: workers not to be taken.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + node.limits.connect_all
    tries, shun = 0, frozenset[str]()
    if claim is None and await _is_taken_over(node, quest):
        return Unlinked(EndReason.UNKNOWN_END, superseded=True)
    while True:
        started = loop.time()
        found: Claim | Stale | Unlinked = claim or await take_slot(node, quest, took, avoid, shun)
        if isinstance(found, Claim):
            took(found)
        if isinstance(found, Claim) and found.worker is None:
            found = await _await_worker(node, found)
        if isinstance(found, Unlinked):
            return found
        if isinstance(found, Claim) and found.worker is not None and found.worker.id in avoid:
            # Given again by a registry that has not heard of its death: its host will tell, in a moment or never.
            if loop.time() >= deadline:
                return Unlinked(EndReason.NO_WORKER)
            await asyncio.sleep(node.limits.redial)
            claim = None
            continue
        deadline += loop.time() - started  # waiting for a slot, or for a worker to start, is no failure of one
        if isinstance(found, Stale):  # the worker that it was given died before we saw it
            tries, claim = tries + 1, None
            if tries >= node.limits.connect_tries:
                return Unlinked(EndReason.NO_WORKER)
            continue
        assert found.worker is not None
        handler = make_handler()
        try:
            return Linked(await dial(node, found, handler, quest.body), found, handler)
        except LinkRefused as refused:
            if refused.status == 409:
                return Unlinked(EndReason.UNKNOWN_END, superseded=True)
            failure: LinkError = refused
        except LinkError as error:
            failure = error
        log.warning("worker unreachable", session=quest.session, worker=found.worker.id, error=str(failure))
        node.registry.suspect(found.worker.id)
        if isinstance(failure, LinkTimeout):  # its whole machine may be gone: the next one is sought on another
            shun |= {found.host}
        tries, claim, avoid = tries + 1, None, avoid | {found.worker.id}
        if tries >= node.limits.connect_tries or loop.time() >= deadline:
            return Unlinked(EndReason.NO_WORKER)


async def _is_taken_over(node: Node, quest: Quest) -> bool:
    """Whether another node has the session by now. A process that was stopped for a while finds its links dead, and by
    a claim of its own would take the call back from whoever saved it.
    """
    if not quest.fence or quest.session in node.registry.claims_in_flight:
        return False
    try:
        now = await node.registry.look(quest.session, quest.fence)
    except RegistryUnavailable:
        return False
    return isinstance(now, Stale) and now.spent and quest.session not in node.registry.claims_in_flight


async def take_slot(
    node: Node,
    quest: Quest,
    took: Callable[[Claim | None], None],
    avoid: frozenset[str] = frozenset(),
    shun: frozenset[str] = frozenset(),
) -> Claim | Unlinked:
    """A confirmed claim; if the pool is full, in the order of the queue, as long as the caller may be held.

    avoid: workers and hosts not to be taken. shun: nor these, unless there is nothing else.
    """
    loop = asyncio.get_running_loop()
    registry = node.registry
    outage_until = max(quest.hold_until, loop.time() + node.limits.outage_grace)
    while True:
        held = quest.hold_until - loop.time()
        try:
            claimed = await node.registry.claim(quest.service, quest.session, avoid=avoid | shun, queue=held > 0)
            if shun and not isinstance(claimed, Claim):
                shun = frozenset()  # his place in the queue, which he has now, is before those who had no slot
                continue
            if not isinstance(claimed, Claim):
                took(None)
            if isinstance(claimed, Claim):
                confirmed = await _confirm(node, claimed, took)
                if isinstance(confirmed, Claim):
                    return confirmed
                if confirmed.spent:
                    return Unlinked(EndReason.UNKNOWN_END, superseded=True)
            elif held <= 0:
                return Unlinked(EndReason.HOLD_TIMEOUT if quest.hold_until else EndReason.NO_WORKER)
            else:
                await registry.freed(quest.service, min(held, node.leases.queued / 3))
        except RegistryUnavailable:
            if loop.time() >= outage_until:
                return Unlinked(EndReason.NO_WORKER)
            await asyncio.sleep(ASK_AGAIN)


async def _confirm(node: Node, claim: Claim, took: Callable[[Claim | None], None]) -> Claim | Stale:
    """`registry.confirm`. If nobody waits for the answer any more, the fence that it brings is the session's all the
    same: renewing an older one would say that somebody else has it.
    """

    async def confirm() -> Claim | Stale:
        found = await node.registry.confirm(claim.session, claim.attempt)
        if isinstance(found, Claim):
            took(found)
        return found

    return await asyncio.shield(asyncio.ensure_future(confirm()))


async def _await_worker(node: Node, claim: Claim) -> Claim | Stale | Unlinked:
    """The host had a unit left but no ready worker: it starts one, and we wait for that. Stale: to be claimed again."""
    loop = asyncio.get_running_loop()
    deadline, heard = loop.time() + node.limits.worker_start, loop.time()
    node.start_worker(claim.host, claim.session)
    while loop.time() < min(deadline, heard + node.limits.outage_grace):
        try:
            now = await node.registry.look(claim.session, claim.fence)
        except RegistryUnavailable:
            await asyncio.sleep(ASK_AGAIN)
            continue
        heard = loop.time()
        if isinstance(now, Stale):
            return Unlinked(EndReason.NO_WORKER, superseded=True) if now.spent else now
        if now.worker is not None:
            return now
        if claim.host in node.registry.suspected():
            return Stale(spent=False)
        await asyncio.sleep(0.02)
    return Unlinked(EndReason.NO_WORKER)


async def dial(node: Node, claim: Claim, handler: Handler, body: Mapping[str, Any]) -> Socket:
    """Open a link to the claim's worker. Raises LinkError."""
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
        timeout=node.limits.link_timeout,
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
