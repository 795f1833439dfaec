"""Writes what a `Call` says to its present link; links come and go, the bot stays."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from gateway.protocol import pcm
from gateway.sockets import Socket
from gateway.worker.conversation import Conversation

log = logging.getLogger(__name__)

MAX_PENDING = 256
"""Messages, not audio, that wait for the next link. Beyond them the oldest is dropped, but none that ends the call."""


class LinkWriter:
    """Sends for the call, and wakes those of its tasks that wait.

    turn: held while audio is being sent.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.turn = asyncio.Lock()
        self._socket: Socket | None = None
        self._pending: deque[pcm.ToGateway] = deque()
        self._said_full = False
        self._ready = False
        self._reader: asyncio.Future[None] | None = None
        self._speaker: asyncio.Future[None] | None = None
        self._collector: asyncio.Future[None] | None = None
        self._recording_paused = False

    # The link's side.

    @property
    def attached(self) -> bool:
        """True if there is a link."""
        return self._socket is not None

    def attach(self, socket: Socket) -> None:
        """Speak on this link from now on, beginning with what has waited for it."""
        self._socket = socket
        if self._recording_paused:  # another gateway may have taken the call, and must not record what comes next
            socket.send(pcm.encode(pcm.PauseRecording()))
        if self._ready:
            socket.send(pcm.encode(pcm.Ready()))
        while self._pending:
            socket.send(pcm.encode(self._pending.popleft()))
        self._wake()

    def detach(self) -> None:
        """Note that the link is gone: messages wait for the next one, audio is not sent."""
        self._socket = None

    def received(self, data: bytes, text: bool) -> None:
        """Take one message of the link's."""
        self.conversation.received(data, text)
        if text:
            self._wake()
        elif self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def end(self, reason: str) -> None:
        """Note that the call is over."""
        self.conversation.end(reason)
        self._wake()

    # The call's side.

    def say(self, message: pcm.ToGateway) -> None:
        """Send a message, as soon as there is a link."""
        if self.conversation.ended:
            return
        if self._socket is not None:
            self._socket.send(pcm.encode(message))
        else:
            self._keep(message)

    def _keep(self, message: pcm.ToGateway) -> None:
        if len(self._pending) >= MAX_PENDING:
            if not self._said_full:
                self._said_full = True
                log.warning("the gateway is away, and the bot asks for too much: its oldest messages are dropped")
            oldest = (each for each in self._pending if not isinstance(each, pcm.Hangup | pcm.Transfer))
            self._pending.remove(next(oldest, self._pending[0]))
        self._pending.append(message)

    def say_audio(self, audio: bytes) -> None:
        """Send PCM at the link's rate, at most a second of it."""
        self.ready()
        if self._socket is not None and audio and not self.conversation.ended:
            self.conversation.sent(audio)
            self._socket.send(audio)

    def record(self, on: bool) -> None:
        """Pause or resume the call's recording, on this link and on those that follow it."""
        self._recording_paused = not on
        self.say(pcm.ResumeRecording() if on else pcm.PauseRecording())

    def ready(self) -> None:
        """Let the caller's audio come, as the bot listens or speaks; a new gateway is told again."""
        if not self._ready:
            self._ready = True
            self.say(pcm.Ready())

    async def wait_for_event(self) -> None:
        """Wait for something to be read. Raises RuntimeError if another task waits already."""
        if self._reader is not None:
            raise RuntimeError("another task reads the events of this call: only one can")
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    async def wait_for_key(self, until: float) -> bool:
        """Wait for news of the call, of keys or of its end. until: loop time; False: it has passed."""
        self._collector = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(until):
                await self._collector
            return True
        except TimeoutError:
            return False
        finally:
            self._collector = None

    async def wait_for_change(self, seconds: float | None) -> bool:
        """Wait, holding the turn, until there is news of the call. False: there was none for so long."""
        self._speaker = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._speaker
            return True
        except TimeoutError:
            return False
        finally:
            self._speaker = None

    def wake_speaker(self) -> None:
        """Make the task that waits in `wait_for_change` look again."""
        if self._speaker is not None and not self._speaker.done():
            self._speaker.set_result(None)

    def _wake(self) -> None:
        self.wake_speaker()
        for waiter in (self._reader, self._collector):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
