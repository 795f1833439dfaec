"""The session's worker: acquired, attached, lost, and acquired again, in one task.

    state      | what the task does                                  | next
    -----------+-----------------------------------------------------+-----------------------------------------------
    SEARCHING  | acquire_worker: a claim, and an open link to it     | ATTACHED; or the session ends: no worker, or
               |                                                     | another node has the call
    ATTACHED   | waits until the link closes; audio goes by without  | FINISHED: the bot closed it (1000, 1005); the
               |                                                     | session ends: superseded (4001), or too many
               |                                                     | starts; SEARCHING: the worker is lost
    FINISHED   | nothing: what the bot said is played to its end     |

A stream that brings a claim of its own starts the task anew. The session's own task is told of nothing but the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Protocol

import structlog

from gateway.errors import RegistryUnavailable
from gateway.media.bridge import Bridge
from gateway.media.endpoints import LinkEndpoint
from gateway.media.relay import Relay
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import FactEvent, Facts
from gateway.pool.registry import STATIC_HOST, Claim
from gateway.protocol import pcm
from gateway.protocol.codes import CloseCode, EndReason
from gateway.sessions.events import BotCommand, EndSession, Event, WorkerEnded
from gateway.sessions.preconnect import PreopenedLinks
from gateway.sessions.worker_search import Connected, Unavailable, WorkerRequest, acquire_worker
from serializers.call_data import CallData

BRIEF = 5.0
"""Seconds. A worker that is connected to once more, and breaks again within this, is not tried a third time."""
TRANSFER_FAILED = "transfer_failed"


class State(Enum):
    """See the module's docstring."""

    SEARCHING = auto()
    ATTACHED = auto()
    FINISHED = auto()


class SessionView(Protocol):
    """What the worker's side needs of its session. call: None before its first stream."""

    id: str
    facts: Facts
    call: CallData | None

    def post(self, event: Event) -> None:
        """Wake the session's task."""

    async def remember(self, event: FactEvent) -> bool:
        """Merge the event into the facts. False: only into ours, as the registry is away."""


class WorkerLink:
    """See the module's docstring.

    claim: confirmed; None for a caller on hold. link: None while there is no bot. starts: of workers, over the whole
    session.
    """

    def __init__(
        self,
        node: Node,
        service: Service,
        bridge: Bridge | Relay,
        session: SessionView,
        claim: Claim | None,
        preopened: PreopenedLinks,
    ) -> None:
        self.claim = claim
        self.link: LinkEndpoint | None = None
        self.starts = session.facts.starts
        self.state = State.SEARCHING
        self._node = node
        self._service = service
        self._bridge = bridge
        self._session = session
        self._preopened = preopened
        self._now = asyncio.get_running_loop().time
        self._task: asyncio.Task[None] | None = None
        self._attached_at = 0.0
        self._lost_worker = False
        self._bot_state = BotState(session)
        self.end: EndSession | None = None
        """How the session is to end, as there is no worker for it."""
        self._log = structlog.get_logger(__name__).bind(
            session=session.id, carrier=session.facts.carrier, service=service.host
        )

    @property
    def searching(self) -> bool:
        """A worker is looked for."""
        return self._task is not None and self.state is State.SEARCHING

    def use_claim(self, claim: Claim | None) -> None:
        """Go on with a new stream's claim. None: it brought none, and what there is, or is looked for, goes on."""
        if claim is None and self.searching:
            return
        if self.link is not None and claim is not None and _worker(claim) != _worker(self.claim):
            self.close(CloseCode.SUPERSEDED)
        self.claim = claim or self.claim
        if self.link is not None:
            self._bridge.tell(pcm.Status("reattached", {}))
        elif self.state is not State.FINISHED:
            # If a worker is looked for by an older claim, that search must not find itself superseded by our own.
            self.stop()
            self.state, self.end = State.SEARCHING, None
            self._task = self._node.spawn(self._run(self.claim), f"worker of {self._session.id}")

    def on_unresponsive(self) -> None:
        """Count the worker as lost: it does not answer."""
        if self.link is None:
            return
        self._log.warning("worker does not answer")
        if self._service.protocol == "relay":  # it has the call's whole state: no other worker could go on
            self.link.abort()
            self._session.post(EndSession(EndReason.WORKER_LOST))
        else:
            self.link.lose()

    def keep_state(self, state: bytes) -> None:
        """Keep what the bot leaves for its successor."""
        if self._bot_state.keep(state):
            self._node.spawn(self._bot_state.save(), f"state {self._session.id}")

    # The task.

    async def _run(self, claim: Claim | None) -> None:
        """Serve the session, and say how it is to end. A bug of ours must not leave the caller with hold audio."""
        end: EndSession | None = EndSession(EndReason.NO_WORKER)
        try:
            end = await self._serve(claim)
        except asyncio.CancelledError:
            end = None
            raise
        finally:
            if end is not None:
                self.end = end
                self._session.post(WorkerEnded())

    async def _serve(self, claim: Claim | None) -> EndSession | None:
        """One worker after another. None: the bot has finished."""
        avoid = frozenset[str]()
        while True:
            # Acquire.
            found = await self._acquire(claim, avoid)
            if isinstance(found, Unavailable):
                self._count_resume("superseded" if found.superseded else "no_worker")
                return EndSession(None if found.superseded else found.reason)
            # Attach, and wait.
            code = await found.link.wait_closed() if self._attach(found) else CloseCode.ABNORMAL_CLOSURE
            self.link, self.state = None, State.SEARCHING
            self._bridge.detach_link()
            # Decide.
            if self._is_finished(code, found.link.spoke):
                self.state = State.FINISHED
                self._bridge.drain(lambda: self._session.post(BotCommand("finished")), self._now())
                return None
            if code == CloseCode.SUPERSEDED:
                return EndSession(None)
            found.link.abort()
            if self.starts >= self._node.limits.max_worker_starts:
                self._node.metrics.resumes["worker_lost", "too_many_starts"] += 1
                return EndSession(EndReason.BOT_ERROR if code == CloseCode.BOT_RAISED else EndReason.WORKER_LOST)
            self._log.warning("worker lost, taking another", code=code, worker=_worker(self.claim))
            self._lost_worker = True
            # Again: on the same worker if it may live, and at once on another one if it said that it does not.
            avoid = await self._avoid_after(code, found)
            claim = None

    async def _acquire(self, claim: Claim | None, avoid: frozenset[str]) -> Connected | Unavailable:
        """Find a worker; the caller hears hold audio if it takes long."""
        link = self._preopened.claim(claim) if claim is not None else None
        if claim is not None and link is not None:
            return Connected(link, claim)
        call, hold = self._session.call, self._service.when_full.kind == "hold"
        request = WorkerRequest(
            service=self._service.host,
            session=self._session.id,
            body=call.body if call else {},
            on_claim=self._on_claim,
            hold_until=self._now() + self._service.max_hold if hold and self._service.max_hold else 0.0,
            fence=self.claim.fence if self.claim is not None else 0,
        )
        return await acquire_worker(self._node, request, claim, avoid=avoid)

    def _on_claim(self, claim: Claim | None) -> None:
        """Keep the newest claim, so that it is renewed and released even if its worker is unreachable.

        None: the last claim is gone and the session is queued.
        """
        if claim is None or self.claim is None or claim.fence >= self.claim.fence:
            self.claim = claim

    def _attach(self, found: Connected) -> bool:
        """Join the worker to the bridge, and tell it of the call. False: its link has broken again meanwhile."""
        claim, self.link, self.state = found.claim, found.link, State.ATTACHED
        self._attached_at = self._now()
        self._on_claim(claim)
        self._count_resume("attached")
        self.starts = self.starts + 1 if claim.fresh else max(1, self.starts)
        if not found.link.open or found.link.socket is None:
            return False
        found.link.bind(self._bridge)
        self._bridge.attach_link(found.link.socket, self._start_message(claim), self._now())
        if self._session.facts.continuation.value == TRANSFER_FAILED:
            self._bridge.tell(pcm.Status(TRANSFER_FAILED, {}))
        self._node.spawn(self._session.remember(FactEvent(starts=self.starts)), f"facts {self._session.id}")
        self._log.info("bot joined", worker=_worker(claim), attempt=self.starts)
        return True

    def _start_message(self, claim: Claim) -> pcm.Start:
        session = self._session
        assert session.call is not None
        return pcm.Start(
            session_id=session.id,
            service_host=self._service.host,
            carrier=session.facts.carrier,
            fence=claim.fence,
            call=session.call.wire(),
            sample_rate=self._service.sample_rate,
            resumed=self.starts > 1,
            attempt=self.starts,
            state=self._bot_state.value,
        )

    def _is_finished(self, code: int, spoke: bool) -> bool:
        """True if the bot is done, and its worker is not lost.

        Pipecat's image ends a call with any of 1000, 1005 and 1006, as it may not close its socket (peers.md). But a
        bot of that kind that has not said anything at all has crashed, or could not log in to its carrier.
        """
        if self._service.protocol == "relay":
            return code not in (CloseCode.BOT_RAISED, CloseCode.SUPERSEDED) and spoke
        return code in (CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RECEIVED)

    async def _avoid_after(self, code: int, lost: Connected) -> frozenset[str]:
        """Return which workers to avoid after this loss, when it is time to look for the next.

        A link that broke is opened once more, after a moment: the worker may live. That goes for one that does not
        answer, too: this process may have been suspended, and its 409 says that another node has the call.
        """
        in_vain = not lost.claim.fresh and self._now() - self._attached_at < BRIEF
        told = code in (CloseCode.BOT_RAISED, CloseCode.DRAINING) or self._service.protocol == "relay"
        if in_vain or told:
            return frozenset({_worker(self.claim)})
        await asyncio.sleep(self._node.limits.redial)
        return frozenset()

    def _count_resume(self, result: str) -> None:
        if self._lost_worker:
            self._lost_worker = False
            self._node.metrics.resumes["worker_lost", result] += 1

    # The end.

    def stop(self) -> None:
        """Look for no worker any more, and take the closing of the link for no loss."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def close(self, code: CloseCode) -> None:
        """Close the link, if there is one."""
        self.stop()
        self._bridge.detach_link()
        link, self.link = self.link, None
        if link is not None:
            link.close(code)

    async def wait_closed(self) -> None:
        """Wait until the worker is done, at most `wrapup` long: its slot stays taken until then."""
        if self.link is None:
            return
        try:
            async with asyncio.timeout(self._service.wrapup):
                await self.link.gone.wait()
        except TimeoutError:
            self._log.warning("the bot did not end with its call", seconds=self._service.wrapup)

    async def release(self) -> None:
        """Release the slot, or leave the queue.

        A static worker rests first: it is a process that serves again, and nothing tells when its bot has wrapped up.
        """
        registry, session = self._node.registry, self._session.id
        if self.claim is not None and self.claim.host.startswith(STATIC_HOST) and self.starts:
            await asyncio.sleep(self._service.rest)
        try:
            if self.claim is not None:
                await registry.release(session, self.claim.fence)
            else:
                await registry.leave(self._service.host, session)
                await registry.release(session, 0)
        except RegistryUnavailable:  # what is held expires by itself
            pass


class BotState:
    """What a bot leaves for its successor: the last one is kept, with the session's facts."""

    def __init__(self, session: SessionView) -> None:
        self.value = session.facts.state
        self._count = session.facts.state_seq
        self._saving = False
        self._remember: Callable[[FactEvent], Awaitable[bool]] = session.remember

    def keep(self, state: bytes) -> bool:
        """Take a new one. True: `save` must be called, as no save is under way."""
        self.value, self._count = state, self._count + 1
        idle, self._saving = not self._saving, True
        return idle

    async def save(self) -> None:
        """Write it to the facts, one write at a time, however often the bot says it."""
        saved = -1
        try:
            while saved != self._count:
                saved = self._count
                await self._remember(FactEvent(state=self.value, state_seq=saved))
        finally:
            self._saving = False


def _worker(claim: Claim | None) -> str:
    return claim.worker.id if claim is not None and claim.worker is not None else ""
