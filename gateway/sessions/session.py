"""A session: one conversation, a call joined to a bot. It may outlive a stream and a worker.

One task for a session, woken by events and deadlines, never by audio: frames go from connection to bridge to connection
without it. The task decides what a lost stream or a command of the bot means, and ends the session once. Its worker is
looked after by a task of its own (`worker_link`).
"""

from __future__ import annotations

import asyncio
import random
from typing import Literal

import structlog

from gateway.errors import RegistryUnavailable
from gateway.media.bridge import Bridge
from gateway.media.playout import PlayoutLimits
from gateway.media.relay import Relay
from gateway.media.types import BridgeLimits, Stream
from gateway.node.dial_policy import NotDialled, as_dialled
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import Continuation, ContinuationKind, FactEvent, Facts, Status, merge
from gateway.pool.registry import Claim
from gateway.protocol import pcm
from gateway.protocol.codes import CloseCode, EndReason
from gateway.sessions.events import BotCommand, EndSession, Event, HandOver, StreamClosed, WorkerEnded
from gateway.sessions.facts_sync import merge_and_restore
from gateway.sessions.preconnect import PreopenedLinks
from gateway.sessions.worker_link import WorkerLink
from serializers.call_data import CallData

log = structlog.get_logger(__name__)

FRAME = 0.02
"""Seconds from one message of media to the next."""
PAUSE_CHECK = 0.1
"""Seconds between two checks whether the bot still speaks."""
AWAY_CHECK = 1.0
"""Seconds between two attempts to give a call away while the registry is away."""
MAX_EVENTS = 64
"""Commands of a bot that wait for the session's task. Further ones are refused: the bot floods."""
AWAY = "the registry is away"
FLOOD = "too many commands are waiting"
NO_BOT = frozenset({EndReason.NO_WORKER, EndReason.HOLD_TIMEOUT, EndReason.WORKER_LOST, EndReason.BOT_ERROR})
"""Ends for which the caller is not to blame."""


class Session:
    """See the module's docstring.

    claim: confirmed; None for a caller on hold.
    facts: what was known when the stream started.
    preopened: links that were opened at webhooks.
    """

    def __init__(
        self, node: Node, service: Service, claim: Claim | None, facts: Facts, preopened: PreopenedLinks
    ) -> None:
        self.id = facts.session
        self.service = service
        self.facts = facts
        self.node = node
        self.relays = service.protocol == "relay"
        self.bridge = _make_bridge(service, self)
        self.stream: Stream | None = None
        self.call: CallData | None = None
        self.worker = WorkerLink(node, service, self.bridge, self, claim, preopened)
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        self._ends_at = self._began + service.max_call
        self._parked_until: float | None = None
        self._bot_finished = False
        """The bot has closed its link, and has not asked to hang up: it may have moved the call by itself."""
        self.ended: EndReason | None = None
        self._log = log.bind(session=self.id, carrier=facts.carrier, service=service.host)

    @property
    def claim(self) -> Claim | None:
        """What this session holds of the pool."""
        return self.worker.claim

    # The stream's side.

    def attach(self, stream: Stream, claim: Claim | None, call: CallData) -> None:
        """This stream is the session's from now on; an older one is closed. claim: None if it brought none.

        Raises UnsupportedCodec.
        """
        self.bridge.attach_stream(stream, self._now())
        older, self.stream, self.call = self.stream, stream, call
        if older is not None:
            older.socket.close(CloseCode.NORMAL_CLOSURE, "a newer stream took the call")
        self._parked_until = None
        self.worker.use_claim(claim)

    def stream_closed(self, stream: Stream, code: int) -> None:
        self.post(StreamClosed(stream, orderly=code in (CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RECEIVED)))

    async def is_heard(self, within: float) -> bool:
        """True if media of the carrier come in the second half of the next `within` seconds: its stream is alive.

        In the first half they prove nothing: the last of a stream that has ended may still be on their way.
        """
        stream, heard = self.stream, self.bridge.counts.from_carrier
        until = self._now() + within
        while self.stream is stream is not None and self._now() < until:
            if self._now() < until - within / 2:
                heard = self.bridge.counts.from_carrier
            elif self.bridge.counts.from_carrier > heard:
                return True
            await asyncio.sleep(FRAME)
        return False

    def end(self, reason: EndReason) -> None:
        """End the session from outside (drain, API)."""
        self.post(EndSession(reason))

    def hand_over(self) -> None:
        """Give the call away, with its bot, to the node that its carrier comes to; where it comes to none, end it."""
        if self.relays or (self.stream is not None and not self.stream.resumes):
            self.end(EndReason.DRAINED)
        else:
            # Not all at the same moment: each would wait until the other node has taken all others.
            latest = self.node.limits.hand_over * random.uniform(0.25, 1.0)  # noqa: S311 - no secret
            self.post(HandOver(self._now() + latest))

    def superseded(self) -> None:
        """The registry says that the claim is no longer ours."""
        self.post(EndSession(None))

    # What the bridge says.

    def stream_stopped(self, reason: str) -> None:
        if self.stream is not None:
            self.post(StreamClosed(self.stream, orderly=True))

    def stream_dead(self) -> None:
        if self.stream is not None:
            self._log.warning("stream does not answer")
            self.stream.socket.abort()

    def link_dead(self) -> None:
        self.worker.on_unresponsive()

    def bot_hangup(self, reason: str) -> None:
        self._command("hangup", reason)

    def bot_transfer(self, to: str) -> None:
        self._command("transfer", to)

    def bot_digits(self, digits: str) -> None:
        self._command("digits", digits)

    def bot_state(self, state: bytes) -> None:
        self.worker.keep_state(state)

    def post(self, event: Event) -> None:
        self._events.put_nowait(event)

    def _command(self, kind: Literal["hangup", "transfer", "digits"], value: str) -> None:
        """Post what the bot wants, unless it floods: events of others always find a place."""
        if self._events.qsize() < MAX_EVENTS:
            self.post(BotCommand(kind, value))
        elif kind == "digits":  # what stands behind the keys must not wait for them
            self.bridge.refuse_keys(FLOOD)
        else:
            self._tell_refused(kind, FLOOD)

    # The task.

    async def run(self) -> None:
        """Serve the session to its end, and leave nothing behind."""
        self.node.ticker.add(self.bridge)
        self._log.info("session started", on_hold=self.claim is None)
        reason: EndReason | None = EndReason.UNKNOWN_END
        structlog.contextvars.bind_contextvars(session=self.id, carrier=self.facts.carrier, service=self.service.host)
        with self.node.metrics.call(self.facts.carrier, self.service.host, self.bridge, self._now()) as meter:
            try:
                reason = await self._serve()
            finally:
                meter.ended = reason
                try:
                    await self._wrap_up(reason)
                finally:
                    self._leave(CloseCode.NORMAL_CLOSURE)

    async def _serve(self) -> EndReason | None:
        """Until the session ends. None: somebody else serves it now."""
        while True:
            event = await self._next_event()
            await asyncio.sleep(0)  # a queue that is not empty is read without a pause: let other calls have their turn
            match event:
                case None:
                    if self._now() >= self._ends_at:
                        return EndReason.MAX_DURATION
                    if self._parked_until is not None and self._now() >= self._parked_until:
                        return EndReason.STREAM_LOST  # else a new stream came while we slept
                case EndSession(reason):
                    return reason
                case HandOver(by) if self._now() < by and self.bridge.unplayed(self._now()) > 0:
                    asyncio.get_running_loop().call_later(PAUSE_CHECK, self.post, event)  # not in the middle of a word
                case HandOver():
                    if await self._give_away():
                        return None
                    asyncio.get_running_loop().call_later(AWAY_CHECK, self.post, event)
                case StreamClosed(stream, orderly) if stream is self.stream:
                    self._lose_stream()
                    if orderly:
                        return EndReason.CALLER_HANGUP
                    if self.relays:  # a bot that speaks the carrier's wire cannot be given a second `start`
                        return EndReason.STREAM_LOST
                    self._log.warning("stream lost, waiting for the carrier")
                    self._parked_until = self._now() + self.node.limits.reattach_timeout
                case WorkerEnded() if self.worker.end is not None:
                    return self.worker.end.reason
                case BotCommand("finished"):
                    self._bot_finished = True
                    return EndReason.BOT_HANGUP
                case BotCommand("hangup"):
                    return EndReason.BOT_HANGUP
                case BotCommand("transfer", to):
                    if not (refusal := await self._transfer(to)):
                        return EndReason.TRANSFERRED
                    self._tell_refused("transfer", refusal)
                case BotCommand("digits", digits):
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

    # The stream, and what the carrier does when it has ended.

    def _lose_stream(self) -> None:
        stream, self.stream = self.stream, None
        self.bridge.detach_stream(self._now())
        if stream is not None:
            stream.socket.close(CloseCode.NORMAL_CLOSURE)

    async def _give_away(self) -> bool:
        """The carrier is led to /resume on another node; our claim and the bot wait for it, each for its own grace.

        False: not now, as no node could be told what to answer.
        """
        self._log.info("handing over", streaming=self.stream is not None)
        if await self._continue("attach"):
            return False
        self._lose_stream()
        self.worker.close(CloseCode.DRAINING)
        return True

    async def _continue(self, kind: ContinuationKind, value: str = "") -> str:
        """Write what the carrier is to be told, before we close its stream. Returns why that was not to be had."""
        seq = self.facts.continuation.seq + 1
        if await self.remember(FactEvent(continuation=Continuation(kind, value, seq))):
            return ""
        self._log.warning("continuation not kept: the registry is away", continuation=kind)
        self.facts = merge(self.facts, FactEvent(continuation=Continuation(seq=seq + 1)))  # take it back
        return AWAY

    async def _transfer(self, to: str) -> str:
        """Lead the carrier to this number. Returns why not."""
        if not self.node.carriers[self.facts.carrier].can.transfer:
            return "this carrier cannot transfer a call"
        number = as_dialled(to)
        if isinstance(number, NotDialled):
            return number.reason
        if not self.node.dial_allowed(number):
            return "the number is not in [dialout] allow"
        return await self._continue("dial", number)

    def _tell_refused(self, what: str, reason: str) -> None:
        self.bridge.tell(pcm.Status("refused", {"what": what, "reason": reason}))

    async def _press(self, digits: str) -> None:
        """Keys, on a carrier whose stream has no message for them: by its XML, and the bot waits meanwhile."""
        can = self.node.carriers[self.facts.carrier].can.digits and self.stream is not None
        if refusal := await self._continue("digits", digits) if can else "this carrier cannot send keys":
            self.bridge.refuse_keys(refusal)
            return
        self._parked_until = self._now() + self.node.limits.reattach_timeout + len(digits)
        self._lose_stream()

    # The end.

    async def _wrap_up(self, reason: EndReason | None) -> None:
        """Tell the bot, let it finish, release the slot. reason None: another node has the call."""
        self.worker.stop()
        if reason is None:
            self._log.info("session goes on elsewhere")
            self._leave(CloseCode.SUPERSEDED)
            return
        self.ended = reason
        self.bridge.tell(pcm.Stop(reason))
        # A caller who hung up, a transfer, and a bot that moves calls by itself leave the call to the carrier.
        moved = self._bot_finished and self.service.after_bot == "park"
        ended = reason is not EndReason.CALLER_HANGUP and not moved
        if ended and reason is not EndReason.TRANSFERRED:
            kind, value = self._last_resort(reason)
            await self._continue(kind, value)  # if it is not kept, the XML's own Hangup is the second line
            if kind == "hangup" and not self._bot_finished:
                await self._hang_up_by_rest()
        self._lose_stream()
        status: Status = "ended" if ended else "ending"
        await self.remember(FactEvent(status=status, end_reason=reason, ended=self.node.unix_time()))
        await self.worker.wait_closed()
        self._leave(CloseCode.NORMAL_CLOSURE)
        self._log.info("session ended", reason=reason, seconds=round(self._now() - self._began, 3))
        await self.worker.release()

    async def _hang_up_by_rest(self) -> None:
        """Hang up at once; the XML behind the stream is the second line.

        Not once the carrier has ended the stream: it may have moved the call. Not after a bot that only closed its
        link, either: it may have moved the call by a REST request of its own, and the carrier's stop is on its way. And
        only a call that a verified webhook or upgrade has named: any holder of a stream key can name any call.
        """
        if self.stream is None or not self.stream.verified:
            return
        carrier = self.node.carriers[self.facts.carrier]
        request = carrier.hang_up(self.facts.call_id, self.facts.account)
        if request is not None:
            await self.node.rest.ask(request, seconds=self.node.limits.rest_timeout)

    def _last_resort(self, reason: EndReason) -> tuple[ContinuationKind, str]:
        """What is left for a caller whose bot is lost: the service's forward, if it has one."""
        forward = self.service.when_full
        if reason in NO_BOT and forward.kind == "forward" and self.node.dial_allowed(forward.to):
            return "dial", forward.to
        return "hangup", ""

    def _leave(self, code: CloseCode) -> None:
        """Close what is open. Idempotent."""
        self._lose_stream()
        self.worker.close(code)
        self.node.ticker.discard(self.bridge)

    async def remember(self, event: FactEvent) -> bool:
        """Fold the event into the facts, ours and the registry's. False: it is away, and has not heard of it."""
        self.facts = merge(self.facts, event)
        try:
            told = await merge_and_restore(self.node, self.facts, event)
        except RegistryUnavailable:
            return False  # audio never waits for the registry; what was lost is history, not the call
        self.facts = merge(self.facts, told)
        return True


def _make_bridge(service: Service, events: Session) -> Bridge | Relay:
    limits = BridgeLimits(
        playout=PlayoutLimits(lead=service.playout_lead),
        stream_quiet=service.stream_quiet,
        link_dead=service.link_dead,
    )
    if service.protocol == "relay":
        return Relay(limits, events)
    return Bridge(service.sample_rate, limits, events, service.hold_audio)
