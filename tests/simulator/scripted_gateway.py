"""A small gateway that tests the simulator: literal answers, echoing WebSockets.

HTTP by Starlette, one port by uvicorn. Each carrier's echo is written out by hand from its documents.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.simulator.rest.server import QuickServer
from tests.kit.waiting import until

REDIRECTS = (301, 302, 303, 307, 308)

Handler = Callable[[WebSocket, list[dict[str, Any]]], Awaitable[None]]

XML = {
    "twilio": '<Response><Connect><Stream url="{ws}/ws/twilio/t"><Parameter name="k" value="v"/></Stream></Connect>'
    '<Redirect method="POST">{http}/webhooks/twilio/resume</Redirect></Response>',
    "telnyx": '<Response><Connect><Stream url="{ws}/ws/telnyx/t" bidirectionalMode="rtp" bidirectionalCodec="PCMU" '
    'enableReconnect="false"/></Connect><Redirect>{http}/webhooks/telnyx/resume</Redirect></Response>',
    "plivo": '<Response><Stream bidirectional="true" keepCallAlive="true" contentType="audio/x-mulaw;rate=8000">'
    "{ws}/ws/plivo/t</Stream><Redirect>{http}/webhooks/plivo/resume</Redirect></Response>",
    "exotel": '{"url":"{ws}/ws/exotel/t?k=v"}',
}


@dataclass
class Seen:
    """A request that came in."""

    method: str
    path: str
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedGateway:
    """Answers by path: (status, body, content type); a redirect's body: its Location.

    `on_stream` takes the place of the echo.
    """

    answers: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    on_stream: Handler | None = None
    refuse_streams: int = 0
    requests: list[Seen] = field(default_factory=list)
    upgrades: list[Seen] = field(default_factory=list)
    messages: list[list[Any]] = field(default_factory=list)
    public: str = ""
    """What it calls itself in its answers; default: where it listens."""
    url: str = ""

    async def __aenter__(self) -> ScriptedGateway:
        # asyncio sets TCP_NODELAY only where the protocol is spelled out; without it answers wait 40 ms for an ACK.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        routes = [
            Route("/{path:path}", self._http, methods=["GET", "POST"]),
            WebSocketRoute("/{path:path}", self._websocket),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), log_level="critical", lifespan="off", ws="websockets-sansio", access_log=False
        )
        self._server = QuickServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        await until(lambda: self._server.started)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.force_exit = True
        self._server.over.set()
        await self._task

    async def _http(self, request: Request) -> Response:
        body = await request.body()
        seen = Seen(request.method, request.url.path, str(request.url), dict(request.headers), body)
        self.requests.append(seen)
        path = request.url.path
        carrier, _, action = path.removeprefix("/webhooks/").partition("/")
        status, text, kind = self.answers.get(path, (200, "", ""))
        if path in self.answers and status in REDIRECTS and text:
            return Response("", status, {"Location": self._fill(text)})
        if path in self.answers:
            return Response(self._fill(text), status, media_type=kind)
        if action == "voice":
            kind = "application/json" if carrier == "exotel" else "text/xml"
            return Response(self._fill(XML[carrier]), media_type=kind)
        if action == "resume" and carrier != "exotel":
            return Response("<Response><Hangup/></Response>", media_type="text/xml")
        if action == "connect":
            return JSONResponse({"destination": {"numbers": []}})
        return Response("", 200)

    def _fill(self, text: str) -> str:
        public = self.public or self.url
        return text.replace("{ws}", public.replace("http", "ws", 1)).replace("{http}", public)

    async def _websocket(self, websocket: WebSocket) -> None:
        self.upgrades.append(Seen("GET", websocket.url.path, str(websocket.url), dict(websocket.headers), b""))
        if self.refuse_streams:
            self.refuse_streams -= 1
            await websocket.close()  # before accept: 403
            return
        await websocket.accept()
        log: list[Any] = []
        self.messages.append(log)
        carrier = websocket.url.path.split("/")[2]
        try:
            await (self.on_stream or ECHOES[carrier])(websocket, log)
        except WebSocketDisconnect:
            pass


async def read(websocket: WebSocket, log: list[Any]) -> dict[str, Any]:
    """The next message; what is not a JSON object is logged and skipped."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        data = message.get("text")
        try:
            value = json.loads(data) if data is not None else message.get("bytes")
        except ValueError:
            value = data
        log.append(value)
        if isinstance(value, dict):
            return value


async def echo_twilio(websocket: WebSocket, log: list[Any]) -> None:
    while True:
        message = await read(websocket, log)
        if message["event"] == "media" and message["media"]["track"] == "inbound":
            answer = {
                "event": "media",
                "streamSid": message["streamSid"],
                "media": {"payload": message["media"]["payload"]},
            }
            await websocket.send_text(json.dumps(answer))


async def echo_telnyx(websocket: WebSocket, log: list[Any]) -> None:
    while True:
        message = await read(websocket, log)
        if message["event"] == "media" and message["media"]["track"] == "inbound":
            answer = {"event": "media", "media": {"payload": message["media"]["payload"]}}
            await websocket.send_text(json.dumps(answer))


async def echo_plivo(websocket: WebSocket, log: list[Any]) -> None:
    while True:
        message = await read(websocket, log)
        if message["event"] == "media":
            media = {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": message["media"]["payload"]}
            await websocket.send_text(json.dumps({"event": "playAudio", "media": media}))


async def echo_exotel(websocket: WebSocket, log: list[Any]) -> None:
    """Two messages of 1600 bytes make one chunk of 3200."""
    import base64

    held = b""
    while True:
        message = await read(websocket, log)
        if message["event"] != "media":
            continue
        held += base64.b64decode(message["media"]["payload"])
        while len(held) >= 3200:
            payload = base64.b64encode(held[:3200]).decode()
            held = held[3200:]
            answer = {"event": "media", "stream_sid": message["stream_sid"], "media": {"payload": payload}}
            await websocket.send_text(json.dumps(answer))


ECHOES: dict[str, Handler] = {
    "twilio": echo_twilio,
    "telnyx": echo_telnyx,
    "plivo": echo_plivo,
    "exotel": echo_exotel,
}
