"""The session's worker: acquired, attached, lost, and acquired again, in one task.

    state      | what the task does                                  | next
    -----------+-----------------------------------------------------+-----------------------------------------------
    SEARCHING  | acquire_worker: a claim, and an open link to it     | ATTACHED; or the session ends: no worker,
               |                                                     | another node has the call, or its bot's protocol
               |                                                     | cannot carry the stream's codec
    ATTACHED   | waits until the link closes; audio goes by without  | FINISHED: the bot is done (`bot_end`); the call
               |                                                     | ends: superseded (4001), or too many starts;
               |                                                     | SEARCHING: the worker is lost
    FINISHED   | nothing: what the bot said is played to its end     |

A stream that brings a claim of its own starts the task again. The session's own task is told of nothing but the end.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from functools import partial
from typing import Protocol

import structlog

from gateway.media.endpoints import LinkEndpoint
from gateway.media.relay import Relay
from gateway.media.types import Stream
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import FactEvent, Facts
from gateway.pool.registry import Claim
from gateway.protocol import pcm
from gateway.protocol.codes import CloseCode, EndReason
from gateway.protocol.workers import Worker
from gateway.sessions.bot_end import is_done, workers_to_avoid
from gateway.sessions.bot_news import BotNews
from gateway.sessions.bot_state import BotState, StreamOfBot
from gateway.sessions.bot_wait import BotWait
from gateway.sessions.current_bridge import CurrentBridge
from gateway.sessions.events import BotFinished, SessionEvent, Superseded, WorkerEnded
from gateway.sessions.open_link import call_header
from gateway.sessions.preconnect import PreopenedLinks
from gateway.sessions.worker_search import OpenLink, Unavailable, WorkerRequest, acquire_worker, ask_until_answered
from serializers.call_data import CallData

MIN_STABLE_SECONDS = 5.0
"""A worker that is connected to once more, and breaks again within this, is not tried a third time."""


class State(Enum):
    """See the module's docstring."""

    SEARCHING = auto()
    ATTACHED = auto()
    FINISHED = auto()


class SessionView(Protocol):
    """What the worker's side needs of its session. stream, call: None before its first stream."""

    id: str
    facts: Facts
    stream: Stream | None
    call: CallData | None
    current: CurrentBridge

    def post(self, event: SessionEvent) -> None:
        """Wake the session's task."""

    async def remember(self, event: FactEvent) -> bool:
        """Merge the event into the facts. False: only into ours, as the registry is away."""


class WorkerLink:
    """Find, join and replace a session's workers.

    claim: confirmed; None for a caller on hold.
    link: None while there is no bot.
    starts: of workers, over the whole session.
    """

    def __init__(
        self,
        node: Node,
        service: Service,
        session: SessionView,
        claim: Claim | None,
        news: BotNews,
        preopened: PreopenedLinks,
    ) -> None:
        self.claim = claim
        self.link: LinkEndpoint | None = None
        self.starts = session.facts.starts
        self.state = State.SEARCHING
        self._node = node
        self._service = service
        self._session = session
        self._news = news
        self._preopened = preopened
        self._now = asyncio.get_running_loop().time
        self._wait = BotWait(session.facts, self._now)
        self._task: asyncio.Task[EndReason | Superseded | None] | None = None
        self._attached_at = 0.0
        self._lost_worker = False
        self._unheard = 0
        """Links that had broken before their bot got the call, as while the announcement was heard."""
        self._newer_here = False
        self._occupied: Worker | None = None
        """The static worker that those who probe them count as in a call of this session."""
        self._bot_state = BotState(node, session)
        self._stream_of_bot = StreamOfBot(node, session)
        self.end: EndReason | Superseded | None = None
        """How the session is to end, as there is no worker for it. None: there is one, or one is looked for."""
        self._log = structlog.get_logger(__name__).bind(
            session=session.id, carrier=session.facts.carrier, service=service.host
        )

    @property
    def without_worker(self) -> bool:
        """True while a worker is looked for, and after a search that found none."""
        return self._task is not None and self.state is State.SEARCHING

    def use_claim(self, claim: Claim | None) -> None:
        """Go on with a new stream's claim. None: it brought none, and what there is, or is looked for, goes on."""
        if claim is None and self.without_worker:
            return
        bridge, present = self._session.current.bridge, self.claim.worker_id if self.claim is not None else ""
        if self.link is not None and claim is not None and claim.worker_id != present:
            self.close(CloseCode.SUPERSEDED)
        self.claim = claim or self.claim
        self._occupy(self.claim)
        if self.link is not None:
            bridge.tell(pcm.Status("reattached", {}))
        elif self.state is not State.FINISHED:
            # If a worker is looked for by an older claim, that search must not find itself superseded by our own.
            self.stop()
            self.state, self.end = State.SEARCHING, None
            self._task = self._node.spawn(self._serve(self.claim), f"worker of {self._session.id}")
            self._task.add_done_callback(self._served)

    def keep_claim(self, claim: Claim | None) -> None:
        """Release this with the session: the claim of a stream that it cannot take."""
        self.claim = claim or self.claim

    def keep_state(self, state: bytes) -> None:
        """Keep what the bot leaves for its successor."""
        self._bot_state.keep(state)

    def tell_who_answered(self) -> None:
        """Tell the bot who picked up, once it is known. One that comes later has it with its `start`."""
        if self.link is not None and (news := self._news.who_answered()) is not None:
            self._session.current.bridge.tell(news)

    # The task.

    async def _serve(self, claim: Claim | None) -> EndReason | Superseded | None:
        """Attach one worker after another. Returns how the session ends if there is none; None if the bot is done."""
        session, limits, current = self._session, self._node.limits, self._session.current
        avoid = frozenset[str]()
        while True:
            found = await self._acquire(claim, avoid)
            if isinstance(found, Unavailable):
                self._count_replacement("superseded" if found.superseded else "no_worker")
                return Superseded() if found.superseded else found.reason
            same = found.claim.protocol == current.protocol
            if not same and not current.use(found.claim.protocol, session.stream, self._now()):
                found.link.close()
                return EndReason.UNSUPPORTED_CODEC
            if not self.starts:
                await self._await_announcement(found.link)
            code = await found.link.wait_closed() if self._attach(found) else CloseCode.ABNORMAL_CLOSURE
            self.link, self.state = None, State.SEARCHING
            current.bridge.detach_link(self._now())
            brief = self._now() - self._attached_at < MIN_STABLE_SECONDS
            if brief and not found.link.spoke and isinstance(current.bridge, Relay):
                self._stream_of_bot.forget()  # it may not have had its `start`; twice does no harm
            if await is_done(self._node, found.claim, found.link, code):
                current.bridge.detach_link(self._now(), final=True)
                self.state = State.FINISHED
                current.bridge.after_playback(lambda: session.post(BotFinished()), self._now())
                return None
            if code == CloseCode.SUPERSEDED:
                return Superseded()
            if not found.link.gone.is_set():  # it does not answer
                found.link.abort()
            if self.starts + self._unheard >= limits.max_worker_starts:
                self._node.metrics.resumes["worker_lost", "too_many_starts"] += 1
                return EndReason.BOT_ERROR if code == CloseCode.BOT_RAISED else EndReason.WORKER_LOST
            self._log.warning("link lost, looking for a worker", code=code, worker=found.claim.worker_id)
            self._lost_worker = True
            broke_again = brief and not found.claim.fresh
            avoid = workers_to_avoid(self._node, found.claim, code, broke_again=broke_again)
            if not avoid and not (found.claim.worker is not None and found.claim.worker.is_local):
                await asyncio.sleep(limits.reconnect_after)  # a process of this machine that is gone refuses at once
            claim = None

    def _served(self, task: asyncio.Task[EndReason | Superseded | None]) -> None:
        """Post how the session is to end if the task has found no worker for it."""
        if task is not self._task or task.cancelled():  # a newer stream has started another, or the session ends
            return
        # A bug of ours must not leave the caller with hold audio.
        self.end = task.result() if task.exception() is None else EndReason.NO_WORKER
        if self.end is not None:
            self._session.post(WorkerEnded())

    async def _await_announcement(self, link: LinkEndpoint) -> None:
        """Wait until the caller has heard what they hear before their first bot."""
        try:
            await self._session.current.recording.announced(self._now())
        except asyncio.CancelledError:
            link.close()
            raise

    async def _acquire(self, claim: Claim | None, avoid: frozenset[str]) -> OpenLink | Unavailable:
        """Find a worker; the caller hears hold audio if it takes long."""
        self._wait.begin(claim, first=not (self.starts or self._unheard))
        link = self._preopened.take(claim) if claim is not None else None
        if claim is not None and link is not None:
            return OpenLink(link, claim)
        call, hold = self._session.call, self._service.when_full.kind == "hold"
        request = WorkerRequest(
            service=self._service.host,
            session=self._session.id,
            body=call.body if call else {},
            on_claim=self._on_claim,
            hold_until=self._now() + self._service.max_hold if hold and self._service.max_hold else 0.0,
            fence=self.claim.fence if self.claim is not None else 0,
            header=partial(call_header, self._session.facts, call),
        )
        return await acquire_worker(self._node, request, claim, avoid=avoid)

    def _on_claim(self, claim: Claim | None) -> None:
        """See `OnClaim`."""
        if claim is None:
            self._wait.note_queued()
        elif claim.worker is None:
            self._wait.note_starting()
        if claim is None or self.claim is None or claim.fence >= self.claim.fence:
            self.claim = claim
            if self._occupied is not None or (claim is not None and claim.static):
                self._occupy(claim)

    def _occupy(self, claim: Claim | None) -> None:
        """Tell those who probe static workers which one this session has. None: none any more."""
        occupied = claim.worker if claim is not None and claim.static else None
        watched = self._node.static_workers.get(self._service.host)
        if watched is None or (occupied and occupied.id) == (self._occupied and self._occupied.id):
            return
        if self._occupied is not None:
            watched.call_ended(self._occupied)
        self._occupied = occupied
        if occupied is not None:
            watched.call_began(occupied)

    def _attach(self, found: OpenLink) -> bool:
        """Join the worker to the bridge, and tell it of the call. False: its link has broken again meanwhile."""
        claim, bridge, call, now = found.claim, self._session.current.bridge, self._session.call, self._now()
        assert call is not None
        self._attached_at = now
        socket = found.link.bind(bridge)
        if socket is None:  # nor does it count as a start: the next bot is the first that the caller hears
            self._unheard += 1
            return False
        self.link, self.state = found.link, State.ATTACHED
        self.starts = self.starts + 1 if claim.fresh else max(1, self.starts)
        self._count_replacement("attached")
        if isinstance(bridge, Relay) and not claim.starts_bot_per_link:
            bridge.known_stream_id = self._stream_of_bot.known_to(claim.worker_id)
            if bridge.known_stream_id is None:
                self._stream_of_bot.note_told(claim.worker_id, call.stream_id or "")
        bridge.attach_link(socket, self._start_message(claim, call), now, self._news.for_new_bot(now))
        self._node.spawn(self._session.remember(self._wait.over(self.starts)), f"facts {self._session.id}")
        self._log.info("bot joined", worker=claim.worker_id, starts=self.starts)
        return True

    def _start_message(self, claim: Claim, call: CallData) -> pcm.Start:
        return pcm.Start(
            session_id=self._session.id,
            service_host=self._service.host,
            carrier=self._session.facts.carrier,
            fence=claim.fence,
            call=call.wire(),
            sample_rate=self._service.sample_rate,
            resumed=self.starts > 1,
            attempt=self.starts,  # the wire's word for it
            state=self._bot_state.value,
        )

    def _count_replacement(self, result: str) -> None:
        """Count what became of a lost worker's call, once."""
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
        self._session.current.bridge.detach_link(self._now())
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

    def leave_to_newer(self) -> None:
        """Let a newer session of this id, here, have what no stream has taken yet, and the place in the queue."""
        self._newer_here = True

    async def release(self, *, superseded: bool = False) -> None:
        """Release the slot, and leave the queue. superseded: another node has them now.

        A static worker rests first: it is a process that serves again, and nothing tells when its bot has wrapped up.
        """
        if superseded:
            self._occupy(None)
            return
        static = self.claim is not None and self.claim.static
        if static and self.starts:
            await asyncio.sleep(self._service.rest)
        self._occupy(None)  # before the release: it is offered when it has said again that it is ready
        # Else what is held expires by itself; but a static worker of a claim that ran out is not offered for hours.
        if not await ask_until_answered(self._node, self._release) and static:
            hours = self._node.leases.static / 3600
            self._log.warning("static worker not released: the registry is away", not_offered_hours=hours)

    async def _release(self) -> None:
        """Raises RegistryUnavailable."""
        registry, session = self._node.registry, self._session.id
        if self.claim is not None:
            await registry.release(session, self.claim.fence)
        # A search stopped in the queue, or between a claim and its confirmation.
        if self.state is State.SEARCHING and not self._newer_here:
            await registry.leave_queue(self._service.host, session)
            await registry.release(session, 0)
