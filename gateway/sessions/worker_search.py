"""From a claim to an open link: find a worker, connect to it, and if it does not answer take the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.errors import LinkError, LinkRefused, LinkTimeout, RegistryUnavailable
from gateway.media.endpoints import LinkEndpoint
from gateway.node.node import Node
from gateway.pool.registry import Claim, Stale
from gateway.protocol.codes import EndReason
from gateway.sessions.open_link import open_link
from gateway.sessions.preconnect import CONFLICT

log = structlog.get_logger(__name__)

ASK_AGAIN = 0.25
"""Seconds until a registry that is away is asked again."""
LOOK_AGAIN = 0.02
"""Seconds between two looks whether a host has started the worker."""

OnClaim = Callable[[Claim | None], None]
"""Told of each claim at once, so that it is renewed and released even if its worker is unreachable. None: the last
claim is gone and the session is queued; it must not be renewed, as the answer would be that another node has it.
"""


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a worker, and its link is open."""

    link: LinkEndpoint
    claim: Claim


@dataclass(frozen=True, slots=True)
class Unavailable:
    """There is no worker to be had. superseded: another node serves the session."""

    reason: EndReason
    superseded: bool = False


SUPERSEDED = Unavailable(EndReason.UNKNOWN_END, superseded=True)


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """Which session needs a worker.

    body: for the upgrade. hold_until: loop time until which the caller may wait for a slot; 0: not at all. fence: of
    the session's last claim; 0: it had none.
    """

    service: str
    session: str
    body: Mapping[str, Any]
    on_claim: OnClaim
    hold_until: float = 0.0
    fence: int = 0


async def acquire_worker(
    node: Node, request: WorkerRequest, claim: Claim | None, *, avoid: frozenset[str] = frozenset()
) -> Connected | Unavailable:
    """Open a link for this confirmed claim, or for the next one to be had. Never raises.

    claim: None to take a fresh one, which is given on the same worker if that lives. A worker that cannot be reached is
    passed over for another, within `connect_tries` and `connect_all`. avoid: workers not to be taken.
    """
    if claim is None and await _is_taken_over(node, request):
        return SUPERSEDED
    return await _Search(node, request, avoid).run(claim)


class _Search:
    """One search. Time spent waiting for a slot, or for a worker to start, does not count towards its deadline."""

    def __init__(self, node: Node, request: WorkerRequest, avoid: frozenset[str]) -> None:
        self._node = node
        self._request = request
        self._time = asyncio.get_running_loop().time
        self._deadline = self._time() + node.limits.connect_all
        self._tries = 0
        self._avoid = avoid
        self._avoid_if_possible = frozenset[str]()

    async def run(self, claim: Claim | None) -> Connected | Unavailable:
        while True:
            began = self._time()
            found = await self._with_worker(claim)
            claim = None
            match found:
                case Unavailable():
                    return found
                case Claim(worker=worker) if worker is not None and worker.id in self._avoid:
                    # Given again by a registry that has not heard of its death. Its host will tell, now or never.
                    if self._time() >= self._deadline:
                        return Unavailable(EndReason.NO_WORKER)
                    await asyncio.sleep(self._node.limits.redial)
                    continue
                case Stale():  # its worker died before we saw it
                    self._deadline += self._time() - began
                    self._tries += 1
                case Claim():
                    self._deadline += self._time() - began
                    outcome = await self._connect(found)
                    if outcome is not None:
                        return outcome
                    if self._time() >= self._deadline:
                        return Unavailable(EndReason.NO_WORKER)
            if self._tries >= self._node.limits.connect_tries:
                return Unavailable(EndReason.NO_WORKER)

    async def _with_worker(self, claim: Claim | None) -> Claim | Stale | Unavailable:
        """Return this claim, or a new one, with its worker."""
        found = claim or await claim_slot(self._node, self._request, self._avoid, self._avoid_if_possible)
        if isinstance(found, Claim):
            self._request.on_claim(found)
            if found.worker is None:
                return await _await_worker(self._node, self._request, found)
        return found

    async def _connect(self, claim: Claim) -> Connected | Unavailable | None:
        """Open the link. None: the worker is unreachable, and is avoided from now on."""
        assert claim.worker is not None
        node, link = self._node, LinkEndpoint(self._node.metrics.timed)
        try:
            await open_link(node, claim, link, self._request.body)
            return Connected(link, claim)
        except asyncio.CancelledError:
            link.close()  # it may have opened in the moment in which nobody needed it any more
            raise
        except LinkError as error:
            if isinstance(error, LinkRefused) and error.status == CONFLICT:
                return SUPERSEDED
            log.warning("worker unreachable", session=self._request.session, worker=claim.worker.id, error=str(error))
            node.registry.suspect(claim.worker.id)
            if isinstance(error, LinkTimeout):  # its whole machine may be gone: look on another one first
                self._avoid_if_possible |= {claim.host}
            self._tries += 1
            self._avoid |= {claim.worker.id}
            return None


async def _is_taken_over(node: Node, request: WorkerRequest) -> bool:
    """True if another node holds the session by now.

    This process may have been suspended: it finds its links dead, and a claim of its own would take the call away from
    the node that saved it.
    """
    if not request.fence or request.session in node.registry.claims_in_flight:
        return False
    try:
        now = await node.registry.look(request.session, request.fence)
    except RegistryUnavailable:
        return False
    return isinstance(now, Stale) and now.spent and request.session not in node.registry.claims_in_flight


async def claim_slot(
    node: Node,
    request: WorkerRequest,
    avoid: frozenset[str] = frozenset(),
    avoid_if_possible: frozenset[str] = frozenset(),
) -> Claim | Unavailable:
    """Return a confirmed claim; if the pool is full, wait in its queue as long as the caller may be held.

    avoid: workers and hosts not to be taken. avoid_if_possible: nor these, unless there is nothing else.
    """
    time = asyncio.get_running_loop().time
    outage_until = max(request.hold_until, time() + node.limits.outage_grace)
    while True:
        held = request.hold_until - time()
        try:
            claimed = await node.registry.claim(
                request.service, request.session, avoid=avoid | avoid_if_possible, queue=held > 0
            )
            if isinstance(claimed, Claim):
                confirmed = await _confirm(node, request, claimed)
                if isinstance(confirmed, Claim):
                    return confirmed
                if confirmed.spent:
                    return SUPERSEDED
            elif avoid_if_possible:  # the place in the queue, which the session has now, goes before newcomers
                avoid_if_possible = frozenset()
            elif held <= 0:
                request.on_claim(None)
                return Unavailable(EndReason.HOLD_TIMEOUT if request.hold_until else EndReason.NO_WORKER)
            else:
                request.on_claim(None)
                await node.registry.freed(request.service, min(held, node.leases.queued / 3))
        except RegistryUnavailable:
            if time() >= outage_until:
                return Unavailable(EndReason.NO_WORKER)
            await asyncio.sleep(ASK_AGAIN)


async def _confirm(node: Node, request: WorkerRequest, claim: Claim) -> Claim | Stale:
    """Confirm the claim. Its fence is the session's even if this search is canceled meanwhile.

    Renewing an older fence would be answered by: another node has it.
    """

    async def confirm() -> Claim | Stale:
        found = await node.registry.confirm(claim.session, claim.attempt)
        if isinstance(found, Claim):
            request.on_claim(found)
        return found

    return await asyncio.shield(asyncio.ensure_future(confirm()))


async def _await_worker(node: Node, request: WorkerRequest, claim: Claim) -> Claim | Stale | Unavailable:
    """Wait for the worker that the claim's host starts. Stale: the claim is gone, take another.

    A caller who may be held waits as long as for a slot; any other, as long as this bot's workers take to start.
    """
    time = asyncio.get_running_loop().time
    began = heard = time()
    node.start_worker(claim.host, claim.session)
    while True:
        # Asked in each round: the host of a bot that has never started yet reports how long this start takes.
        deadline = max(request.hold_until, began + node.start_timeout(request.service))
        if time() >= min(deadline, heard + node.limits.outage_grace):
            return Unavailable(EndReason.HOLD_TIMEOUT if request.hold_until else EndReason.NO_WORKER)
        try:
            now = await node.registry.look(claim.session, claim.fence)
        except RegistryUnavailable:
            await asyncio.sleep(ASK_AGAIN)
            continue
        heard = time()
        if isinstance(now, Stale):
            return SUPERSEDED if now.spent else now
        if now.worker is not None:
            return now
        if claim.host in node.registry.suspected():
            return Stale(spent=False)
        await asyncio.sleep(LOOK_AGAIN)
