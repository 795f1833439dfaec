"""A worker's call on the carrier's own wire. The bot's WebSocket is Starlette's; Pipecat itself is in tests/pipecat."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.websockets import WebSocketDisconnect, WebSocketState

from gateway.errors import LinkRefused
from gateway.sockets import Socket, connect, server_protocol
from gateway.worker import asgi_link, call_server
from gateway.worker.bot_loader import Bot
from gateway.worker.credentials import Credentials
from gateway.worker.pipecat_style import PipecatStyle
from gateway.worker.relay_call_server import RelayCallServer
from tests.kit.waiting import PATIENCE, SCALE, until

KEY = "link-key"
CONNECTED = '{"event": "connected", "protocol": "Call", "version": "1.0.0"}'
START = (
    '{"event": "start", "sequenceNumber": "1", "start": {"accountSid": "AC1", "streamSid": "MZ1", "callSid": "CA1", '
    '"tracks": ["inbound"], "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}, '
    '"customParameters": {}}, "streamSid": "MZ1"}'
)


@dataclass
class Arguments:
    """As Pipecat 1.14.0 has them: three that only its __post_init__ sets."""

    websocket: Any
    transport_type: str | None = None
    body: Any = field(default_factory=dict)
    session_id: str | None = None
    handle_sigint: bool = field(init=False)
    handle_sigterm: bool = field(init=False)
    pipeline_idle_timeout_secs: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline_idle_timeout_secs = 300


class Link:
    """The gateway's end."""

    def __init__(self) -> None:
        self.socket: Socket
        self.said: list[str | bytes] = []
        self.ended: int | None = None

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes, text: bool) -> None:
        self.said.append(data.decode() if text else data)

    def closed(self, code: int, reason: str) -> None:
        self.ended = code

    def send(self, *messages: str | bytes) -> Link:
        for message in messages:
            self.socket.send(message)
        return self

    async def end(self) -> int:
        await until(lambda: self.ended is not None, complain="the link is closed")
        assert self.ended is not None
        return self.ended


class Worker:
    def __init__(self, server: RelayCallServer, path: str, reports: list[tuple[str, str, int]]) -> None:
        self.server, self.path, self.reports = server, path, reports

    async def dial(
        self, session: str = "s1", fence: int = 1, *, key: str = KEY, query: str = "", known: Any = None
    ) -> Link:
        link = Link()
        told = {"x-gateway-call": base64.b64encode(json.dumps(known).encode()).decode()} if known else {}
        headers = {
            "Authorization": f"Bearer {key}",
            "x-daily-session-id": session,
            "x-gateway-fence": str(fence),
            **told,
        }
        await connect(f"unix:{self.path}", link, headers=headers, timeout=PATIENCE, target="/ws" + query)
        return link

    async def status(self) -> int:
        return await asyncio.wait_for(asyncio.shield(self.server.finished), PATIENCE)


@contextlib.asynccontextmanager
async def worker(
    tmp_path: Path, run: Callable[[Any], Awaitable[None]], *, grace: float = PATIENCE
) -> AsyncIterator[Worker]:
    reports: list[tuple[str, str, int]] = []
    bot = Bot("bot.py", run, None, PipecatStyle(Arguments, ours=False))
    server = RelayCallServer(bot, KEY, lambda *report: reports.append(report), grace=grace)
    path = str(tmp_path / "w.sock")
    made: list[Any] = []

    def accept() -> Any:
        made.append(server_protocol(server.decide, plain=server.plain)())
        return made[-1]

    listener = await asyncio.get_running_loop().create_unix_server(accept, path)
    try:
        yield Worker(server, path, reports)
    finally:
        listener.close()
        for connection in made:
            connection.abort()
        server.finished.cancel()
        await asyncio.sleep(0.01)


async def test_a_call_on_the_carriers_wire_from_start_to_the_hang_up(tmp_path: Path) -> None:
    heard: list[Any] = []
    given: list[Arguments] = []

    async def bot(arguments: Arguments) -> None:
        given.append(arguments)
        websocket = arguments.websocket
        async for message in websocket.iter_text():
            heard.append(message)
            await websocket.send_text("said back: " + message)
        heard.append(websocket.client_state)

    body = quote(base64.b64encode(json.dumps({"name": "Zoë"}).encode()), safe="")
    async with worker(tmp_path, bot) as w:
        gateway = (await w.dial("s1", 7, query=f"?body={body}")).send(CONNECTED, START)
        await until(lambda: len(gateway.said) == 2)
        gateway.socket.close(1000)
        assert await w.status() == 0
    assert heard == [CONNECTED, START, WebSocketState.DISCONNECTED]
    assert gateway.said == ["said back: " + CONNECTED, "said back: " + START]
    assert w.reports == [("busy", "s1", 7), ("done", "s1", 7), ("done", "s1", 7)]
    [arguments] = given
    assert (arguments.body, arguments.session_id, arguments.transport_type) == ({"name": "Zoë"}, "s1", None)
    assert (arguments.handle_sigint, arguments.handle_sigterm) == (False, False)
    assert arguments.pipeline_idle_timeout_secs == 300
    assert arguments.websocket.headers["x-daily-session-id"] == "s1"
    assert not {"authorization", "x-gateway-fence"} & set(arguments.websocket.headers)
    assert set(arguments.websocket.query_params) == {"body"} and arguments.websocket.url.path == "/ws"


async def test_a_bot_may_speak_first_to_a_client_that_is_no_carrier(tmp_path: Path) -> None:
    given: list[Arguments] = []

    async def bot(arguments: Arguments) -> None:
        given.append(arguments)
        await arguments.websocket.send_bytes(b"hello")
        await arguments.websocket.receive()

    async with worker(tmp_path, bot) as w:
        gateway = await w.dial(known={"carrier": "websocket"})
        await until(lambda: gateway.said == [b"hello"])
        gateway.socket.close(1000)
        assert await w.status() == 0
    assert given[0].transport_type == "websocket"


async def test_both_kinds_of_message_pass_both_ways(tmp_path: Path) -> None:
    async def bot(arguments: Arguments) -> None:
        websocket = arguments.websocket
        assert (websocket.client_state, websocket.application_state) == (WebSocketState.CONNECTED,) * 2
        first, second = await websocket.receive(), await websocket.receive()
        await websocket.send_bytes(second["bytes"])
        await websocket.send_text(first["text"])
        await websocket.send({"type": "websocket.send", "bytes": b"\x03"})

    async with worker(tmp_path, bot) as w:
        gateway = (await w.dial()).send("text é", b"\x01\x02")
        assert await gateway.end() == 1000 and await w.status() == 0
    assert gateway.said == [b"\x01\x02", "text é", b"\x03"]


async def test_the_bot_closes_its_websocket_and_wraps_up(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def bot(arguments: Arguments) -> None:
        await arguments.websocket.receive_text()
        await arguments.websocket.close()
        await go_on.wait()

    async with worker(tmp_path, bot) as w:
        gateway = (await w.dial()).send(CONNECTED)
        assert await gateway.end() == 1000
        assert w.reports[-1][0] == "done" and not w.server.finished.done()
        with pytest.raises(LinkRefused, match="503"):
            await w.dial("s1", 2)
        go_on.set()
        assert await w.status() == 0


async def test_a_bot_that_raises_closes_1011_with_its_own_frames_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def bot(arguments: Arguments) -> None:
        raise RuntimeError("private")

    async with worker(tmp_path, bot) as w:
        gateway = (await w.dial()).send(CONNECTED)
        assert await gateway.end() == 1011 and await w.status() == 1
    [record] = [r for r in caplog.records if "the bot raised RuntimeError" in r.getMessage()]
    assert "(test_relay_call_server.py, line " in record.getMessage() and record.session == "s1"
    assert str(record.exc_text).count('File "') == 1


async def test_what_a_bot_says_after_the_call_is_a_disconnection(tmp_path: Path) -> None:
    async def bot(arguments: Arguments) -> None:
        with pytest.raises(WebSocketDisconnect):
            while True:
                await arguments.websocket.receive_text()
        with pytest.raises(WebSocketDisconnect):
            await arguments.websocket.send_text("too late")

    async with worker(tmp_path, bot) as w:
        (await w.dial()).send(CONNECTED).socket.close(1000)
        assert await w.status() == 0


async def test_a_caller_who_never_comes_leaves_the_slot_as_new(tmp_path: Path) -> None:
    async def bot(arguments: Arguments) -> None:
        await arguments.websocket.receive_text()

    async with worker(tmp_path, bot) as w:
        (await w.dial("s1")).socket.close(1000)
        await until(lambda: w.server.free)
        gateway = (await w.dial("s2")).send(CONNECTED)
        assert await gateway.end() == 1000


async def test_a_link_without_a_message_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bot(arguments: Arguments) -> None: ...

    monkeypatch.setattr(call_server, "START_TIMEOUT", 0.02 * SCALE)
    async with worker(tmp_path, bot) as w:
        assert await (await w.dial()).end() == 1008


async def test_a_broken_link_is_waited_for_then_the_bot_reads_the_end(tmp_path: Path) -> None:
    ends: list[Any] = []

    async def bot(arguments: Arguments) -> None:
        while (message := await arguments.websocket.receive())["type"] != "websocket.disconnect":
            pass
        ends.append(message["code"])

    async with worker(tmp_path, bot, grace=0.05 * SCALE) as w:
        (await w.dial()).send(CONNECTED).socket.abort()
        assert await w.status() == 0
    assert ends == [1006]


async def test_a_wrong_key_or_a_second_session_is_refused(tmp_path: Path) -> None:
    async def bot(arguments: Arguments) -> None:
        await asyncio.Event().wait()

    async with worker(tmp_path, bot) as w:
        with pytest.raises(LinkRefused, match="401"):
            await w.dial(key="wrong")
        (await w.dial("s1", 2)).send(CONNECTED)
        for session, fence, status in (("s2", 9, 503), ("s1", 1, 409), ("s1", 2, 409)):
            with pytest.raises(LinkRefused, match=str(status)):
                await w.dial(session, fence)


async def test_a_gateway_that_takes_the_call_over_is_spoken_to_at_once(tmp_path: Path) -> None:
    """It has not the carrier's handshake again for a bot that has had it."""
    heard: list[str] = []
    speak = asyncio.Event()

    async def bot(arguments: Arguments) -> None:
        websocket = arguments.websocket
        heard.append(await websocket.receive_text())
        await speak.wait()
        await websocket.send_text("going on")
        heard.append(await websocket.receive_text())

    async with worker(tmp_path, bot) as w:
        first = (await w.dial("s1", 1)).send(CONNECTED)
        await until(lambda: heard)
        first.socket.abort()
        await until(lambda: not w.server._attached)
        second = await w.dial("s1", 2)
        speak.set()
        await until(lambda: second.said == ["going on"])
        second.send("more")
        assert await second.end() == 1000 and await w.status() == 0
    assert heard == [CONNECTED, "more"]


async def test_a_newer_link_supersedes_an_older_one(tmp_path: Path) -> None:
    async def bot(arguments: Arguments) -> None:
        while await arguments.websocket.receive_text() != "end":
            pass

    async with worker(tmp_path, bot) as w:
        first = (await w.dial("s1", 1)).send(CONNECTED)
        await until(lambda: w.server._begun)
        second = await w.dial("s1", 2)
        assert await first.end() == 4001
        second.send("end")
        assert await second.end() == 1000


@dataclass
class CallData:
    """As Pipecat's, as far as it is filled."""

    from_number: str | None
    to_number: str | None
    body: dict[str, Any]


@pytest.mark.parametrize(
    ("parsed", "fuller"),
    [
        (CallData(None, "", {}), CallData("+15550100", "+15550199", {"name": "Zoë"})),
        (CallData("+1", "+2", {"name": "x", "a": 1}), CallData("+1", "+2", {"name": "x", "a": 1})),
    ],
)
async def test_what_pipecat_has_parsed_is_made_fuller(tmp_path: Path, parsed: CallData, fuller: CallData) -> None:
    async def bot(arguments: Arguments) -> None:
        assert getattr(arguments.websocket, "_pipecat_parsed_telephony", None) is None  # nothing is parsed yet
        kept = ("plivo", parsed)
        arguments.websocket._pipecat_parsed_telephony = kept
        assert arguments.websocket._pipecat_parsed_telephony is kept
        arguments.websocket._pipecat_parsed_telephony = "plivo", object()  # of a version to come
        assert "x-gateway-call" not in arguments.websocket.headers

    body = quote(base64.b64encode(json.dumps({"name": "Zoë"}).encode()), safe="")
    async with worker(tmp_path, bot) as w:
        known = {"carrier": "plivo", "account": "MA1", "from": "+15550100", "to": "+15550199", "more": 1}
        (await w.dial(query=f"?body={body}", known=known)).send(CONNECTED)
        assert await w.status() == 0
    assert parsed == fuller


@pytest.mark.parametrize("account", ["AC1", "AC2", "AC3", ""])
async def test_the_credentials_are_those_of_the_calls_account(
    tmp_path: Path, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str | None] = []

    async def bot(arguments: Arguments) -> None:
        found.extend(os.environ.get(name) for name in ("TWILIO_ACCOUNT_SID", "PLIVO_AUTH_ID"))

    for name in ("TWILIO_ACCOUNT_SID", "PLIVO_AUTH_ID"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that what is set for a call is undone
    async with worker(tmp_path, bot) as w:
        w.server.credentials = (
            Credentials("twilio", "AC1", {"TWILIO_ACCOUNT_SID": "AC1"}),
            Credentials("twilio", "AC2", {"TWILIO_ACCOUNT_SID": "AC2"}),
            Credentials("plivo", "MA1", {"PLIVO_AUTH_ID": "MA1"}),
        )
        (await w.dial(known={"carrier": "twilio", "account": account})).send(CONNECTED)
        assert await w.status() == 0
    assert found == ["AC2" if account == "AC2" else "AC1", "MA1"]


async def test_a_bot_that_does_not_read_loses_the_oldest_audio_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_link, "MAX_WAITING", 4)
    heard: list[str] = []
    began, read = asyncio.Event(), asyncio.Event()

    async def bot(arguments: Arguments) -> None:
        began.set()
        await read.wait()
        heard.extend([message async for message in arguments.websocket.iter_text()])

    media = [f'{{"event": "media", "media": {{"chunk": "{n}"}}}}' for n in range(6)]
    async with worker(tmp_path, bot) as w:
        gateway = (await w.dial()).send(CONNECTED)
        await began.wait()
        gateway.send(START, *media)
        await until(lambda: w.server._call is not None and w.server._call.dropped == 4)
        gateway.socket.close(1000)
        await until(lambda: w.server._over)
        read.set()
        assert await w.status() == 0
    assert heard == [CONNECTED, START, media[5]]  # the end takes a place too
