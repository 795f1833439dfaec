"""From a claim to an open link: find a worker, connect to it, and if it does not answer take the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.errors import LinkError, LinkTimeout, RegistryUnavailable
from gateway.media.endpoints import LinkEndpoint, TransitTimer
from gateway.node.node import Node
from gateway.node.static_workers import same_process
from gateway.pool.registry import Claim, Full, Stale
from gateway.protocol.codes import EndReason
from gateway.sessions.open_link import open_link

log = structlog.get_logger(__name__)

ASK_AGAIN = 0.25
"""Seconds until a registry that is away is asked again."""
LOOK_SOON = 0.02
LOOK_LATE = 0.25
"""Seconds between two looks whether a host has started the worker: the first ones, and those after a long wait."""

OnClaim = Callable[[Claim | None], None]
"""Told of each claim as soon as there is one, so that it is renewed and released even if its worker is unreachable; and
again when its worker has started. None: the last claim is gone, and the session is queued or the search given up; the
claim must not be renewed, as the answer would be that another node has it.
"""


@dataclass(frozen=True, slots=True)
class OpenLink:
    """An open link to a worker, and the claim that it is of."""

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

    body: for the upgrade.
    hold_until: loop time until which the caller may wait for a slot; 0: not at all.
    fence: of the session's last claim; 0: it had none.
    header: makes what the upgrade says of the call, see `open_link.call_header`.
    """

    service: str
    session: str
    body: Mapping[str, Any]
    on_claim: OnClaim
    hold_until: float = 0.0
    fence: int = 0
    header: Callable[[], str] = str
    make_link: Callable[[TransitTimer], LinkEndpoint] = LinkEndpoint

    @property
    def given_up(self) -> Unavailable:
        """How the session ends when no slot has come free in time."""
        return Unavailable(EndReason.HOLD_TIMEOUT if self.hold_until else EndReason.NO_WORKER)


async def acquire_worker(
    node: Node, request: WorkerRequest, claim: Claim | None, *, avoid: frozenset[str] = frozenset()
) -> OpenLink | Unavailable:
    """Open a link for this confirmed claim, or for the next one to be had.

    A worker that cannot be reached is passed over for another, within `connect_tries` and `connect_all`.

    claim: None to take a fresh one, which is given on the same worker if that lives.
    avoid: workers not to be taken.
    """
    if claim is None and await is_superseded(node, request.session, request.fence):
        return SUPERSEDED
    time = asyncio.get_running_loop().time
    deadline, tries, avoid_if_possible = time() + node.limits.connect_all, 0, frozenset[str]()
    extended = False
    while tries < node.limits.connect_tries and time() < deadline:
        began = time()
        found: Claim | Stale | Unavailable = claim or await claim_slot(node, request, avoid, avoid_if_possible)
        claim = None  # tried once: what follows is a claim of our own
        if isinstance(found, Claim) and found.worker is None:
            found = await _await_worker(node, request, found)
        if isinstance(found, Unavailable):
            return found
        waited = time() - began  # for a slot, or for a worker to start: that does not count
        if isinstance(found, Claim) and found.worker_id in avoid:
            # The registry has not heard yet that this worker is dead. Its host's next beat says so.
            if not extended:  # once: a host may go on reporting a worker that refuses
                deadline, extended = deadline + waited, True
            await asyncio.sleep(node.limits.reconnect_after)
            continue
        deadline += waited
        tries += 1
        if isinstance(found, Stale):  # its worker died before we saw it
            continue
        outcome = await _connect(node, request, found)
        if not isinstance(outcome, LinkError):
            return outcome
        avoid |= same_process(node, found)
        if isinstance(outcome, LinkTimeout):  # its whole machine may be gone: look on another one first
            avoid_if_possible |= {found.host}
    return Unavailable(EndReason.NO_WORKER)


async def _connect(node: Node, request: WorkerRequest, claim: Claim) -> OpenLink | Unavailable | LinkError:
    """Open the link. A LinkError: the worker is unreachable."""
    link = request.make_link(node.metrics.timed)
    try:
        await open_link(node, claim, link, request.body, request.header)
        return OpenLink(link, claim)
    except asyncio.CancelledError:
        link.close()  # it may have opened in the moment in which it was not needed any more
        raise
    except LinkError as error:
        if error.taken:
            return SUPERSEDED
        log.warning("worker unreachable", session=request.session, worker=claim.worker_id, error=str(error))
        node.registry.suspect(claim.worker_id)
        return error


async def is_superseded(node: Node, session: str, fence: int) -> bool:
    """True if another node holds the session by now. fence: of our last claim; 0: there was none.

    This process may have been suspended: it finds its links dead, and a claim of its own would take the call away from
    the node that saved it. But a claim of our own that is on its way gives a newer fence, too: so that is looked at
    before the question and after it.
    """
    if not fence or session in node.registry.claims_in_flight:
        return False
    try:
        current = await node.registry.get_claim(session, fence)
    except RegistryUnavailable:
        return False
    return isinstance(current, Stale) and current.spent and session not in node.registry.claims_in_flight


async def ask_until_answered(node: Node, ask: Callable[[], Awaitable[object]]) -> bool:
    """Ask the registry, and while it is away ask again, for one lease of a claim. False: in vain."""
    time = asyncio.get_running_loop().time
    until = time() + node.leases.confirmed
    while True:
        try:
            await ask()
            return True
        except RegistryUnavailable:
            if time() >= until:
                return False
        await asyncio.sleep(ASK_AGAIN)


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
        hold_left = request.hold_until - time()
        try:
            claimed = await node.registry.claim(
                request.service, request.session, avoid=avoid | avoid_if_possible, queue=hold_left > 0
            )
            if isinstance(claimed, Claim):
                confirmed = await asyncio.shield(_confirm(node, request, claimed))
                if isinstance(confirmed, Claim):
                    return confirmed
                if confirmed.spent:
                    return SUPERSEDED
                # else it expired, or its worker died, before it was confirmed: claimed again, as after an outage
            elif avoid_if_possible:  # the place in the queue, which the session has now, goes before newcomers
                avoid_if_possible = frozenset()
                continue
            elif isinstance(claimed, Full):  # not to be held any longer
                request.on_claim(None)
                return request.given_up
            else:
                request.on_claim(None)
                wait = min(hold_left, node.leases.queued / 3)
                await node.registry.wait_free(request.service, wait, claimed.freed)
                continue
        except RegistryUnavailable:
            pass
        if time() >= outage_until:
            return Unavailable(EndReason.NO_WORKER)
        await asyncio.sleep(ASK_AGAIN)


async def _confirm(node: Node, request: WorkerRequest, claim: Claim) -> Claim | Stale:
    """Confirm the claim. To be shielded: its fence is the session's even if its search is canceled meanwhile.

    If the session went on renewing the older fence, the registry would answer that another node has it.
    """
    found = await node.registry.confirm(claim.session, claim.attempt)
    if isinstance(found, Claim):
        request.on_claim(found)
    return found


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
            return request.given_up
        try:
            current = await node.registry.get_claim(claim.session, claim.fence)
        except RegistryUnavailable:
            await asyncio.sleep(ASK_AGAIN)
            continue
        heard = time()
        if isinstance(current, Stale):
            return SUPERSEDED if current.spent else current
        if current.worker is not None:
            request.on_claim(current)
            return current
        if claim.host in node.registry.suspected():
            return Stale(spent=False)
        await asyncio.sleep(next_look(heard - began))


def next_look(waited: float) -> float:
    """Return the seconds until the next look at a worker that starts, after this many: no start takes 10 % longer."""
    return min(max(LOOK_SOON, waited / 10), LOOK_LATE)
