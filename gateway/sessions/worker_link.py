"""The session's bot: sought, linked, lost and sought again. By what claim, on which worker, with what state.

Called by the session's task and the bridge, and never waits: what takes time runs beside, and comes back as an event.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from gateway.errors import RegistryUnavailable
from gateway.media.bridge import Bridge
from gateway.media.relay import Relay
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import FactEvent, Facts
from gateway.pool.registry import Claim
from gateway.protocol import pcm
from gateway.protocol.codes import CloseCode, EndReason
from gateway.sessions.events import End, Event, Link, LinkGone, Sought, Wish
from gateway.sessions.preconnect import take_early
from gateway.sessions.worker_search import Linked, Quest, Unlinked, link_up
from gateway.sockets import Socket
from serializers.call_data import CallData

BRIEF = 5.0
"""Seconds. A worker that is dialled once more, and breaks again within this, is not dialled a third time."""
TRANSFER_FAILED = "transfer_failed"


class SessionView(Protocol):
    """The session, as its bot's side sees it. call: None before its first stream."""

    id: str
    facts: Facts
    call: CallData | None

    def post(self, event: Event) -> None:
        """For the session's task."""

    async def remember(self, event: FactEvent) -> bool:
        """Fold the event into the facts; False: only into ours."""


class WorkerLink:
    """claim: confirmed; None for a caller on hold. link: None while there is no bot. starts: of workers, over the
    whole session.
    """

    def __init__(
        self, node: Node, service: Service, bridge: Bridge | Relay, owner: SessionView, claim: Claim | None
    ) -> None:
        self.node = node
        self.bridge = bridge
        self.claim = claim
        self.link: Link | None = None
        self.starts = owner.facts.starts
        self._service = service
        self._owner = owner
        self._now = asyncio.get_running_loop().time
        self._quest: asyncio.Task[None] | None = None
        self._quests = 0
        self._linked_at = 0.0
        self._again = False
        """The link is to a worker that this session had before."""
        self._lost_worker = False
        self._state = owner.facts.state
        self._state_seq = owner.facts.state_seq
        self._keeping: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(__name__).bind(
            session=owner.id, carrier=owner.facts.carrier, service=service.host
        )

    # A stream has come.

    def move_to(self, claim: Claim | None) -> None:
        """A new stream brought this claim. None: it brought none, and what there is or is sought goes on."""
        if claim is None and self._quest is not None:
            return
        if self.link is not None and claim is not None and _worker(claim) != _worker(self.claim):
            self.drop(CloseCode.SUPERSEDED)
        self.claim = claim or self.claim
        if self.link is not None:
            self.bridge.tell(pcm.Status("reattached", {}))
        else:  # if one is sought, by an older claim: that must not find itself superseded by our own
            self._seek(self.claim)

    # Seeking.

    @property
    def seeking(self) -> bool:
        """A worker is looked for."""
        return self._quest is not None

    def _seek(self, claim: Claim | None, *, avoid: frozenset[str] = frozenset(), after: float = 0.0) -> None:
        """Look for a worker, beside everything else; the caller hears hold audio if it takes long."""
        self.stop_seeking()
        early = take_early(self.node, claim) if claim is not None else None
        if early is not None and early.socket is not None:
            assert claim is not None
            early.side = self
            self._linked(early.socket, claim, early)
            return
        service, call, number = self._service, self._owner.call, self._quests
        hold = service.max_hold if service.when_full.kind == "hold" else 0.0
        hold_until = self._now() + hold if hold else 0.0
        fence = self.claim.fence if self.claim is not None else 0
        quest = Quest(service.host, self._owner.id, call.body if call else {}, hold_until, fence)

        async def seek() -> None:
            found: Linked | Unlinked = Unlinked(EndReason.NO_WORKER)
            try:
                if after:
                    await asyncio.sleep(after)
                found = await link_up(self.node, quest, claim, lambda: Link(self), self._hold_claim, avoid=avoid)
            finally:  # a bug of ours must not leave the caller with hold audio for ever
                self._owner.post(Sought(number, found))

        self._quest = self.node.spawn(seek(), f"link {self._owner.id}")

    def stop_seeking(self) -> None:
        """Whatever the present quest still finds comes too late."""
        self._quests += 1
        if self._quest is not None:
            self._quest.cancel()
            self._quest = None

    def _hold_claim(self, claim: Claim | None) -> None:
        """The newest fence is ours to renew and to give back, whether or not its worker can be reached. None: we have
        none while we wait for the next, and must not ask for its renewal: that would say that we were superseded.
        """
        if claim is None or self.claim is None or claim.fence >= self.claim.fence:
            self.claim = claim

    # What comes back.

    def heed(self, event: Sought | LinkGone) -> End | None:
        """News of a quest or a link. Returns how the session ends, if it does."""
        match event:
            case Sought(number, Linked(socket, claim, Link() as link)):
                if number != self._quests:
                    socket.close(CloseCode.NORMAL)
                else:
                    self._linked(socket, claim, link)
            case Sought(number, Unlinked(reason, superseded)) if number == self._quests:
                self._quest = None
                self._note_resume("superseded" if superseded else "no_worker")
                return End(None if superseded else reason)
            case LinkGone(link, code) if link is self.link:
                return self._lose_link(code)
        return None

    def _linked(self, socket: Socket, claim: Claim, link: Link) -> None:
        self._quest, self.link = None, link
        self._linked_at, self._again = self._now(), not claim.fresh
        self._hold_claim(claim)
        self._note_resume("attached")
        self.starts = self.starts + 1 if claim.fresh else max(1, self.starts)
        if link.gone.is_set():
            self._owner.post(LinkGone(link, CloseCode.ABNORMAL))
            return
        self.bridge.attach_link(socket, self._start_message(claim), self._now())
        if self._owner.facts.continuation.value == TRANSFER_FAILED and self.link is not None:
            self.bridge.tell(pcm.Status(TRANSFER_FAILED, {}))
        self.node.spawn(self._owner.remember(FactEvent(starts=self.starts)), f"facts {self._owner.id}")
        self._log.info("bot joined", worker=_worker(claim), attempt=self.starts)

    def _start_message(self, claim: Claim) -> pcm.Start:
        owner = self._owner
        assert owner.call is not None
        return pcm.Start(
            session_id=owner.id,
            service_host=self._service.host,
            carrier=owner.facts.carrier,
            fence=claim.fence,
            call=owner.call.wire(),
            sample_rate=self._service.sample_rate,
            resumed=self.starts > 1,
            attempt=self.starts,
            state=self._state,
        )

    def link_closed(self, link: Link, code: int) -> None:
        self._owner.post(LinkGone(link, code))

    def dead(self) -> None:
        """The bridge says that the worker does not answer."""
        link = self.link
        if link is None:
            return
        self._log.warning("worker does not answer")
        if self._service.protocol == "relay":  # nobody else could go on with it
            if link.socket is not None:
                link.socket.abort()
            self._owner.post(End(EndReason.WORKER_LOST))
        else:
            self._owner.post(LinkGone(link, CloseCode.ABNORMAL))

    def _lose_link(self, code: int) -> End | None:
        """What a closed link means. None: the bot has said its last, or another is sought."""
        link, self.link = self.link, None
        self.bridge.detach_link()
        if self._service.protocol == "relay" or code in (CloseCode.NORMAL, CloseCode.NO_STATUS):
            self.bridge.drain(lambda: self._owner.post(Wish("hangup", "done")), self._now())
            return None
        if code == CloseCode.SUPERSEDED:
            return End(None)
        if link is not None and link.socket is not None:
            link.socket.abort()
        if self.starts >= self.node.limits.max_worker_starts:
            self.node.metrics.resumes["worker_lost", "too_many_starts"] += 1
            return End(EndReason.BOT_ERROR if code == CloseCode.INTERNAL_ERROR else EndReason.WORKER_LOST)
        self._log.warning("worker lost, taking another", code=code)
        self._lost_worker = True
        in_vain = self._again and self._now() - self._linked_at < BRIEF
        if in_vain or code in (
            CloseCode.INTERNAL_ERROR,
            CloseCode.DRAINING,
        ):  # it said so itself: no use in asking again
            self._seek(None, avoid=frozenset({_worker(self.claim)}))
        else:  # also one that is mute: perhaps we were stopped, and its 409 tells us that another node has the call
            self._seek(None, after=self.node.limits.redial)
        return None

    def _note_resume(self, result: str) -> None:
        if self._lost_worker:
            self._lost_worker = False
            self.node.metrics.resumes["worker_lost", result] += 1

    # What the bot leaves for the next.

    def keep_state(self, state: bytes) -> None:
        self._state, self._state_seq = state, self._state_seq + 1
        if self._keeping is None or self._keeping.done():
            self._keeping = self.node.spawn(self._keep_state(), f"state {self._owner.id}")

    async def _keep_state(self) -> None:
        """One at a time, however often the bot says it; the last one is kept."""
        kept = 0
        while kept != self._state_seq:
            kept = self._state_seq
            await self._owner.remember(FactEvent(state=self._state, state_seq=kept))

    # The end.

    def drop(self, code: CloseCode) -> None:
        """Close the link, if there is one."""
        self.bridge.detach_link()
        link, self.link = self.link, None
        if link is not None and link.socket is not None:
            link.socket.close(code)

    async def finish(self) -> None:
        """The slot stays taken until the worker is done, at most `wrapup` long."""
        if self.link is None:
            return
        try:
            async with asyncio.timeout(self._service.wrapup):
                await self.link.gone.wait()
        except TimeoutError:
            self._log.warning("the bot did not end with its call", seconds=self._service.wrapup)

    async def give_back(self) -> None:
        """The slot, or the place in the queue."""
        node, session = self.node, self._owner.id
        try:
            if self.claim is not None:
                await node.registry.release(session, self.claim.fence)
            else:
                await node.registry.leave(self._service.host, session)
                await node.registry.release(session, 0)
        except RegistryUnavailable:  # what is held runs out by itself
            pass


def _worker(claim: Claim | None) -> str:
    return claim.worker.id if claim is not None and claim.worker is not None else ""
