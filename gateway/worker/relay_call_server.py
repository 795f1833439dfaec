"""Serves a call in the carrier's own messages: it begins with the first of them.

That is the contract of Pipecat Cloud's worker image; the bot is one that is written for it, or for Pipecat's runner.
"""

from __future__ import annotations

import os

from gateway.protocol.codes import EndReason
from gateway.worker.asgi_link import AsgiLink
from gateway.worker.call_server import CallServer, Link
from gateway.worker.credentials import Credentials, variables_of
from gateway.worker.runner_arguments import is_client, known_of, relayed_arguments


class RelayCallServer(CallServer):
    """See the module's docstring. credentials: of the carriers' accounts, for the one of the call."""

    credentials: tuple[Credentials, ...] = ()
    _call: AsgiLink | None = None

    @property
    def _begun(self) -> bool:
        return self._call is not None

    @property
    def _over(self) -> bool:
        return self._call is not None and self._call.ended

    @property
    def _attached(self) -> bool:
        return self._call is not None and self._call.attached

    def opened(self, link: Link) -> None:
        """Make this link the one that counts. One for a call that has begun brings no handshake again.

        A client of the user's own has none: its bot may be the first to speak.
        """
        super().opened(link)
        if self._begun or is_client(link.upgrade):
            self._start(link)

    def received(self, link: Link, data: bytes, text: bool) -> None:
        """Take a message of the carrier's."""
        if link is not self._link:
            return
        if not link.started:
            self._start(link)
        assert self._call is not None
        self._call.received(data, text)

    def _start(self, link: Link) -> None:
        link.started = True
        self._cancel_timer()
        assert link.socket is not None
        if self._call is None:
            call = self._call = AsgiLink(self._closed_by_bot)
            self._start_bot(lambda: self._serve(call, link))
        self._call.attach(link.socket)
        if self._status is not None:  # the bot has ended while there was no link
            self._bot_ended()

    async def _serve(self, call: AsgiLink, link: Link) -> None:
        known = known_of(link.upgrade)
        carrier, account = known.get("carrier", ""), known.get("account", "")
        os.environ.update(variables_of(self.credentials, carrier, account))  # this process serves no other call
        style = self._bot.pipecat
        kind = style.arguments if style is not None else None
        await self._bot.run(await relayed_arguments(kind, link.upgrade, call, self._session))

    def _closed_by_bot(self, code: int) -> None:
        """The bot has closed its WebSocket: the stream ends, and the bot may go on for a while."""
        self._cancel_timer()
        self._report("done", self._session, self._fence)
        if self._link is not None and self._link.socket is not None:
            self._link.socket.close(code)

    def _detach(self) -> None:
        if self._call is not None:
            self._call.detach()

    def _tell_bot_the_end(self, reason: EndReason, code: int) -> None:
        assert self._call is not None
        self._call.end(code)
