from __future__ import annotations

import asyncio
import contextlib
import logging
import socket as _socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.server import serve as ws_serve
from websockets.frames import Frame, Opcode

from gateway.errors import LinkError, LinkRefused, LinkTimeout
from gateway.sockets import Accept, Decision, Refusal, Socket, Upgrade, connect, server_protocol
from tests.kit.waiting import PATIENCE, SCALE, until


class Recorder:
    """A handler that writes down what it is told; `echo` sends each message back."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.socket: Socket
        self.messages: list[str | bytes] = []
        self.ends: list[tuple[int, str]] = []

    def opened(self, socket: Socket) -> None:
        self.socket = socket

    def received(self, data: bytes, text: bool) -> None:
        message = data.decode(errors="replace") if text else data
        self.messages.append(message)
        if self.echo:
            self.socket.send(message)

    def closed(self, code: int, reason: str) -> None:
        self.ends.append((code, reason))

    async def end(self) -> tuple[int, str]:
        await until(lambda: self.ends)
        await asyncio.sleep(0)
        assert len(self.ends) == 1
        return self.ends[0]


Decide = Callable[[Upgrade], Decision]


@contextlib.asynccontextmanager
async def serving(decide: Decide, **options: Any) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    shell, state = server_protocol(decide, **options), SimpleNamespace(connections=set())
    server = await loop.create_server(lambda: shell(server_state=state), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()

        def all_gone() -> bool:
            for connection in list(state.connections):
                connection.abort()
            return not state.connections

        await until(all_gone)


def accept(handler: Recorder, **options: Any) -> Decide:
    return lambda request: Accept(handler, **options)


REQUEST = (
    b"GET /ws/twilio/t0ken?a=1&b=%20 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"X-Twice: first\r\nX-Twice: second\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
"""Key and answer are those of RFC 6455, section 1.3."""


async def shake(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    return reader, writer, head


def masked(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


# The server, literally.


async def test_upgrade_request_is_told_before_it_is_answered() -> None:
    asked: list[Upgrade] = []
    handler = Recorder()

    def decide(request: Upgrade) -> Decision:
        asked.append(request)
        return Accept(handler)

    async with serving(decide) as port:
        _, writer, head = await shake(port)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        assert b"permessage-deflate" not in head
        writer.close()
    (request,) = asked
    assert (request.path, request.query, request.peer) == ("/ws/twilio/t0ken", "a=1&b=%20", "127.0.0.1")
    assert request.headers["x-twice"] == "first"


async def test_the_address_given_is_dialled_and_the_name_is_asked_for() -> None:
    asked: list[Upgrade] = []
    handler = Recorder()

    def decide(request: Upgrade) -> Decision:
        asked.append(request)
        return Accept(Recorder())

    async with serving(decide) as port:
        url = f"ws://worker.invalid:{port}/ws"
        socket = await connect(url, handler, headers={}, timeout=PATIENCE, address="127.0.0.1")
        assert asked[0].headers["host"] == f"worker.invalid:{port}"
        socket.close()
        await handler.end()


async def test_refusal_is_answered_with_its_status_and_body_and_opens_nothing() -> None:
    async with serving(lambda request: Refusal(403, "no")) as port:
        reader, writer, head = await shake(port)
        assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert await reader.read() == b"no"
        writer.close()


async def test_refusal_401_names_the_scheme() -> None:
    async with serving(lambda request: Refusal(401)) as port:
        _, writer, head = await shake(port)
        assert head.startswith(b"HTTP/1.1 401") and b"WWW-Authenticate: Bearer\r\n" in head
        writer.close()


async def test_decision_that_raises_is_logged_and_answered_500(caplog: pytest.LogCaptureFixture) -> None:
    def decide(request: Upgrade) -> Decision:
        raise RuntimeError("secret")

    async with serving(decide) as port:
        reader, writer, head = await shake(port)
        assert head.startswith(b"HTTP/1.1 500") and await reader.read() == b""
        writer.close()
    assert [r.name for r in caplog.records] == ["gateway.sockets.server"]


async def test_request_without_upgrade_is_426_or_answered_plainly() -> None:
    plain = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(plain)
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        return answer

    async with serving(accept(Recorder())) as port:
        assert (await ask(port)).startswith(b"HTTP/1.1 426 ")
    async with serving(accept(Recorder()), plain=lambda r: Refusal(200, r.path)) as port:
        answer = await ask(port)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"/readyz")


@pytest.mark.parametrize(
    "request_bytes",
    [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a" * 20_000, b"\x16\x03\x01\r\n", b"\r\n"],
)
async def test_request_that_is_no_http_is_dropped(request_bytes: bytes) -> None:
    async with serving(accept(Recorder())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes)
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        writer.close()


async def test_request_that_never_comes_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.sockets.server.HANDSHAKE_TIMEOUT", 0.02 * SCALE)
    async with serving(accept(Recorder())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()


async def test_frames_sent_before_the_answer_are_dropped() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + masked(Opcode.TEXT, b"too early"))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        writer.write(masked(Opcode.TEXT, b"in time"))
        await until(lambda: handler.messages)
        writer.close()
    assert handler.messages == ["in time"]


async def test_messages_text_and_binary_in_literal_bytes() -> None:
    handler = Recorder(echo=True)
    async with serving(accept(handler)) as port:
        reader, writer, _ = await shake(port)
        # RFC 6455 5.7: a single-frame masked text message, "Hello".
        writer.write(bytes.fromhex("818537fa213d7f9f4d5158"))
        assert await reader.readexactly(7) == b"\x81\x05Hello"
        writer.write(b"\x82\x82\x00\x00\x00\x00\x01\x02")
        assert await reader.readexactly(4) == b"\x82\x02\x01\x02"
        writer.close()
    assert handler.messages == ["Hello", b"\x01\x02"]


async def test_fragments_are_assembled_with_control_frames_between_them() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        reader, writer, _ = await shake(port)
        writer.write(masked(Opcode.TEXT, b"one ", fin=False) + masked(Opcode.PING, b"?"))
        writer.write(masked(Opcode.CONT, b"", fin=False) + masked(Opcode.CONT, b"message"))
        assert await reader.readexactly(3) == b"\x8a\x01?"
        await until(lambda: handler.messages)
        writer.close()
    assert handler.messages == ["one message"]


async def test_invalid_utf8_reaches_the_handler_and_closes_nothing() -> None:
    class Raw(Recorder):
        def received(self, data: bytes, text: bool) -> None:
            self.messages.append(data)
            assert text
            self.socket.send("still here")

    handler = Raw()
    async with serving(accept(handler)) as port:
        reader, writer, _ = await shake(port)
        writer.write(masked(Opcode.TEXT, b"\xff\xfe"))
        assert await reader.readexactly(12) == b"\x81\x0astill here"
        writer.close()
    assert handler.messages == [b"\xff\xfe"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(b"\x81\x05Hello", 1002, id="unmasked"),
        pytest.param(masked(Opcode.CONT, b"x"), 1002, id="continuation of nothing"),
        pytest.param(b"\xc1\x80\0\0\0\0", 1002, id="reserved bit"),
        pytest.param(b"\x83\x80\0\0\0\0", 1002, id="reserved opcode"),
        pytest.param(b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002, id="ping of 126 bytes"),
        pytest.param(b"\x88\x81\0\0\0\0\x03", 1002, id="close code cut short"),
        pytest.param(b"\x88\x83\0\0\0\0\x03\xe8\xff", 1007, id="close reason not UTF-8"),
        pytest.param(masked(Opcode.TEXT, b"x" * 151), 1009, id="oversized"),
        pytest.param(
            masked(Opcode.TEXT, b"x" * 76, fin=False) + masked(Opcode.CONT, b"x" * 75),
            1009,
            id="oversized sum",
        ),
        pytest.param(b"\x81\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0", 1009, id="claims 9 EB"),
    ],
)
async def test_protocol_error_closes_with_its_code(sent: bytes, code: int) -> None:
    handler = Recorder()
    async with serving(accept(handler, max_size=150)) as port:
        reader, writer, _ = await shake(port)
        writer.write(sent)
        head = await reader.readexactly(2)
        assert head[0] == 0x88
        assert struct.unpack("!H", (await reader.read())[:2]) == (code,)
        writer.close()
        assert (await handler.end())[0] == code
    assert handler.messages == []


async def test_oversized_message_of_ten_megabytes_still_hears_1009() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        reader, writer, _ = await shake(port)
        writer.write(masked(Opcode.BINARY, b"x" * 10_000_000))
        head = await reader.readexactly(4)
        assert (head[0], head[2:]) == (0x88, b"\x03\xf1")
        await reader.read()
        writer.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_random_bytes_after_the_handshake_never_raise_to_the_loop(chunks: list[bytes]) -> None:
    async def main() -> None:
        raised: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context))
        handler = Recorder(echo=True)
        async with serving(accept(handler)) as port:
            _, writer, _ = await shake(port)
            for chunk in chunks:
                writer.write(chunk)
                await asyncio.sleep(0)
            writer.transport.abort()
            await handler.end()
        assert raised == []

    asyncio.run(main())


# The end, from both sides.


async def test_close_by_the_server_is_a_handshake() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        async with ws_connect(f"ws://127.0.0.1:{port}/", compression=None) as client:
            handler.socket.close(4001, "superseded")
            handler.socket.send("dropped")
            handler.socket.ping()
            handler.socket.close(1000)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "superseded")
        assert await handler.end() == (4001, "superseded")


async def test_close_reason_is_cut_to_what_a_control_frame_holds() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port, ws_connect(f"ws://127.0.0.1:{port}/", compression=None):
        handler.socket.close(1011, "ü" * 100)
        assert await handler.end() == (1011, "ü" * 61)


async def test_close_1005_has_no_code_on_the_wire() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        reader, writer, _ = await shake(port)
        handler.socket.close(1005)
        assert await reader.readexactly(2) == b"\x88\x00"
        writer.write(masked(Opcode.CLOSE, b""))
        assert await handler.end() == (1005, "")
        writer.close()


async def test_close_by_the_client_is_answered_and_told_with_its_code() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        client = await ws_connect(f"ws://127.0.0.1:{port}/", compression=None)
        await client.close(4002, "draining")
        assert await handler.end() == (4002, "draining")
        assert client.close_code == 4002


async def test_messages_after_our_close_are_not_delivered() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        _, writer, _ = await shake(port)
        handler.socket.close()
        writer.write(masked(Opcode.TEXT, b"late") + masked(Opcode.CLOSE, b"\x03\xe8"))
        assert await handler.end() == (1000, "")
        writer.close()
    assert handler.messages == []


async def test_close_that_is_never_answered_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.sockets.connection.CLOSE_TIMEOUT", 0.02 * SCALE)
    handler = Recorder()
    async with serving(accept(handler)) as port:
        _, writer, _ = await shake(port)
        handler.socket.close()
        assert await handler.end() == (1006, "")
        writer.close()


@pytest.mark.parametrize("side", ["ours", "theirs"])
async def test_abort_is_1006(side: str) -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        _, writer, _ = await shake(port)
        if side == "ours":
            handler.socket.abort()
        else:
            writer.transport.abort()
        assert await handler.end() == (1006, "")
        handler.socket.send("nobody")
        handler.socket.abort()
        assert handler.socket.unsent == 0
        writer.close()


async def test_eof_without_a_close_frame_is_1006() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        _, writer, _ = await shake(port)
        writer.close()
        assert await handler.end() == (1006, "")


@pytest.mark.parametrize("where", ["opened", "received"])
async def test_handler_that_raises_is_logged_once_and_closed_1011(where: str, caplog: pytest.LogCaptureFixture) -> None:
    class Raising(Recorder):
        def opened(self, socket: Socket) -> None:
            super().opened(socket)
            if where == "opened":
                raise RuntimeError("mine")

        def received(self, data: bytes, text: bool) -> None:
            super().received(data, text)
            raise RuntimeError("mine")

    handler, other = Raising(), Recorder(echo=True)
    async with serving(lambda r: Accept(other if r.path == "/other" else handler)) as port:
        neighbour = await ws_connect(f"ws://127.0.0.1:{port}/other", compression=None)
        async with ws_connect(f"ws://127.0.0.1:{port}/", compression=None) as client:
            with contextlib.suppress(websockets.ConnectionClosed):
                await client.send("a")
                await client.send("b")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011
        assert closed.value.rcvd.reason == ""
        assert (await handler.end())[0] == 1011
        await neighbour.send("alive")
        assert await neighbour.recv() == "alive"
        await neighbour.close()
    records = [r for r in caplog.records if r.name == "gateway.sockets.connection"]
    assert len(records) == 1 and records[0].exc_info is not None


async def test_handler_that_raises_when_told_of_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Raising(Recorder):
        def closed(self, code: int, reason: str) -> None:
            super().closed(code, reason)
            raise RuntimeError("mine")

    handler = Raising()
    async with serving(accept(handler)) as port:
        _, writer, _ = await shake(port)
        writer.close()
        await handler.end()
    assert [r.name for r in caplog.records] == ["gateway.sockets.connection"]


# What a socket knows of its peer.


async def test_ping_moves_last_pong_when_answered() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        reader, writer, _ = await shake(port)
        before = handler.socket.last_pong
        handler.socket.ping()
        assert await reader.readexactly(2) == b"\x89\x00"
        writer.write(masked(Opcode.TEXT, b"not a pong"))
        await until(lambda: handler.messages)
        assert handler.socket.last_pong == before < handler.socket.last_received
        writer.write(masked(Opcode.PONG, b"any") + masked(Opcode.TEXT, b"behind it"))
        await until(lambda: len(handler.messages) == 2)
        assert before < handler.socket.last_pong == handler.socket.last_received
        writer.close()


async def test_unsent_grows_with_a_peer_who_does_not_read_and_is_bounded() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        with _socket.create_connection(("127.0.0.1", port)) as silent:
            silent.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, 4096)
            silent.sendall(REQUEST)
            await until(lambda: hasattr(handler, "socket"))
            handler.socket.send(b"x" * 2_000_000)
            assert 1_000_000 < handler.socket.unsent < 2_000_100
            for _ in range(4):
                handler.socket.send(b"x" * 2_000_000)
            assert await handler.end() == (1006, "")


async def test_socket_options_are_set() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        _, writer, _ = await shake(port)
        sock = handler.socket._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY)
        assert sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_USER_TIMEOUT) == 5000
        writer.close()


# The client.


async def test_client_against_our_server_with_headers_subprotocol_and_query() -> None:
    server, client, asked = Recorder(echo=True), Recorder(), []

    def decide(request: Upgrade) -> Decision:
        asked.append(request)
        return Accept(server, subprotocol="gateway.pcm.v1")

    async with serving(decide) as port:
        socket = await connect(
            f"ws://127.0.0.1:{port}/ws?body=x",
            client,
            headers={"Authorization": "Bearer k", "x-daily-session-id": "s"},
            subprotocol="gateway.pcm.v1",
            timeout=PATIENCE,
        )
        assert client.socket is socket
        socket.send("hello")
        await until(lambda: client.messages)
        socket.send(b"\x00" * 70_000)
        await until(lambda: server.ends)
        assert await client.end() == (1009, client.ends[0][1])
    assert client.messages == ["hello"]
    assert (asked[0].path, asked[0].query) == ("/ws", "body=x")
    assert asked[0].headers["authorization"] == "Bearer k"
    assert asked[0].headers["sec-websocket-protocol"] == "gateway.pcm.v1"


async def test_client_against_websockets_own_server() -> None:
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)
        assert connection.subprotocol == "p"

    client = Recorder()
    async with ws_serve(echo, "127.0.0.1", 0, subprotocols=[websockets.Subprotocol("p")]) as server:
        port = server.sockets[0].getsockname()[1]
        socket = await connect(f"ws://127.0.0.1:{port}", client, headers={}, subprotocol="p", timeout=PATIENCE)
        socket.send("text")
        socket.send(b"bytes")
        await until(lambda: len(client.messages) == 2)
        before = socket.last_pong
        socket.ping()
        await asyncio.sleep(0)
        socket.close(1000, "done")
        assert await client.end() == (1000, "done")
        assert socket.last_pong >= before
    assert client.messages == ["text", b"bytes"]


async def test_client_over_a_unix_socket_asks_for_the_target(tmp_path: Path) -> None:
    server, client, asked = Recorder(), Recorder(), []

    def decide(request: Upgrade) -> Decision:
        asked.append(request)
        return Accept(server)

    path = tmp_path / "w.sock"
    listener = await asyncio.get_running_loop().create_unix_server(server_protocol(decide), str(path))
    socket = await connect(
        f"unix:{path}",
        client,
        headers={},
        subprotocol=None,
        timeout=PATIENCE,
        max_size=10,
        target="/ws?body=e30",
    )
    assert (asked[0].path, asked[0].query, asked[0].peer) == ("/ws", "body=e30", "")
    server.socket.send("x" * 11)
    assert (await client.end())[0] == 1009
    assert (await server.end())[0] == 1009
    socket.abort()
    listener.close()


async def test_client_is_refused_with_the_status() -> None:
    async with serving(lambda request: Refusal(409, "stale")) as port:
        with pytest.raises(LinkRefused) as refused:
            await connect(f"ws://127.0.0.1:{port}/ws", Recorder(), headers={}, subprotocol=None, timeout=PATIENCE)
    assert refused.value.status == 409


@contextlib.asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A server that answers anything with these bytes and closes; None: accepts and says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if answer is not None:
                writer.write(answer)
            else:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        served.set()

    served = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await asyncio.wait_for(served.wait(), PATIENCE)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"", LinkError, "closed before"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", LinkRefused, "answered 0"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         b"Sec-WebSocket-Accept: wrong\r\n\r\n", LinkRefused, "answered 0"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nfull", LinkRefused, "answered 503"),
    ],
    ids=["nothing", "ssh", "wrong accept", "full"],
)  # fmt: skip
async def test_client_against_an_answer_that_is_not_101(answer: bytes, error: type, words: str) -> None:
    handler = Recorder()
    async with answering(answer) as url:
        with pytest.raises(error, match=words):
            await connect(url, handler, headers={}, subprotocol=None, timeout=PATIENCE)
    assert handler.ends == []


async def test_client_does_not_wait_longer_than_its_timeout() -> None:
    async with answering(None) as url:
        with pytest.raises(LinkTimeout):
            await connect(url, Recorder(), headers={}, subprotocol=None, timeout=0.05 * SCALE)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "unix:/no/such/path.sock", "ws://127.0.0.1:1/", "", "ws://["])
async def test_client_to_nobody_is_a_link_error(url: str) -> None:
    with pytest.raises(LinkError):
        await connect(url, Recorder(), headers={}, subprotocol=None, timeout=PATIENCE)


async def test_client_that_is_cancelled_leaves_nothing_open() -> None:
    async with answering(None) as url:
        task = asyncio.create_task(connect(url, Recorder(), headers={}, subprotocol=None, timeout=60))
        await asyncio.sleep(0.02 * SCALE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# Behind uvicorn.


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("WebSockets do not reach the application")


@contextlib.asynccontextmanager
async def behind_uvicorn(decide: Decide, loop: str = "none") -> AsyncIterator[tuple[uvicorn.Server, int]]:
    config = uvicorn.Config(_no_app, ws=server_protocol(decide), lifespan="off", log_level="info")
    server = uvicorn.Server(config)
    listener = _socket.socket()
    listener.bind(("127.0.0.1", 0))
    task = asyncio.create_task(server._serve([listener]))
    await until(lambda: server.started)
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def test_behind_uvicorn_accepts_echoes_refuses_and_logs_no_path(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = Recorder(echo=True)

    def decide(request: Upgrade) -> Decision:
        return Accept(handler) if request.path == "/ws/good" else Refusal(403)

    caplog.set_level(logging.INFO)
    async with behind_uvicorn(decide) as (server, port):
        async with ws_connect(f"ws://127.0.0.1:{port}/ws/good?key=s3cret") as client:
            assert len(server.server_state.connections) == 1
            await client.send("through")
            assert await client.recv() == "through"
        await handler.end()
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await ws_connect(f"ws://127.0.0.1:{port}/ws/bad")
        await until(lambda: not server.server_state.connections)
    assert "/ws/" not in caplog.text and "s3cret" not in caplog.text


async def test_shutdown_of_uvicorn_closes_with_1012() -> None:
    handler = Recorder()
    async with behind_uvicorn(accept(handler)) as (_, port):
        client = await ws_connect(f"ws://127.0.0.1:{port}/")
    with pytest.raises(websockets.ConnectionClosed) as closed:
        await client.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
    assert (await handler.end())[0] == 1012


async def test_shutdown_before_the_handshake_closes_the_connection() -> None:
    shell = server_protocol(accept(Recorder()))()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: shell, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await asyncio.sleep(0.01)
    shell.shutdown()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    shell.shutdown()
    writer.close()
    server.close()


def _run_on_uvloop(main: Callable[[], Awaitable[None]]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())  # type: ignore[arg-type]


def test_on_uvloop_the_handshakes_and_limits_are_the_same() -> None:
    _run_on_uvloop(test_oversized_message_of_ten_megabytes_still_hears_1009)
    _run_on_uvloop(test_close_by_the_server_is_a_handshake)
    _run_on_uvloop(test_client_against_our_server_with_headers_subprotocol_and_query)
    _run_on_uvloop(test_client_does_not_wait_longer_than_its_timeout)
    _run_on_uvloop(test_unsent_grows_with_a_peer_who_does_not_read_and_is_bounded)
    _run_on_uvloop(test_socket_options_are_set)
    _run_on_uvloop(test_shutdown_before_the_handshake_closes_the_connection)


@pytest.mark.parametrize("key", ["k3y\r\nX-Evil: 1", "k3y\n", "k3y\0", "k3y\u4e2d"])
async def test_a_key_that_no_header_can_carry_is_an_error_without_it(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LinkError) as raised:
        await connect("ws://127.0.0.1:9/ws", Recorder(), headers={"Authorization": f"Bearer {key}"}, timeout=1)
    assert "Authorization" in str(raised.value)
    chain = [raised.value, raised.value.__cause__]
    assert "k3y" not in "".join(map(str, chain)) and raised.value.__suppress_context__
    assert caplog.records == []
