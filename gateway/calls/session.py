"""A session: one conversation, a call joined to a bot. It may outlive a stream and a worker.

One task for a session, woken by events and deadlines, never by audio: frames go from socket to bridge to socket
without it. The task decides what a broken link, a lost stream or a bot's wish means, and ends the session once.
"""

from __future__ import annotations

import asyncio

import structlog

from gateway.calls.early import take_early
from gateway.calls.events import End, Event, HandOver, Link, LinkGone, StreamGone, Wish
from gateway.calls.linking import Linked, Quest, Unlinked, link_up
from gateway.calls.node import Node
from gateway.calls.remember import fold
from gateway.calls.services import Service
from gateway.errors import RegistryUnavailable
from gateway.media.base import BridgeLimits, Stream
from gateway.media.bridge import Bridge
from gateway.media.playout import PlayoutLimits
from gateway.media.relay import Relay
from gateway.metrics import TIMED
from gateway.pool.facts import Continuation, ContinuationKind, FactEvent, Facts, merge
from gateway.pool.registry import Claim
from gateway.protocol import pcm
from gateway.protocol.ends import CloseCode, EndReason
from gateway.sockets import Socket
from serializers.call_data import CallData

log = structlog.get_logger(__name__)

PAUSE_CHECK = 0.1
"""Seconds between two looks whether the bot still speaks."""
TRANSFER_FAILED = "transfer_failed"
NO_BOT = frozenset({EndReason.NO_WORKER, EndReason.HOLD_TIMEOUT, EndReason.WORKER_LOST, EndReason.BOT_ERROR})
"""Ends for which the caller is not to blame."""


class Session:
    """See the module's docstring. claim: confirmed; None for a caller on hold. facts: known when the stream started."""

    def __init__(self, node: Node, service: Service, claim: Claim | None, facts: Facts) -> None:
        self.id = facts.session
        self.service = service
        self.claim = claim
        self.facts = facts
        self.node = node
        self.relays = service.protocol == "relay"
        self.bridge = _make_bridge(service, self)
        self.link: Link | None = None
        self.stream: Stream | None = None
        self.call: CallData | None = None
        self.starts = facts.starts
        self._lost_worker = False
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._now = asyncio.get_running_loop().time
        self._ends_at = self._now() + service.max_call
        self._parked_until: float | None = None
        self._linking: asyncio.Task[None] | None = None
        self._state = facts.state
        self._state_seq = facts.state_seq
        self._keeping: asyncio.Task[None] | None = None
        self.ended: EndReason | None = None
        self._log = log.bind(session=self.id, carrier=facts.carrier, service=service.host)

    # The stream's side.

    def attach(self, stream: Stream, claim: Claim | None, call: CallData) -> None:
        """This stream is the session's from now on; an older one is closed. Raises UnsupportedCodec."""
        self.bridge.attach_stream(stream, self._now())
        older, self.stream, self.call = self.stream, stream, call
        if older is not None:
            older.socket.close(CloseCode.NORMAL, "a newer stream took the call")
        moved = self.link is not None and _worker(claim) != _worker(self.claim)
        self.claim, self._parked_until = claim, None
        if moved:
            self._drop_link(CloseCode.SUPERSEDED)
        if self.link is not None:
            self.bridge.tell(pcm.Status("reattached", {}))
        elif self._linking is None:
            self._seek_worker(claim)

    def stream_received(self, stream: Stream, data: bytes, text: bool, now: float) -> None:
        if stream is not self.stream:
            return
        if self.bridge.counts.from_carrier % TIMED:
            self.bridge.stream_received(data, text, now)
        else:
            self.node.metrics.timed("inbound", self.bridge.stream_received, data, text, now)

    def stream_closed(self, stream: Stream, code: int) -> None:
        self._post(StreamGone(stream, orderly=code in (CloseCode.NORMAL, CloseCode.NO_STATUS)))

    def link_closed(self, link: Link, code: int) -> None:
        self._post(LinkGone(link, code))

    def end(self, reason: EndReason) -> None:
        """End the session from outside (drain, API)."""
        self._post(End(reason))

    def hand_over(self) -> None:
        """Give the call away, with its bot, to the node that its carrier comes to; where it comes to none, end it."""
        if self.relays or (self.stream is not None and not self.stream.resumes):
            self.end(EndReason.DRAINED)
        else:
            self._post(HandOver(self._now() + self.node.limits.hand_over))

    def superseded(self) -> None:
        """The registry says that the claim is no longer ours."""
        self._post(End(None))

    # What the bridge says.

    def stream_stopped(self, reason: str) -> None:
        if self.stream is not None:
            self._post(StreamGone(self.stream, orderly=True))

    def stream_dead(self) -> None:
        if self.stream is not None:
            self._log.warning("stream does not answer")
            self.stream.socket.abort()

    def link_dead(self) -> None:
        if self.link is not None:
            self._log.warning("worker does not answer")
            self._post(LinkGone(self.link, CloseCode.ABNORMAL))

    def bot_hangup(self, reason: str) -> None:
        self._post(Wish("hangup", reason))

    def bot_transfer(self, to: str) -> None:
        self._post(Wish("transfer", to))

    def bot_digits(self, digits: str) -> None:
        self._post(Wish("digits", digits))

    def bot_state(self, state: bytes) -> None:
        self._state, self._state_seq = state, self._state_seq + 1
        if self._keeping is None or self._keeping.done():
            self._keeping = self.node.spawn(self._keep_state(), f"state {self.id}")

    async def _keep_state(self) -> None:
        """One at a time, however often the bot says it; the last one is kept."""
        kept = 0
        while kept != self._state_seq:
            kept = self._state_seq
            await self.remember(FactEvent(state=self._state, state_seq=kept))

    def _post(self, event: Event) -> None:
        self._events.put_nowait(event)

    # The task.

    async def run(self) -> None:
        """Serve the session to its end, and leave nothing behind."""
        self.node.sessions[self.id] = self
        self.node.ticker.add(self.bridge)
        self._log.info("session started", on_hold=self.claim is None)
        reason: EndReason | None = EndReason.UNKNOWN_END
        structlog.contextvars.bind_contextvars(session=self.id, carrier=self.facts.carrier, service=self.service.host)
        with self.node.metrics.call(self.facts.carrier, self.service.host, self.bridge, self._now()) as meter:
            try:
                reason = await self._serve()
            finally:
                meter.ended = reason
                await self._wrap_up(reason)

    async def _serve(self) -> EndReason | None:
        """Until the session ends. None: somebody else serves it now."""
        while True:
            event = await self._next_event()
            match event:
                case None:
                    if self._now() >= self._ends_at:
                        return EndReason.MAX_DURATION
                    if self._parked_until is not None and self._now() >= self._parked_until:
                        return EndReason.STREAM_LOST  # else a new stream came while we slept
                case End(reason):
                    return reason
                case HandOver(by) if self._now() < by and self.bridge.unplayed(self._now()) > 0:
                    asyncio.get_running_loop().call_later(PAUSE_CHECK, self._post, event)  # not in the middle of a word
                case HandOver():
                    await self._give_away()
                    return None
                case StreamGone(stream, orderly) if stream is self.stream:
                    self._lose_stream()
                    if orderly:
                        return EndReason.CALLER_HANGUP
                    if self.relays:  # a bot that speaks the carrier's wire cannot be given a second `start`
                        return EndReason.STREAM_LOST
                    self._log.warning("stream lost, waiting for the carrier")
                    self._parked_until = self._now() + self.node.limits.park
                case Linked(socket, claim, Link() as link):
                    self._linked(socket, claim, link)
                case Unlinked(reason, superseded):
                    self._note_resume("superseded" if superseded else "no_worker")
                    return None if superseded else reason
                case LinkGone(link, code) if link is self.link:
                    ended, how = self._lose_link(code)
                    if ended:
                        return how
                case Wish("hangup", _):
                    return EndReason.BOT_HANGUP
                case Wish("transfer", to):
                    if self._may_transfer(to):
                        await self._continue("dial", to)
                        return EndReason.TRANSFERRED
                case Wish("digits", digits):
                    await self._press(digits)

    async def _next_event(self) -> Event | None:
        """The next event, or None when a deadline has passed."""
        deadline = self._ends_at
        if self._parked_until is not None:
            deadline = min(deadline, self._parked_until)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._events.get()
        except TimeoutError:
            return None

    # The link.

    def _seek_worker(self, claim: Claim | None, *, avoid: frozenset[str] = frozenset(), after: float = 0.0) -> None:
        """Look for a worker, beside everything else; the caller hears hold audio if it takes long."""
        early = take_early(self.node, claim) if claim is not None else None
        if early is not None and early.socket is not None:
            assert claim is not None
            early.session = self
            self._linked(early.socket, claim, early)
            return
        hold = self.service.max_hold if self.service.when_full.kind == "hold" else 0.0
        body = self.call.body if self.call is not None else {}
        quest = Quest(self.service.host, self.id, body, self._now() + hold if hold else 0.0)

        async def seek() -> None:
            if after:
                await asyncio.sleep(after)
            self._post(await link_up(self.node, quest, claim, lambda: Link(self), self._hold_claim, avoid=avoid))

        self._linking = self.node.spawn(seek(), f"link {self.id}")

    def _hold_claim(self, claim: Claim | None) -> None:
        """The newest fence is ours to renew and to give back, whether or not its worker can be reached. None: we have
        none while we wait for the next, and must not ask for its renewal: that would say that we were superseded.
        """
        if claim is None or self.claim is None or claim.fence >= self.claim.fence:
            self.claim = claim

    def _linked(self, socket: Socket, claim: Claim, link: Link) -> None:
        self._linking, self.link = None, link
        self._hold_claim(claim)
        self._note_resume("attached")
        if link.gone.is_set():
            self._post(LinkGone(link, CloseCode.ABNORMAL))
            return
        self.starts = self.starts + 1 if claim.fresh else max(1, self.starts)
        self.bridge.attach_link(socket, self._start_message(claim), self._now())
        if self.facts.continuation.value == TRANSFER_FAILED and self.link is not None:
            self.bridge.tell(pcm.Status(TRANSFER_FAILED, {}))
        self.node.spawn(self.remember(FactEvent(starts=self.starts)), f"facts {self.id}")
        self._log.info("bot joined", worker=claim.worker.id if claim.worker else "", attempt=self.starts)

    def _start_message(self, claim: Claim) -> pcm.Start:
        assert self.call is not None
        return pcm.Start(
            session_id=self.id,
            service_host=self.service.host,
            carrier=self.facts.carrier,
            fence=claim.fence,
            call=self.call.wire(),
            sample_rate=self.service.sample_rate,
            resumed=self.starts > 1,
            attempt=self.starts,
            state=self._state,
        )

    def _lose_link(self, code: int) -> tuple[bool, EndReason | None]:
        """What a closed link means: (ended, how). Not ended: the bot has said its last, or another is sought."""
        link, self.link = self.link, None
        self.bridge.detach_link()
        if self.relays or code in (CloseCode.NORMAL, CloseCode.NO_STATUS):
            self.bridge.drain(lambda: self.bot_hangup("done"), self._now())
            return False, None
        if code == CloseCode.SUPERSEDED:
            return True, None
        if link is not None and link.socket is not None:
            link.socket.abort()
        if self.starts >= self.node.limits.starts:
            self.node.metrics.resumes["worker_lost", "too_many_starts"] += 1
            return True, EndReason.BOT_ERROR if code == CloseCode.BOT_RAISED else EndReason.WORKER_LOST
        self._log.warning("worker lost, taking another", code=code)
        self._lost_worker = True
        if code in (CloseCode.BOT_RAISED, CloseCode.DRAINING):  # it said so itself: no use in asking again
            self._seek_worker(None, avoid=frozenset({_worker(self.claim)}))
        else:
            self._seek_worker(None, after=self.node.limits.redial)
        return False, None

    def _note_resume(self, result: str) -> None:
        if self._lost_worker:
            self._lost_worker = False
            self.node.metrics.resumes["worker_lost", result] += 1

    # The stream, and what the carrier does when it has ended.

    def _lose_stream(self) -> None:
        stream, self.stream = self.stream, None
        self.bridge.detach_stream(self._now())
        if stream is not None:
            stream.socket.close(CloseCode.NORMAL)

    async def _give_away(self) -> None:
        """The carrier is led to /resume on another node; our claim and the bot wait for it, each for its own grace."""
        self._log.info("handing over", streaming=self.stream is not None)
        await self._continue("attach")
        self._lose_stream()
        self._drop_link(CloseCode.DRAINING)

    async def _continue(self, kind: ContinuationKind, value: str = "") -> None:
        """Write what the carrier is to be told, before we close its stream."""
        seq = self.facts.continuation.seq + 1
        event = FactEvent(continuation=Continuation(kind, value, seq))
        if not await self.remember(event):  # the XML's own Hangup is the second line
            self._log.warning("continuation not kept: the registry is away", continuation=kind)

    def _may_transfer(self, to: str) -> bool:
        carrier = self.node.carriers[self.facts.carrier]
        refusal = ""
        if not carrier.can.transfer:
            refusal = "this carrier cannot transfer a call"
        elif not self.node.dial_allowed(to):
            refusal = "the number is not in [dialout] allow"
        if refusal:
            self.bridge.tell(pcm.Status("refused", {"what": "transfer", "reason": refusal}))
        return not refusal

    async def _press(self, digits: str) -> None:
        """Keys, on a carrier whose stream has no message for them: by its XML, and the bot waits meanwhile."""
        carrier = self.node.carriers[self.facts.carrier]
        if not carrier.can.digits or self.stream is None:
            reason = "this carrier cannot send keys"
            self.bridge.tell(pcm.Status("refused", {"what": "dtmf", "reason": reason}))
            return
        await self._continue("digits", digits)
        self._parked_until = self._now() + self.node.limits.park + len(digits)
        self._lose_stream()

    # The end.

    async def _wrap_up(self, reason: EndReason | None) -> None:
        """Tell the bot, let it finish, give the slot back. reason None: it is not ours to end any more."""
        if self._linking is not None:
            self._linking.cancel()
        if reason is None:
            self._log.info("session goes on elsewhere")
            self._leave(CloseCode.SUPERSEDED)
            return
        self.ended = reason
        self.bridge.tell(pcm.Stop(reason))
        ours = reason is not EndReason.CALLER_HANGUP
        if ours and reason is not EndReason.TRANSFERRED:
            kind, value = self._last_resort(reason)
            await self._continue(kind, value)
            if kind == "hangup" and self.stream is not None:  # a carrier that left us first may have moved the call
                await self._hang_up_by_rest()
        self._lose_stream()
        await self.remember(FactEvent(status="ended" if ours else "ending", end_reason=reason, ended=self.node.wall()))
        await self._await_worker_done()
        self._leave(CloseCode.NORMAL)
        await self._give_back()
        self._log.info("session ended", reason=reason)

    async def _hang_up_by_rest(self) -> None:
        """The first line; the XML behind the stream is the second."""
        carrier = self.node.carriers[self.facts.carrier]
        request = carrier.hang_up(self.facts.call_id, self.facts.account)
        if request is not None:
            await self.node.rest.ask(request, seconds=self.node.limits.rest)

    def _last_resort(self, reason: EndReason) -> tuple[ContinuationKind, str]:
        """What is left for a caller whose bot is lost: the service's forward, if it has one."""
        forward = self.service.when_full
        if reason in NO_BOT and forward.kind == "forward" and self.node.dial_allowed(forward.to):
            return "dial", forward.to
        return "hangup", ""

    async def _await_worker_done(self) -> None:
        """The slot stays taken until the worker is done, at most `wrapup` long."""
        if self.link is None:
            return
        try:
            async with asyncio.timeout(self.service.wrapup):
                await self.link.gone.wait()
        except TimeoutError:
            self._log.warning("the bot did not end with its call", seconds=self.service.wrapup)

    async def _give_back(self) -> None:
        registry = self.node.registry
        try:
            if self.claim is not None:
                await self.node.ask(registry.release(self.id, self.claim.fence))
            else:
                await self.node.ask(registry.leave(self.service.host, self.id))
                await self.node.ask(registry.release(self.id, 0))
        except RegistryUnavailable:  # what is held runs out by itself
            pass

    def _drop_link(self, code: CloseCode) -> None:
        self.bridge.detach_link()
        link, self.link = self.link, None
        if link is not None and link.socket is not None:
            link.socket.close(code)

    def _leave(self, code: CloseCode) -> None:
        self._lose_stream()
        self._drop_link(code)
        self.node.ticker.discard(self.bridge)
        while not self._events.empty():
            if isinstance(event := self._events.get_nowait(), Linked):  # it came too late to be of use
                event.socket.close(CloseCode.NORMAL)
        if self.node.sessions.get(self.id) is self:
            del self.node.sessions[self.id]

    async def remember(self, event: FactEvent) -> bool:
        """Fold the event into the facts, ours and the registry's. False: it is away, and has not heard of it."""
        self.facts = merge(self.facts, event)
        try:
            told = await fold(self.node, self.facts, event)
        except RegistryUnavailable:
            return False  # audio never waits for the registry; what was lost is history, not the call
        self.facts = merge(self.facts, told)
        return True


def _worker(claim: Claim | None) -> str:
    return claim.worker.id if claim is not None and claim.worker is not None else ""


def _make_bridge(service: Service, events: Session) -> Bridge | Relay:
    limits = BridgeLimits(
        playout=PlayoutLimits(lead=service.playout_lead),
        stream_quiet=service.stream_quiet,
        link_dead=service.link_dead,
    )
    if service.protocol == "relay":
        return Relay(limits, events)
    return Bridge(service.sample_rate, limits, events, service.hold_audio)
