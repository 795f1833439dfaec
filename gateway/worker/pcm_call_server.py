"""Serves a call whose links speak `gateway.pcm.v1`: the call begins with the gateway's `start`."""

from __future__ import annotations

from gateway.protocol import pcm
from gateway.protocol.codes import EndReason
from gateway.worker.api import Call
from gateway.worker.call_server import CallServer, Link
from gateway.worker.conversation import Conversation
from gateway.worker.link_writer import LinkWriter
from gateway.worker.runner_arguments import pcm_arguments


class PcmCallServer(CallServer):
    """See the module's docstring."""

    SUBPROTOCOL = pcm.SUBPROTOCOL

    _writer: LinkWriter | None = None

    @property
    def _begun(self) -> bool:
        return self._writer is not None

    @property
    def _over(self) -> bool:
        return self._writer is not None and self._writer.conversation.ended

    @property
    def _attached(self) -> bool:
        return self._writer is not None and self._writer.attached

    def received(self, link: Link, data: bytes, text: bool) -> None:
        """Take a message of a link's: only the newest link's count, and only after its `start`."""
        if link is not self._link:
            return
        if link.started:
            assert self._writer is not None
            self._writer.received(data, text)
            if self._writer.conversation.ended:
                self._wrap_up()
        elif text and isinstance(start := pcm.decode_to_worker(data), pcm.Start):
            self._start(link, start)

    def _start(self, link: Link, start: pcm.Start) -> None:
        link.started = True
        self._cancel_timer()
        self._session = self._session or start.session_id
        self._fence = max(self._fence, start.fence)
        self._report("busy", self._session, self._fence)
        assert link.socket is not None
        if self._writer is None:
            self._writer = LinkWriter(Conversation(start))
            self._writer.attach(link.socket)
            call = Call(self._writer)
            self._start_bot(lambda: self._serve(call))
            return
        self._writer.conversation.attached()
        self._writer.attach(link.socket)
        if self._status is not None:  # the bot has hung up while there was no link
            self._bot_ended()

    async def _serve(self, call: Call) -> None:
        if self._bot.pipecat is None:
            await self._bot.run(call)
        else:
            await self._bot.run(pcm_arguments(call))

    def _detach(self) -> None:
        if self._writer is not None:
            self._writer.detach()

    def _tell_bot_the_end(self, reason: EndReason, code: int) -> None:
        assert self._writer is not None
        self._writer.end(reason)
