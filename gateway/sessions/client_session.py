"""A client of the user's own on `/ws-client`, joined to a bot: every message is passed on as it is, both ways.

That is what Pipecat's runner does for its transport "websocket", and Pipecat Cloud behind `/ws/generic`: the client
speaks the bot's own wire, so there is nothing to hold, to fill in or to play again. When either side ends, the session
does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

import structlog

from gateway.errors import RegistryUnavailable
from gateway.media.endpoints import LinkEndpoint, TransitTimer
from gateway.media.keepalive import LinkKeepalive, StreamKeepalive
from gateway.media.types import BridgeLimits
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.node.tokens import WEBSOCKET, StreamToken
from gateway.pool.facts import FactEvent, Facts, merge
from gateway.pool.registry import Claim
from gateway.protocol.codes import CloseCode, EndReason
from gateway.sessions.facts_sync import FactWrites, as_event
from gateway.sessions.open_link import call_header
from gateway.sessions.worker_search import (
    OpenLink,
    Unavailable,
    WorkerRequest,
    acquire_worker,
    ask_until_answered,
)
from gateway.sockets import Socket

log = structlog.get_logger(__name__)

LOOK = 1.0
"""Seconds between two looks whether both sides are there."""
MAX_EARLY = 256
MAX_EARLY_BYTES = 256 * 1024
"""Of what a client says before there is a bot; more, and it is closed."""
REFUSED = 4003
"""What Pipecat's runner closes with for a token that is not good."""
TRY_AGAIN_LATER = 1013
"""RFC 6455's registry: overloaded."""


class ClientLink(LinkEndpoint):
    """The link to its worker, heard from its first message: the bot may speak before the client does."""

    def __init__(self, timer: TransitTimer, deliver: Callable[[bytes, bool], None]) -> None:
        super().__init__(timer)
        self._pass_on = deliver

    def received(self, data: bytes, text: bool) -> None:
        self._pass_on(data, text)


class ClientSession:
    """The handler of one client's WebSocket.

    table: it is in there, by its id, while it runs (`Sessions`): so its claim is renewed, and its facts are written
    again, as those of a call are. begin: what is known of a session that no request has prepared.
    """

    def __init__(
        self,
        node: Node,
        service: Service,
        token: StreamToken,
        table: dict[str, ClientSession],
        begin: FactEvent | None = None,
    ) -> None:
        self.id = token.session
        self.facts = Facts(session=token.session, carrier=WEBSOCKET, service=service.host)
        self.claim: Claim | None = None
        self.searching = False
        """Its claim is another's to judge: the search that goes on."""
        self._writes = FactWrites(node)
        self._node, self._service, self._token, self._begin = node, service, token, begin
        self._table = table
        self._time = asyncio.get_running_loop().time
        self._limits = BridgeLimits(stream_quiet=service.stream_quiet, link_dead=service.link_dead)
        self._client: Socket | None = None
        self._link: Socket | None = None
        self._early: deque[tuple[bytes, bool]] = deque()
        self._early_bytes = 0
        self._ended = asyncio.Event()
        self._reason = EndReason.CALLER_HANGUP
        self._cold = False
        self._dropped_to_bot = self._dropped_to_client = 0
        """Messages of audio that a side did not read in time: told when the session ends."""
        self._keepalive: StreamKeepalive | None = None

    # Socket callbacks.

    def opened(self, socket: Socket) -> None:
        self._client = socket
        self._node.streams += 1
        self._keepalive = StreamKeepalive(socket, self._limits, self._time())
        self._node.spawn(self._run(), f"client {self.id}")

    def received(self, data: bytes, text: bool) -> None:
        if self._keepalive is not None:
            self._keepalive.heard = self._time()
        if self._link is not None:
            self._dropped_to_bot += not _pass_on(self._link, data, text, self._limits.link_unsent)
            return
        self._early.append((data, text))
        self._early_bytes += len(data)
        if len(self._early) > MAX_EARLY or self._early_bytes > MAX_EARLY_BYTES:
            self._close(CloseCode.POLICY_VIOLATION, "too much before the bot")

    def closed(self, code: int, reason: str) -> None:
        self._node.streams -= 1
        self._ended.set()

    def end(self, reason: EndReason) -> None:
        """End the session; the first reason counts."""
        if not self._ended.is_set():
            self._reason = reason
            self._ended.set()

    def hand_over(self) -> None:
        """End it: the client is connected to this gateway, and no other could go on."""
        self.end(EndReason.DRAINED)

    def superseded(self) -> None:
        """End it: a newer claim has its session."""
        self.end(EndReason.WORKER_LOST)

    @property
    def unsaved(self) -> bool:
        """True if the registry may lack something of the facts."""
        return self._writes.unsaved

    async def remember(self, event: FactEvent) -> bool:
        """Merge the event into the facts. False: only into ours, as the registry is away."""
        self.facts = merge(self.facts, event)
        told = await self._writes.write(self.facts, event)
        if told is not None:
            self.facts = merge(self.facts, as_event(told))
        return told is not None

    def _from_bot(self, data: bytes, text: bool) -> None:
        if self._client is not None:
            self._dropped_to_client += not _pass_on(self._client, data, text, self._limits.stream_unsent)

    # Its task.

    async def _run(self) -> None:
        try:
            await self._serve()
        except RegistryUnavailable:
            self._close(CloseCode.INTERNAL_ERROR, "the registry does not answer")
        except Exception:
            self._close(CloseCode.INTERNAL_ERROR, "a bug")
            raise
        finally:
            if self._table.get(self.id) is self:
                del self._table[self.id]

    async def _serve(self) -> None:
        registry, token = self._node.registry, self._token
        kept = max(self._node.leases.reserved, token.expires - self._node.unix_time())
        if not (await registry.set_if_absent(token.used_key, kept)).first:
            self._close(REFUSED, "the token was used before")
            return
        self._table[self.id] = self
        facts = await (registry.merge(self.id, self._begin) if self._begin is not None else registry.find(self.id))
        if facts is None or facts.over:
            self._close(REFUSED, "the session is over")
            return
        self.facts, began = facts, self._time()
        found = await self._find_worker(facts)
        try:
            if isinstance(found, Unavailable):
                self._close(TRY_AGAIN_LATER, str(found.reason))
                self.end(found.reason)
            elif found is not None and found.claim.protocol != "relay":
                self._close(CloseCode.INTERNAL_ERROR, "its bot speaks pcm, and no wire of its own")
                self.end(EndReason.REJECTED)
            elif found is not None:
                await self._converse(found, began)
        finally:
            if isinstance(found, OpenLink):
                found.link.close()
            await self._finish(static=isinstance(found, OpenLink) and found.claim.static)

    async def _find_worker(self, facts: Facts) -> OpenLink | Unavailable | None:
        """Open a link. None: the client has left, or the session was ended, meanwhile."""
        request = WorkerRequest(
            service=self._service.host,
            session=self.id,
            body=facts.body,
            on_claim=self._on_claim,
            header=partial(call_header, facts, None),
            make_link=partial(ClientLink, deliver=self._from_bot),
        )
        self.searching = True
        search = asyncio.ensure_future(acquire_worker(self._node, request, None))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((search, ended), return_when=asyncio.FIRST_COMPLETED)
            return search.result() if search.done() else None
        finally:
            for task in (search, ended):
                task.cancel()
            await asyncio.gather(search, ended, return_exceptions=True)
            self.searching = False

    def _on_claim(self, claim: Claim | None) -> None:
        if claim is not None:
            self._cold = self._cold or (self.claim is None and claim.worker is None)
            self.claim = claim

    async def _converse(self, found: OpenLink, began: float) -> None:
        """Pass on until either side ends."""
        self.claim, self._link = found.claim, found.link.socket
        assert self._link is not None and self._keepalive is not None
        while self._early:
            self._link.send(_message(*self._early.popleft()))
        now = self._time()
        await self.remember(
            FactEvent(
                status="streaming",
                answered=self._node.unix_time(),
                streams=1,
                starts=1,
                node=self._node.id,
                bot_start_ms=max(1, round(1000 * (now - began))),
                cold=self._cold,
            )
        )
        log.info("client joined its bot", session=self.id, worker=found.claim.worker_id)
        gone = asyncio.ensure_future(found.link.wait_closed())
        ended = asyncio.ensure_future(self._ended.wait())
        link, until = LinkKeepalive(self._link, self._limits, now), now + self._service.max_call
        try:
            while not (gone.done() or ended.done()):
                await asyncio.wait((gone, ended), timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
                now = self._time()
                if self._keepalive.tick(now):
                    self.end(EndReason.STREAM_LOST)
                elif link.tick(now):
                    self.end(EndReason.WORKER_LOST)
                elif now >= until:
                    self.end(EndReason.MAX_DURATION)
            if gone.done():
                done = gone.result() in (CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RECEIVED)
                self.end(EndReason.BOT_HANGUP if done else EndReason.WORKER_LOST)
        finally:
            for task in (gone, ended):
                task.cancel()

    async def _finish(self, *, static: bool) -> None:
        self._link = None
        lost = self._reason in (EndReason.WORKER_LOST, EndReason.STREAM_LOST)
        self._close(CloseCode.INTERNAL_ERROR if lost else CloseCode.NORMAL_CLOSURE, str(self._reason))
        now = self._node.unix_time()
        ended = FactEvent(status="ended", end_reason=self._reason, ended=now, ended_streams=1, call_ended=now)
        await self.remember(ended)
        dropped = {"dropped_to_bot": self._dropped_to_bot, "dropped_to_client": self._dropped_to_client}
        log.info("client session ended", session=self.id, reason=self._reason, **dropped)
        if static:  # nothing tells when its bot has wrapped up
            await asyncio.sleep(self._service.rest)
        fence = self.claim.fence if self.claim is not None else 0  # 0: of a search that was given up
        await ask_until_answered(self._node, partial(self._node.registry.release, self.id, fence))

    def _close(self, code: int, reason: str) -> None:
        if self._client is not None:
            self._client.close(code, reason)


def _pass_on(socket: Socket, data: bytes, text: bool, most: int) -> bool:
    """Pass a message on. False: one of audio, which is binary, is dropped for who does not read."""
    if not text and socket.unsent > most:
        return False
    socket.send(_message(data, text))
    return True


def _message(data: bytes, text: bool) -> str | bytes:
    return data.decode(errors="replace") if text else data
