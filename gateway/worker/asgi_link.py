"""A relayed call as a bot of Pipecat's reads it: a WebSocket of an ASGI server.

Links come and go, the bot's WebSocket stays. While there is none, what the bot says is dropped: its caller is away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

from gateway.protocol.codes import CloseCode
from gateway.sockets import Socket

MAX_WAITING = 1500
"""Messages that wait for a bot that does not read: 30 s of 20 ms audio. What is older needs no answer."""
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Bytes of such messages: 60 s of 16 bit audio at 24 kHz in base64."""
MAX_UNSENT = 256 * 1024
"""Bytes that the gateway has not taken from which a `send` waits: it always reads."""
ROOM_CHECK = 0.02


class AsgiLink:
    """`receive` and `send` of the ASGI specification (websocket, 2.x) over whatever link there is.

    closed_by_bot: called with the code, once, when the bot closes its WebSocket.
    """

    def __init__(self, closed_by_bot: Callable[[int], None]) -> None:
        self.dropped = 0
        """Messages that the bot was too slow for."""
        self.ended = False
        """The call is over: the bot reads what came before, then the end."""
        self._closed_by_bot = closed_by_bot
        self._socket: Socket | None = None
        self._waiting: deque[dict[str, Any]] = deque([{"type": "websocket.connect"}])
        self._bytes = 0
        self._reader: asyncio.Future[None] | None = None

    # The link's side.

    @property
    def attached(self) -> bool:
        """True if there is a link."""
        return self._socket is not None

    def attach(self, socket: Socket) -> None:
        """Speak on this link from now on."""
        self._socket = socket

    def detach(self) -> None:
        """Note that the link is gone."""
        self._socket = None

    def received(self, data: bytes, text: bool) -> None:
        """Take a message for the bot."""
        if self.ended:
            return
        key, value = ("text", data.decode(errors="replace")) if text else ("bytes", data)
        self._put({"type": "websocket.receive", key: value})

    def end(self, code: int, reason: str = "") -> None:
        """Note that the call is over. The first end counts."""
        if not self.ended:
            self.ended = True
            self._put({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _put(self, event: dict[str, Any]) -> None:
        self._waiting.append(event)
        self._bytes += _size(event)
        while len(self._waiting) > MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
            if not self._drop_oldest_audio():
                break
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _drop_oldest_audio(self) -> bool:
        """Drop a message of audio; one that is not only where there is none, and never the connection's own events."""
        messages = [i for i, event in enumerate(self._waiting) if event["type"] == "websocket.receive"]
        if not messages:
            return False
        at = next((i for i in messages if _is_audio(self._waiting[i])), messages[0])
        self._bytes -= _size(self._waiting[at])
        del self._waiting[at]
        self.dropped += 1
        return True

    # The bot's side.

    async def receive(self) -> dict[str, Any]:
        """Wait for the next event. After the end there is none but the end."""
        while not self._waiting:
            if self.ended:
                return {"type": "websocket.disconnect", "code": CloseCode.ABNORMAL_CLOSURE, "reason": ""}
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        event = self._waiting.popleft()
        self._bytes -= _size(event)
        return event

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """Take what the bot says. Raises OSError once the call is over, as ASGI 2.4 asks for."""
        match event["type"]:
            case "websocket.accept":
                return
            case "websocket.send":
                if self.ended:
                    raise OSError("the call is over")
                while self._socket is not None and self._socket.unsent > MAX_UNSENT:  # noqa: ASYNC110  nothing tells of room
                    await asyncio.sleep(ROOM_CHECK)
                if self._socket is not None:
                    text = event.get("text")
                    self._socket.send(text if text is not None else bytes(event["bytes"]))
            case "websocket.close":
                if not self.ended:
                    self.end(event.get("code", CloseCode.NORMAL_CLOSURE), event.get("reason") or "")
                    self._closed_by_bot(event.get("code", CloseCode.NORMAL_CLOSURE))


def _size(event: dict[str, Any]) -> int:
    return len(event.get("text") or event.get("bytes") or "")


def _is_audio(event: dict[str, Any]) -> bool:
    return "bytes" in event or '"media"' in event["text"]
