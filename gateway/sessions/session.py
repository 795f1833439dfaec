"""A session: one conversation, a call joined to a bot. It may outlive a stream and a worker.

One task for a session, woken by events and deadlines, never by audio: frames go from connection to bridge to connection
without it. The task decides what a lost stream or a command of the bot means, and ends the session once. Its worker is
looked after by a task of its own (`worker_link`).
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Literal

import structlog

from gateway.errors import UnsupportedCodec
from gateway.media.types import MediaPath, Stream
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import Continuation, FactEvent, Facts, merge
from gateway.pool.registry import Claim
from gateway.protocol import pcm
from gateway.protocol.codes import CloseCode, EndReason
from gateway.sessions.ask_outcome import OutcomeQuestion
from gateway.sessions.bot_news import BotNews
from gateway.sessions.carrier_rest import hang_up_by_rest
from gateway.sessions.commands import press, transfer, write_continuation
from gateway.sessions.current_bridge import CurrentBridge
from gateway.sessions.duration_limit import DurationLimit
from gateway.sessions.event_queue import MAX_QUEUED, EventQueue
from gateway.sessions.events import (
    BotCommand,
    BotFinished,
    EndSession,
    HandOver,
    OrderedTransfer,
    SessionEvent,
    StreamClosed,
    Superseded,
    WorkerEnded,
)
from gateway.sessions.facts_sync import FactWrites, as_event
from gateway.sessions.last_facts import last_facts
from gateway.sessions.orders import FLOOD, Orders
from gateway.sessions.preconnect import PreopenedLinks
from gateway.sessions.recording import SessionRecording
from gateway.sessions.transferred import count_transferred_later
from gateway.sessions.worker_link import WorkerLink
from serializers.call_data import CallData

log = structlog.get_logger(__name__)

SECONDS_PER_KEY = 1.0
"""What a carrier takes at most to press one key."""
PAUSE_CHECK = 0.1
"""Seconds between two checks whether the bot still speaks."""
HAND_OVER_RETRY = 1.0
"""Seconds until a call is offered for hand-over again: the registry did not answer."""


class Session:
    """See the module's docstring.

    claim: confirmed; None for a caller on hold.
    facts: what is known of the call. Grows: see `remember` and `learn`.
    preopened: links that were opened at webhooks.
    """

    def __init__(
        self, node: Node, service: Service, claim: Claim | None, facts: Facts, preopened: PreopenedLinks
    ) -> None:
        self.id = facts.session
        self.service = service
        self.facts = facts
        self.node = node
        self.current = CurrentBridge(node, service, self, claim)
        self.stream: Stream | None = None
        self.call: CallData | None = None
        self._log = log.bind(session=self.id, carrier=facts.carrier, service=service.host)
        self._events = EventQueue(self._log)
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        # A session taken over from another node keeps the time already used. After an earlier session of the call has
        # ended (parked, failed dial) the limit starts again.
        spent = node.unix_time() - facts.running_since if facts.running_since else 0.0
        self._limit = DurationLimit(facts.max_seconds or service.max_call, spent, self._began)
        news = BotNews(self, self._limit, facts.starts)
        self.worker = WorkerLink(node, service, self, claim, news, preopened)
        self._end_at_limit = partial(self.end, EndReason.MAX_DURATION)
        self._stream_due_by: float | None = None
        self._bot_finished = False
        """The bot has closed its link, and has not asked to hang up: it may have moved the call by itself."""
        self.ended: EndReason | None = None
        self._verified = False
        """A webhook or upgrade that the carrier signed has named the call. A stream key alone proves nothing."""
        self.orders = Orders(self)
        self._writes = FactWrites(node)

    @property
    def claim(self) -> Claim | None:
        """What this session holds of the pool."""
        return self.worker.claim

    @property
    def unsaved(self) -> bool:
        """True if the registry may lack something of the facts."""
        return self._writes.unsaved

    # The stream's side.

    def attach(self, stream: Stream, claim: Claim | None, call: CallData) -> None:
        """Serve this stream from now on, and close an older one. claim: None if it brought none.

        Raises UnsupportedCodec, and ends the session then: the carrier's next stream would have that codec, too.
        """
        first = not self.facts.streams
        self.recording.begin(self._now(), goes_on=not first)
        try:
            self.bridge.attach_stream(stream, self._now())
        except UnsupportedCodec:
            self.recording.finish(self._now())  # here: a session that is not served yet has no other end
            self.worker.keep_claim(claim)
            self.end(EndReason.UNSUPPORTED_CODEC)
            raise
        older, self.stream, self.call = self.stream, stream, call
        self._verified = stream.verified
        if older is not None:
            older.socket.close(CloseCode.NORMAL_CLOSURE, "a newer stream took the call")
        self._stream_due_by = None
        if first:
            self.recording.announce(self._now())
        self.worker.use_claim(claim)

    @property
    def bridge(self) -> MediaPath:
        """What joins the stream and the bot now."""
        return self.current.bridge

    @property
    def recording(self) -> SessionRecording:
        return self.current.recording

    def stream_closed(self, stream: Stream, code: int) -> None:
        self.post(StreamClosed(stream, orderly=code in (CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RECEIVED)))

    def end(self, reason: EndReason) -> None:
        """End the session from outside: a drain, a webhook, another node."""
        self.post(EndSession(reason))

    def hand_over(self) -> None:
        """Hand the call and its bot over to whichever node the carrier's next request reaches.

        A stream that cannot be attached again is ended instead, and the call of a bot that ends with its link.
        """
        bound_to_link = self.claim is not None and self.claim.starts_bot_per_link
        if bound_to_link or (self.stream is not None and not self.stream.resumes):
            self.end(EndReason.DRAINED)
        else:
            # Spread in time: handed over together, each call would wait for the other node to take all the rest.
            latest = self.node.limits.hand_over * random.uniform(0.25, 1.0)  # noqa: S311 - no secret
            self.post(HandOver(self._now() + latest))

    def learn(self, event: FactEvent) -> None:
        """Take what other nodes, or webhooks, have told the registry of the call."""
        self.facts = merge(self.facts, event)
        self.worker.tell_who_answered()

    def superseded(self) -> None:
        """The registry says that the claim is no longer ours."""
        self.post(Superseded())

    # What the bridge says.

    def stream_stopped(self, reason: str) -> None:
        if self.stream is not None:
            self.post(StreamClosed(self.stream, orderly=True))

    def stream_dead(self) -> None:
        if self.stream is not None:
            self._log.warning("stream does not answer")
            self.stream.socket.abort()

    def link_dead(self) -> None:
        if self.worker.link is not None:
            self._log.warning("worker does not answer")
            self.worker.link.lose()

    def bridge_failed(self) -> None:
        self.end(EndReason.UNKNOWN_END)

    def bot_hangup(self, reason: str) -> None:
        self._command("hangup", reason)

    def bot_transfer(self, to: str) -> None:
        self._command("transfer", to)

    def bot_digits(self, digits: str) -> None:
        self._command("digits", digits)

    def bot_state(self, state: bytes) -> None:
        self.worker.keep_state(state)

    def post(self, event: SessionEvent) -> None:
        self._events.post(event)

    def _command(self, kind: Literal["hangup", "transfer", "digits"], value: str) -> None:
        """Queue what the bot wants. Refuse it if MAX_QUEUED events wait, so that a flood keeps out no others."""
        if self._events.qsize() < MAX_QUEUED:
            self.post(BotCommand(kind, value))
        elif kind == "digits":  # what stands behind the keys must not wait for them
            self.bridge.refuse_keys(FLOOD)
        else:
            self._tell_refused(kind, FLOOD)

    # The task.

    async def run(self) -> None:
        """Serve the session to its end."""
        self.node.ticker.add(self.bridge, self.bridge_failed)
        self._log.info("session started", on_hold=self.claim is None)
        end: EndReason | Superseded = EndReason.UNKNOWN_END
        structlog.contextvars.bind_contextvars(session=self.id, carrier=self.facts.carrier, service=self.service.host)
        with self.node.metrics.call(self.facts.carrier, self.service.host, self.bridge, self._now()) as meter:
            self.current.meter = meter
            try:
                end = await self._serve()
            finally:
                reason = None if isinstance(end, Superseded) else end
                meter.ended = reason
                await self._leave(reason)

    async def _serve(self) -> EndReason | Superseded:
        """Handle events until the session ends."""
        while True:
            event = await self._next_event()
            await asyncio.sleep(0)  # a queue that is not empty is read without a pause: let other calls have their turn
            # Deadlines come before what the bot wants: one that floods would outlive them.
            if self._now() >= self._limit.due and self._limit.advance(self.bridge, self._end_at_limit, self._now()):
                return EndReason.MAX_DURATION
            match event:
                case None | BotCommand() | BotFinished() if self._is_stream_overdue():
                    return EndReason.STREAM_LOST
                case None:
                    pass  # the duration warning was due, and has been given; or a new stream has come
                case EndSession(reason):
                    return reason
                case HandOver(by) if self._now() < by and self.bridge.unplayed(self._now()) > 0:
                    asyncio.get_running_loop().call_later(PAUSE_CHECK, self.post, event)  # not in the middle of a word
                case HandOver():  # handed over, or offered again later
                    if await self._hand_over_now():
                        return Superseded()
                    asyncio.get_running_loop().call_later(HAND_OVER_RETRY, self.post, event)
                case StreamClosed(stream, orderly) if stream is self.stream:
                    self._close_stream()
                    if orderly:
                        return EndReason.CALLER_HANGUP
                    self._log.warning("stream lost, waiting for the carrier")
                    self._stream_due_by = self._now() + self.node.limits.reattach_timeout
                case Superseded():
                    return event
                case WorkerEnded() if self.worker.end is not None:  # else a new stream has started another search
                    return self.worker.end
                case BotFinished():
                    self._bot_finished = True
                    return EndReason.BOT_HANGUP
                case BotCommand("hangup"):
                    return EndReason.BOT_HANGUP
                case BotCommand("transfer", to) | OrderedTransfer(to):
                    if not (refusal := await transfer(self, to)):
                        return EndReason.TRANSFERRED
                    if isinstance(event, BotCommand):
                        self._tell_refused("transfer", refusal)
                    else:
                        self._log.warning("transfer by an operator failed", reason=refusal)
                case BotCommand("digits", digits):
                    await self._press(digits)

    async def _next_event(self) -> SessionEvent | None:
        """The next event, or None when a deadline has passed."""
        deadline = self._limit.due
        if self._stream_due_by is not None:
            deadline = min(deadline, self._stream_due_by)
        return await self._events.next_by(deadline)

    def _is_stream_overdue(self) -> bool:
        return self._stream_due_by is not None and self._now() >= self._stream_due_by

    # The stream, and what the carrier does when it has ended.

    def _close_stream(self, reason: str = "") -> None:
        """Close the stream. reason: why the session is over, for who reads the wire; carriers ignore it."""
        stream, self.stream = self.stream, None
        self.bridge.detach_stream(self._now())
        if stream is not None:
            stream.socket.close(CloseCode.NORMAL_CLOSURE, reason)

    async def _hand_over_now(self) -> bool:
        """Lead the carrier to /resume, which reaches another node. False: not now, as that node could not be told, or
        as the session is to end.

        Until that node has the call, the claim lives by its lease, and the worker by its own wait after DRAINING.
        """
        self._log.info("handing over", streaming=self.stream is not None)
        refusal = await write_continuation(self, "attach")
        if refusal:
            return False
        if self._events.holds(self._comes_before_hand_over):  # it came while that was written
            nothing_next = Continuation(seq=self.facts.continuation.seq + 1)
            await self.remember(FactEvent(continuation=nothing_next))
            return False
        self._close_stream()
        self.worker.close(CloseCode.DRAINING)
        return True

    def _tell_refused(self, what: str, reason: str) -> None:
        self.bridge.tell(pcm.Status("refused", {"what": what, "reason": reason}))

    async def _press(self, digits: str) -> None:
        """Send keys on a carrier whose stream has no message for them: its XML presses them.

        The bot waits until the stream is back.
        """
        if refusal := await press(self, digits):
            self.bridge.refuse_keys(refusal)
            return
        if self._events.holds(self._ends_stream):  # the caller has hung up meanwhile
            return
        self._stream_due_by = self._now() + self.node.limits.reattach_timeout + SECONDS_PER_KEY * len(digits)
        self._close_stream()

    def _ends_stream(self, event: SessionEvent) -> bool:
        """True if the carrier has ended the stream that there is: the caller has hung up, or was moved."""
        return isinstance(event, StreamClosed) and event.orderly and event.stream is self.stream

    def _comes_before_hand_over(self, event: SessionEvent) -> bool:
        """True if no other node would know of it: the session's end, or what leads the caller elsewhere."""
        ends = isinstance(event, EndSession | BotFinished | OrderedTransfer)
        return ends or self._ends_stream(event) or (isinstance(event, BotCommand) and event.kind != "digits")

    # The end.

    async def _leave(self, reason: EndReason | None) -> None:
        """Tell of the end, and let go of all that the session has, whatever fails. reason None: superseded."""
        self.worker.stop()
        try:
            try:
                if reason is not None:
                    await self._tell_of_end(reason)
            finally:
                self._events.close()
                self._close_stream(reason or "")
                self.recording.finish(self._now())
            if reason is not None:
                await self.worker.wait_closed()
        finally:
            self.worker.close(CloseCode.NORMAL_CLOSURE if reason is not None else CloseCode.SUPERSEDED)
            self.node.ticker.discard(self.bridge)
            seconds = round(self._now() - self._began, 3)
            if reason is None:
                self._log.info("session handed to another node", seconds=seconds)
            else:
                self._log.info("session ended", reason=reason, seconds=seconds)
            await self.worker.release(superseded=reason is None)

    async def _tell_of_end(self, reason: EndReason) -> None:
        """Tell the bot, the registry and the carrier how the session has ended."""
        self.ended = reason
        self.bridge.tell(pcm.Stop(reason))
        event = last_facts(self.node, self.service, self.facts, reason, bot_finished=self._bot_finished)
        # Before the stream is closed, as the carrier asks for the continuation then. If the registry is away, the next
        # write repeats it, and the carrier's XML ends with a Hangup in any case.
        await self.remember(event)
        self._drop_events_until_closed()
        if reason is EndReason.TRANSFERRED:
            count_transferred_later(self.node, self.facts, self.service.host)
        if self._verified:
            OutcomeQuestion(self.node, self.facts, self.remember).ask_later()
        # Not after a bot that only closed its link: it may have moved the call by a REST request of its own, and the
        # carrier's stop is on its way.
        if event.continuation.kind == "hangup" and not self._bot_finished:
            await hang_up_by_rest(self.node, self.facts, self.stream)

    def _drop_events_until_closed(self) -> None:
        """Discard what is queued; close a stream that its carrier has ended meanwhile: the call may have been moved."""
        if any(map(self._ends_stream, self._events.close())):
            self._close_stream()

    async def remember(self, event: FactEvent) -> bool:
        """Merge the event into the facts, ours and the registry's. False: not into the registry's yet."""
        self.facts = merge(self.facts, event)
        told = await self._writes.write(self.facts, event)
        if told is not None and told != self.facts:
            self.learn(as_event(told))
        return told is not None
