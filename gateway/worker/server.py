"""One worker's slot: who may connect, which link counts, when the bot runs and when it is over.

    free ──upgrade──▶ held ──start──▶ talking ──stop, or the bot returns──▶ done
      ▲                 │                │  ▲
      └── link closed ──┘   link broken ─┘  └─ start on a new link (higher fence), within WORKER_GRACE

A slot serves one call; its process ends after it, so that nothing leaks from caller to caller.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable

from gateway.protocol import pcm
from gateway.protocol.codes import CloseCode, EndReason
from gateway.protocol.workers import WorkerState
from gateway.sockets import CLOSE_TIMEOUT, Accept, Decision, Refusal, Socket, Upgrade
from gateway.worker.api import Call
from gateway.worker.bot_loader import Bot
from gateway.worker.conversation import Conversation
from gateway.worker.link_writer import LinkWriter
from gateway.worker.logs import describe, without_our_frames

log = logging.getLogger(__name__)

WORKER_GRACE = 15.0
"""Seconds for which a bot, and a host, waits for a gateway to come back for it."""
START_TIMEOUT = 120.0
"""Seconds from the upgrade to `start`: as long as a telephone may ring."""
RESERVED = 30.0
"""Seconds for which a worker that was started for a session waits for it; then it is free for any. A claim lives as
long."""

Report = Callable[[WorkerState, str, int], None]
"""Called with state, session and fence, whenever one of them has changed."""


class Slot:
    """See the module's docstring.

    key: the bearer key that links must bring, "" for none.
    reserved: the only session to be served, "" for any.
    report: is told of each change.
    `finished` becomes the exit status when the process may end.
    """

    def __init__(self, bot: Bot, key: str, report: Report, *, reserved: str = "", grace: float = WORKER_GRACE) -> None:
        self._loop = asyncio.get_running_loop()
        self._bot = bot
        self._key = f"Bearer {key}".encode() if key else b""
        self._report = report
        self._reserved = reserved
        self._grace = grace
        self._held = False
        self._session = ""
        self._fence = 0
        self._link: _Link | None = None
        self._writer: LinkWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._status: int | None = None  # of the bot, once it has ended
        self._timer: asyncio.TimerHandle | None = None
        self.finished: asyncio.Future[int] = self._loop.create_future()
        if reserved:
            self._loop.call_later(RESERVED, self._unreserve)

    @property
    def free(self) -> bool:
        """True if no session is served."""
        return not self._held

    # Who may come in.

    def decide(self, upgrade: Upgrade) -> Decision:
        """Answer an upgrade: 404, 401 wrong key, 503 full, 409 stale fence, or accept."""
        if upgrade.path != "/ws":
            return Refusal(404)
        given = upgrade.headers.get("authorization", "").encode(errors="replace")
        if self._key and not hmac.compare_digest(given, self._key):
            return Refusal(401)
        session, fence = upgrade.headers.get(pcm.SESSION_HEADER, ""), _fence(upgrade)
        if self._held:
            over = self._writer is not None and self._writer.conversation.ended
            if over or not session or session != self._session:
                return Refusal(503)
            # An equal fence is the same holder, whose link has broken. While it stands it is a copy.
            if fence < self._fence or (fence == self._fence and self._link is not None):
                return Refusal(409)
        elif self._reserved and session != self._reserved:
            return Refusal(503)
        self._held, self._session, self._fence = True, session, fence
        return Accept(_Link(self), subprotocol=pcm.SUBPROTOCOL, max_size=max(pcm.MAX_AUDIO, pcm.MAX_TEXT))

    def plain(self, request: Upgrade) -> Refusal:
        """Answer a request without an upgrade: /livez, /readyz."""
        match request.path:
            case "/livez":
                return Refusal(200, "alive\n")
            case "/readyz":
                return Refusal(200, "ready\n") if self.free else Refusal(503, "busy\n")
            case "/ws":
                return Refusal(426)
        return Refusal(404)

    def _unreserve(self) -> None:
        self._reserved = ""
        if self.free:
            self._report("ready", "", 0)

    # The links' events.

    def opened(self, link: _Link) -> None:
        """Make this link, which was accepted, the one that counts."""
        old, self._link = self._link, link
        if old is not None and old.socket is not None:
            old.socket.close(CloseCode.SUPERSEDED)
        if self._writer is not None:
            self._writer.detach()
        self._report("busy", self._session, self._fence)
        self._after(START_TIMEOUT, self._no_start)

    def received(self, link: _Link, data: bytes, text: bool) -> None:
        """Take a message of a link's: only the newest link's count, and only after its `start`."""
        if link is not self._link:
            return
        if link.started:
            assert self._writer is not None
            self._writer.received(data, text)
            if self._writer.conversation.ended:
                self._call_over()
        elif text and isinstance(start := pcm.decode_to_worker(data), pcm.Start):
            self._start(link, start)

    def closed(self, link: _Link, code: int) -> None:
        """Note that a link is gone."""
        if link is not self._link:
            return
        self._link = None
        if self._writer is None:  # the caller never came: the slot is as new, and free for any session
            self._reserved = ""
            self._held, self._session, self._fence = False, "", 0
            self._after(0, None)
            self._report("ready", "", 0)
            return
        self._writer.detach()
        if self._writer.conversation.ended:
            return
        if code in (CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RECEIVED):
            self._end(EndReason.UNKNOWN_END)
        else:
            log.warning("the gateway is gone (%d), waiting %g s", code, self._grace, extra={"session": self._session})
            self._after(self._grace, lambda: self._end(EndReason.STREAM_LOST))

    def _no_start(self) -> None:
        if self._link is not None and self._link.socket is not None:
            self._link.socket.close(CloseCode.POLICY_VIOLATION, "no start")

    def _start(self, link: _Link, start: pcm.Start) -> None:
        link.started = True
        self._after(0, None)
        self._session = self._session or start.session_id
        self._fence = max(self._fence, start.fence)
        self._report("busy", self._session, self._fence)
        assert link.socket is not None
        if self._writer is None:
            self._writer = LinkWriter(Conversation(start))
            self._writer.attach(link.socket)
            self._task = self._loop.create_task(self._run(Call(self._writer)))
            return
        self._writer.conversation.attached()
        self._writer.attach(link.socket)
        if self._status is not None:  # the bot has hung up while there was no link
            self._close()

    # The bot.

    async def _run(self, call: Call) -> None:
        try:
            await self._bot.run(call)
            self._status = 0
        except BaseException as e:
            # Also SystemExit and cancellation: a bot that gives up on its caller has failed, and says so here only.
            log.error(
                "the bot raised %s", describe(e), exc_info=without_our_frames(e), extra={"session": self._session}
            )
            self._status = 1
        line = self._writer
        assert line is not None
        if self._status == 0 and not line.attached and not line.conversation.ended:
            return  # waits for the next link, to tell it; bounded by the grace
        self._close()

    def _end(self, reason: str) -> None:
        assert self._writer is not None
        self._writer.end(reason)
        self._call_over()

    def _call_over(self) -> None:
        """The caller is gone: the bot reads the end and wraps up, for as long as its host lets it."""
        self._after(0, None)
        self._report("done", self._session, self._fence)
        if self._status is not None:
            self._close()

    def _close(self) -> None:
        """The bot has ended: the link ends too, then the process."""
        assert self._writer is not None and self._status is not None
        self._writer.end(EndReason.BOT_ERROR if self._status else EndReason.BOT_HANGUP)
        self._report("done", self._session, self._fence)
        link = self._link
        if link is None or link.socket is None:
            self._finish()
            return
        link.socket.close(CloseCode.BOT_RAISED if self._status else CloseCode.NORMAL_CLOSURE)
        link.on_closed = self._finish
        self._after(CLOSE_TIMEOUT + 0.5, self._finish)

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(self._status or 0)

    def _after(self, seconds: float, then: Callable[[], None] | None) -> None:
        """Set the one timer: what happens if nothing else does. None: nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then) if then is not None else None


class _Link:
    """The handler of one link."""

    def __init__(self, slot: Slot) -> None:
        self.socket: Socket | None = None
        self.started = False
        self.on_closed: Callable[[], None] | None = None
        self._slot = slot

    def opened(self, socket: Socket) -> None:
        self.socket = socket
        self._slot.opened(self)

    def received(self, data: bytes, text: bool) -> None:
        self._slot.received(self, data, text)

    def closed(self, code: int, reason: str) -> None:
        self.socket = None
        self._slot.closed(self, code)
        if self.on_closed is not None:
            self.on_closed()


def _fence(upgrade: Upgrade) -> int:
    text = upgrade.headers.get(pcm.FENCE_HEADER, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else 0
