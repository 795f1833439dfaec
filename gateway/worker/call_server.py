"""Serves a worker's one call: who may connect, which link counts, when the bot runs.

    free ──decide──▶ held ──_start_bot──▶ talking ──_finish_call──▶ wrapping up ──_bot_ended──▶ done
      ▲                │                   │ ▲ └─────────────────────_bot_ended───────────────────▲
      └──── closed ────┘            closed ▼ │ opened: a new link, of a higher fence
                                        waiting ──WORKER_GRACE is over: _finish_call──▶ wrapping up

The process ends after its call, so that nothing leaks from caller to caller. What the links carry is in
`pcm_call_server` and `relay_call_server`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from gateway.protocol import pcm
from gateway.protocol.codes import CloseCode, EndReason
from gateway.protocol.workers import WorkerState
from gateway.sockets import CLOSE_TIMEOUT, Accept, Decision, Refusal, Socket, Upgrade
from gateway.worker.bot_loader import Bot
from gateway.worker.logs import describe, without_our_frames

log = logging.getLogger(__name__)

WORKER_GRACE = 15.0
"""Seconds for which a bot, and a host, waits for a gateway to come back for it."""
START_TIMEOUT = 120.0
"""Seconds from the upgrade to the call's start: as long as a telephone may ring."""
RESERVED = 30.0
"""Seconds for which a worker that was started for a session waits for it; then it is free for any. A claim lives as
long."""

OnStateChange: TypeAlias = Callable[[WorkerState, str, int], None]
"""Called with state, session and fence, whenever one of them has changed."""


class CallServer(ABC):
    """See the module's docstring.

    key: the bearer key that links must bring, "" for none.
    reserved: the only session to be served, "" for any.
    report: is told of each change.
    `finished` becomes the exit status when the process may end.
    """

    SUBPROTOCOL: str | None = None
    """Subprotocol of the links."""

    def __init__(
        self, bot: Bot, key: str, report: OnStateChange, *, reserved: str = "", grace: float = WORKER_GRACE
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._bot = bot
        self._key = f"Bearer {key}".encode() if key else b""
        self._report = report
        self._reserved = reserved
        self._grace = grace
        self._held = False
        self._session = ""
        self._fence = 0
        self._link: Link | None = None
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

    # What a protocol adds.

    @property
    @abstractmethod
    def _begun(self) -> bool:
        """True if a bot has been told of a call."""

    @property
    @abstractmethod
    def _over(self) -> bool:
        """True if the call has ended."""

    @property
    @abstractmethod
    def _attached(self) -> bool:
        """True if there is a link that the bot speaks on."""

    @abstractmethod
    def received(self, link: Link, data: bytes, text: bool) -> None:
        """Take a message of a link's: only the newest link's count."""

    @abstractmethod
    def _detach(self) -> None:
        """Note that the call's link is gone, or is about to be another one."""

    @abstractmethod
    def _tell_bot_the_end(self, reason: EndReason, code: int) -> None:
        """Tell the bot that the call is over. code: what a close of the link would have."""

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
            over = self._begun and self._over
            if over or not session or session != self._session:
                return Refusal(503)
            # An equal fence is the same holder, whose link has broken. While it stands it is a copy.
            if fence < self._fence or (fence == self._fence and self._link is not None):
                return Refusal(409)
        elif self._reserved and session != self._reserved:
            return Refusal(503)
        self._held, self._session, self._fence = True, session, fence
        link = Link(self, upgrade)
        return Accept(link, subprotocol=self.SUBPROTOCOL, max_size=max(pcm.MAX_AUDIO, pcm.MAX_TEXT))

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

    def opened(self, link: Link) -> None:
        """Make this link, which was accepted, the one that counts."""
        old, self._link = self._link, link
        if old is not None and old.socket is not None:
            old.socket.close(CloseCode.SUPERSEDED)
        if self._begun:
            self._detach()
        self._report("busy", self._session, self._fence)
        self._set_timer(START_TIMEOUT, self._no_start)

    def closed(self, link: Link, code: int) -> None:
        """Note that a link is gone."""
        if link is not self._link:
            return
        self._link = None
        if not self._begun:  # the caller never came: the worker is as new, and free for any session
            self._reserved = ""
            self._held, self._session, self._fence = False, "", 0
            self._cancel_timer()
            self._report("ready", "", 0)
            return
        self._detach()
        if self._over:
            return
        if code in (CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RECEIVED):
            self._finish_call(EndReason.UNKNOWN_END, code)
        else:
            log.warning("the gateway is gone (%d), waiting %g s", code, self._grace, extra={"session": self._session})
            self._set_timer(self._grace, lambda: self._finish_call(EndReason.STREAM_LOST, code))

    def _no_start(self) -> None:
        if self._link is not None and self._link.socket is not None:
            self._link.socket.close(CloseCode.POLICY_VIOLATION, "no start")

    # The bot.

    def _start_bot(self, run: Callable[[], Awaitable[None]]) -> None:
        """Let the bot run. Its end is the call's."""
        self._task = self._loop.create_task(self._run(run))

    async def _run(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
            self._status = 0
        except BaseException as e:
            # Also SystemExit and cancellation: a bot that gives up on its caller has failed, and says so here only.
            mend = "; a bot ends its call by returning, or by call.hangup()" if isinstance(e, SystemExit) else ""
            log.error(
                "the bot raised %s%s",
                describe(e),
                mend,
                exc_info=without_our_frames(e),
                extra={"session": self._session},
            )
            self._status = 1
        if self._status == 0 and not self._attached and not self._over:
            return  # waits for the next link, to tell it; bounded by the grace
        self._bot_ended()

    def _finish_call(self, reason: EndReason, code: int) -> None:
        self._tell_bot_the_end(reason, code)
        self._wrap_up()

    def _wrap_up(self) -> None:
        """Let the bot, whose caller is gone, read the end and wrap up, for as long as its host lets it."""
        self._cancel_timer()
        self._report("done", self._session, self._fence)
        if self._status is not None:
            self._bot_ended()

    def _bot_ended(self) -> None:
        """Note that the bot has ended: the link ends too, then the process."""
        assert self._status is not None
        code = CloseCode.BOT_RAISED if self._status else CloseCode.NORMAL_CLOSURE
        self._tell_bot_the_end(EndReason.BOT_ERROR if self._status else EndReason.BOT_HANGUP, code)
        self._report("done", self._session, self._fence)
        link = self._link
        if link is None or link.socket is None:
            self._finish()
            return
        link.socket.close(code)
        link.on_closed = self._finish
        self._set_timer(CLOSE_TIMEOUT + 0.5, self._finish)

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(self._status or 0)

    def _set_timer(self, seconds: float, then: Callable[[], None]) -> None:
        """Set the one timer: what happens if nothing else does."""
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, then)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Link:
    """The handler of one link. upgrade: what it came with. started: its call's start has come by it."""

    def __init__(self, server: CallServer, upgrade: Upgrade) -> None:
        self.socket: Socket | None = None
        self.upgrade = upgrade
        self.started = False
        self.on_closed: Callable[[], None] | None = None
        self._server = server

    def opened(self, socket: Socket) -> None:
        self.socket = socket
        self._server.opened(self)

    def received(self, data: bytes, text: bool) -> None:
        self._server.received(self, data, text)

    def closed(self, code: int, reason: str) -> None:
        self.socket = None
        self._server.closed(self, code)
        if self.on_closed is not None:
            self.on_closed()


def _fence(upgrade: Upgrade) -> int:
    text = upgrade.headers.get(pcm.FENCE_HEADER, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else 0
