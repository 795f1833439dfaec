"""The HTTP edge against strangers, by real sockets: heads without end, half requests, bodies that dribble, and all that
must work as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from gateway.serve.app import make_app, make_node
from gateway.serve.http_protocol import HttpLimits
from gateway.sessions.table import Sessions
from gateway.settings import Settings
from tests.acceptance.program import Gateway
from tests.kit.http_server import GET, HANDSHAKE, NEVER, client, serving
from tests.kit.waiting import PATIENCE, until

HEAD_BYTES = HttpLimits().head_bytes
SOON = 0.2
"""What a deadline is here that a test waits for. Others are NEVER."""
KERNEL = 24 * 1024 * 1024
"""Bytes that may be on their way between two sockets of one machine, and then some."""
ENDLESS = 60 * 1024 * 1024


# Heads without end.


@pytest.mark.parametrize(
    ("begins", "repeated"),
    [
        (b"GET /hello HTTP/1.1\r\n", b"x: " + b"y" * 1000 + b"\r\n"),
        (b"GET /hello HTTP/1.1\r\n", b"x:\r\n"),
        (b"GET /hello HTTP/1.1\r\nx: ", b"y"),
        (b"GET /hello HTTP/1.1\r\n", b"y"),
        (b"GET /", b"y"),
        (b"", b"\r\n"),
        (HANDSHAKE[:-2], b"x: y\r\n"),
        (b"POST /waits HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n"),
        (b"POST /waits HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: ", b"y"),
        (b"POST /waits HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"y"),
    ],
    ids=["headers", "names", "value", "name", "path", "lines", "upgrade", "trailers", "trailer", "extension"],
)
async def test_a_head_without_end_is_cut_off(begins, repeated):
    async with serving() as served, client(served.port) as stranger:
        part = repeated * (65536 // len(repeated))
        stranger.send(begins)
        sent = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while sent < ENDLESS:
                    stranger.send(part)
                    await stranger.writer.drain()
                    sent += len(part)
        assert sent < KERNEL
        await until(lambda: not served.connections)
        assert served.refused == ["too_large"]
        assert not served.upgrades


async def test_a_head_that_is_too_large_is_told_so():
    async with serving() as served, client(served.port) as stranger:
        stranger.send(b"GET /hello HTTP/1.1\r\nx: " + b"y" * (HEAD_BYTES + 1))
        assert (await stranger.end()).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@pytest.mark.parametrize("size", [100, HEAD_BYTES])
@pytest.mark.parametrize("cuts", [(), (1,), (20, 30, 60)])
async def test_a_head_that_is_not_is_answered_however_it_comes(size, cuts):
    head = b"GET /hello HTTP/1.1\r\nx: "
    whole = head + b"y" * (size - len(head) - 4) + b"\r\n\r\n"
    assert len(whole) == size
    async with serving() as served, client(served.port) as carrier:
        for _ in range(3):
            for begin, end in zip((0, *cuts), (*cuts, size), strict=True):
                carrier.send(whole[begin:end])
                await asyncio.sleep(0.01)
            assert await carrier.answer() == (200, b"hello")
        assert served.refused == []


# Half requests.


@pytest.mark.parametrize(
    "half",
    [b"G", GET[:-1], b"\r\n", HANDSHAKE[:-1], b"POST /hello HTTP/1.1\r\nContent-Length: 5\r\n", GET + GET[:-2]],
    ids=["letter", "get", "line", "upgrade", "post", "second"],
)
@pytest.mark.parametrize("first", [b"", GET], ids=["new", "used"])
async def test_half_a_request_is_closed_at_the_deadline(first, half):
    async with serving(head_seconds=SOON) as served, client(served.port) as stranger:
        if first:
            stranger.send(first)
            assert await stranger.answer() == (200, b"hello")
        stranger.send(half)
        said = await stranger.end()
        assert said.count(b"HTTP/1.1 ") == half.count(GET)
        assert served.refused == ["slow"]
        assert not served.upgrades


@pytest.mark.parametrize("request_", [GET, HANDSHAKE], ids=["get", "upgrade"])
async def test_one_that_dribbles_has_no_longer(request_):
    async with serving(head_seconds=SOON) as served, client(served.port) as stranger:

        async def dribble() -> None:
            stranger.send(request_[:10])
            while True:
                await asyncio.sleep(SOON / 10)
                stranger.send(b"x")

        dribbling = asyncio.create_task(dribble())
        assert await stranger.end() == b""
        dribbling.cancel()
        assert served.refused == ["slow"]


@pytest.mark.parametrize("first", [b"", GET], ids=["new", "used"])
async def test_one_that_asks_nothing_is_idle_and_not_slow(first):
    async with serving(keep_alive=SOON) as served, client(served.port) as quiet:
        if first:
            quiet.send(first)
            assert await quiet.answer() == (200, b"hello")
        assert await quiet.end() == b""
        assert served.refused == []


async def test_between_two_requests_there_is_more_time_than_within_one():
    async with serving(head_seconds=SOON) as served, client(served.port) as carrier:
        for _ in range(2):
            carrier.send(GET)
            assert await carrier.answer() == (200, b"hello")
            await asyncio.sleep(2 * SOON)
        assert served.refused == []


async def test_an_answer_may_take_longer_than_a_head():
    async with serving(head_seconds=SOON) as served, client(served.port) as carrier:
        carrier.send(GET.replace(b"hello", b"waits"))
        await asyncio.sleep(2 * SOON)
        served.go_on.set()
        assert await carrier.answer() == (200, b"at last")
        assert served.refused == []


async def test_what_was_asked_before_half_a_request_is_answered_before_the_end():
    async with serving(head_seconds=SOON) as served, client(served.port) as carrier:
        carrier.send(GET.replace(b"hello", b"waits") + GET[:10])
        await until(lambda: served.refused)
        served.go_on.set()
        said = await carrier.end()
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert said.endswith(b"at last")
        assert served.refused == ["slow"]


async def test_a_head_that_is_too_large_does_not_mix_into_an_answer():
    async with serving() as served, client(served.port) as stranger:
        stranger.send(GET.replace(b"hello", b"waits"))
        await until(lambda: served.asked)
        stranger.send(b"GET /hello HTTP/1.1\r\nx: " + b"y" * 2 * HEAD_BYTES)
        assert await stranger.end() == b""
        assert served.refused == ["too_large"]
        served.go_on.set()


async def test_a_body_that_nobody_wants_has_its_time_too():
    """Answered before it has come: the connection may not stay for its sake."""
    async with serving(head_seconds=SOON) as served, client(served.port) as stranger:
        stranger.send(b"POST /hello HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nx")
        assert await stranger.answer() == (200, b"hello")
        stranger.send(b"x")
        assert await stranger.end() == b""
        assert served.refused == ["slow"]


async def test_a_body_that_comes_after_its_answer_does_no_harm():
    async with serving(head_seconds=5 * SOON) as served, client(served.port) as carrier:
        carrier.send(b"POST /hello HTTP/1.1\r\nContent-Length: 3\r\n\r\n")
        assert await carrier.answer() == (200, b"hello")
        carrier.send(b"xyz" + GET)
        assert await carrier.answer() == (200, b"hello")
        await asyncio.sleep(6 * SOON)
        assert served.refused == []
        assert served.connections == 1


async def test_a_connection_that_is_lost_leaves_no_clock_behind():
    async with serving(head_seconds=SOON) as served:
        async with client(served.port) as stranger:
            stranger.send(GET[:10])
            await until(lambda: served.connections)
        await until(lambda: not served.connections)
        await asyncio.sleep(2 * SOON)
        assert served.refused == []


# What must work as before.


@pytest.mark.parametrize("size", [0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 5 * HEAD_BYTES])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_of_any_size(size, chunked):
    async def parts():
        for at in range(0, size, 7777):
            yield b"x" * min(7777, size - at)

    async with serving() as served, httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{served.port}/length"
        for _ in range(2):
            answer = await http.post(url, content=parts() if chunked else b"x" * size)
            assert answer.text == str(size)
        assert served.refused == []


async def test_a_body_with_trailers():
    async with serving() as served, client(served.port) as carrier:
        carrier.send(b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n")
        assert await carrier.answer() == (200, b"5")


async def test_requests_in_one_breath_are_answered_in_order():
    async with serving() as served, client(served.port) as carrier:
        carrier.send(GET * 5)
        assert [await carrier.answer() for _ in range(5)] == [(200, b"hello")] * 5
        assert served.refused == []


async def test_too_many_in_one_breath_are_not_kept():
    async with serving() as served, client(served.port) as stranger:
        stranger.send(GET.replace(b"hello", b"waits") + GET * 10000)
        await stranger.end()
        await until(lambda: not served.connections)
        assert served.asked == ["/waits"]
        assert served.refused == ["pipelined"]
        served.go_on.set()


async def test_what_is_no_http():
    async with serving() as served, client(served.port) as stranger:
        stranger.send(b"\x16\x03\x01 no http at all\r\n\r\n" + b"x" * 10 * HEAD_BYTES)
        assert (await stranger.end()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("cuts", [(), (1,), (40, 90, 120)])
async def test_an_upgrade_in_pieces(cuts):
    async with serving(head_seconds=NEVER) as served, client(served.port) as carrier:
        for begin, end in zip((0, *cuts), (*cuts, len(HANDSHAKE)), strict=True):
            carrier.send(HANDSHAKE[begin:end])
            await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE):
            assert (await carrier.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert (served.upgrades[0].path, served.upgrades[0].query) == ("/ws/twilio/t", "x=1")


async def test_a_websocket_outlives_every_deadline_of_http():
    async with (
        serving(head_seconds=SOON, keep_alive=SOON) as served,
        connect(f"ws://127.0.0.1:{served.port}/ws", proxy=None) as socket,
    ):
        for _ in range(3):
            await socket.send("x" * 30_000)
            assert await socket.recv() == "x" * 30_000
            await asyncio.sleep(SOON)
        assert served.refused == []


async def test_an_upgrade_after_a_request():
    async with serving(head_seconds=SOON, keep_alive=5 * SOON) as served, client(served.port) as carrier:
        carrier.send(GET)
        assert await carrier.answer() == (200, b"hello")
        carrier.send(HANDSHAKE)
        async with asyncio.timeout(PATIENCE):
            assert (await carrier.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await asyncio.sleep(6 * SOON)
        carrier.send(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi")  # a text frame, masked with zeros
        async with asyncio.timeout(PATIENCE):
            assert await carrier.reader.readexactly(4) == b"\x81\x02hi"


async def test_what_follows_a_handshake_at_once_is_dropped_however_much():
    async with serving() as served, client(served.port) as stranger:
        stranger.send(HANDSHAKE + b"x" * 10 * HEAD_BYTES)
        await until(lambda: served.upgrades)
        assert served.refused == []


async def test_an_upgrade_to_what_we_do_not_speak_is_answered_and_ends():
    async with serving(head_seconds=SOON) as served, client(served.port) as stranger:
        stranger.send(b"GET /hello HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert await stranger.answer() == (200, b"hello")
        stranger.send(b"x" * 10)
        assert (await stranger.end()).startswith(b"HTTP/1.1 400 ")


# Keep-alive.


async def test_a_used_connection_outlives_the_bound_of_a_first_request():
    """A balancer keeps it for minutes, and must be the one that closes it."""
    bound = 5 * SOON
    async with serving(first_seconds=bound) as served, client(served.port) as balancer, client(served.port) as stranger:
        balancer.send(GET)
        assert await balancer.answer() == (200, b"hello")
        assert await stranger.end() == b"", "it has asked nothing"
        await asyncio.sleep(bound)
        balancer.send(GET)
        assert await balancer.answer() == (200, b"hello")


async def test_idle_connections_are_bounded_and_the_oldest_goes_first():
    async with serving(idle=2) as served, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(served.port)) for _ in range(3)]
        for one in (*clients[:2], clients[0], clients[2]):
            one.send(GET)
            assert await one.answer() == (200, b"hello")
        assert await clients[1].end() == b"", "it has waited for longest"
        for one in (clients[0], clients[2]):
            one.send(GET)
            assert await one.answer() == (200, b"hello")


async def test_a_connection_that_is_answering_is_not_idle():
    async with serving(idle=1) as served, client(served.port) as carrier, client(served.port) as other:
        carrier.send(GET)
        await carrier.answer()
        carrier.send(GET.replace(b"hello", b"waits"))
        await until(lambda: "/waits" in served.asked)
        other.send(GET)
        await other.answer()
        served.go_on.set()
        assert await carrier.answer() == (200, b"at last")


async def test_a_body_behind_its_answer_leaves_no_connection_for_ever():
    async with serving(keep_alive=SOON) as served, client(served.port) as stranger:
        stranger.send(b"POST /hello HTTP/1.1\r\nContent-Length: 3\r\n\r\n")
        assert await stranger.answer() == (200, b"hello")
        stranger.send(b"xyz")
        assert await stranger.end() == b""
        assert served.refused == []


# Upgrades.


def handshake(*lines: str) -> bytes:
    return "\r\n".join(
        [
            "GET /ws/twilio/t?x=1 HTTP/1.1",
            "Host: a",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            *lines,
            "\r\n",
        ]
    ).encode()


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: Upgrade", "Connection: keep-alive", "Upgrade: websocket"),
        ("Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket"),
        ("Connection: keep-alive, Upgrade", "Upgrade: websocket"),
        ("Connection: ,upgrade ,", "Connection: x", "Connection:", "Upgrade: WebSocket"),
        ("Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade"),
        ("Upgrade: h2c", "Upgrade: websocket", "Connection: Upgrade"),
        ("Upgrade: h2c, WebSocket", "Connection: Upgrade, HTTP2-Settings"),
    ],
)
async def test_the_headers_of_an_upgrade_are_lists(lines):
    """RFC 9110, section 5.3: a list may come in several lines."""
    async with serving() as served, client(served.port) as carrier:
        carrier.send(handshake(*lines))
        async with asyncio.timeout(PATIENCE):
            head = await carrier.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    assert [upgrade.path for upgrade in served.upgrades] == ["/ws/twilio/t"]


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: keep-alive", "Upgrade: websocket"),
        ("Connection: Upgrade", "Upgrade: websockets"),
        ("Connection: Upgrade",),
        ("Connection: not-upgrade", "Upgrade: websocket"),
    ],
)
async def test_what_asks_for_no_websocket_gets_none(lines):
    async with serving() as served, client(served.port) as stranger:
        stranger.send(handshake(*lines))
        assert (await stranger.answer())[0] == 404
        assert served.upgrades == []


async def test_other_lists_of_an_upgrade_are_joined_too():
    async with serving() as served, client(served.port) as carrier:
        carrier.send(
            handshake(
                "Connection: Upgrade",
                "Upgrade: websocket",
                "X-Forwarded-For: 192.0.2.1",
                "Sec-WebSocket-Protocol: one",
                "X-Forwarded-For: 192.0.2.2, 192.0.2.3",
                "Sec-WebSocket-Protocol: two",
                "X-Twilio-Signature: first",
                "X-Twilio-Signature: second",
            )
        )
        await until(lambda: served.upgrades)
    headers = served.upgrades[0].headers
    assert headers["x-forwarded-for"] == "192.0.2.1, 192.0.2.2, 192.0.2.3"
    assert headers["sec-websocket-protocol"] == "one, two"
    assert headers["x-twilio-signature"] == "first"


@pytest.mark.parametrize("asked", ["hello", "waits"])
async def test_an_upgrade_behind_a_request_is_refused_in_peace(asked, caplog):
    """Nothing of the answer may go into a WebSocket, and no traceback into the log."""
    async with serving() as served, client(served.port) as stranger:
        stranger.send(GET.replace(b"hello", asked.encode()) + HANDSHAKE + b"\x81\x82\0\0\0\0hi")
        await until(lambda: served.refused)
        served.go_on.set()
        said = await stranger.end()
        assert served.refused == ["pipelined"]
        assert served.upgrades == []
        await until(lambda: not served.connections)
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


# The gateway.


@pytest.fixture
def node():
    return make_node(Settings(public_url="http://127.0.0.1:1", secret="0123456789abcdef"), dev=True)


@pytest.mark.parametrize("part", [b"", b"CallSid=CA1"])
async def test_a_body_that_does_not_come_is_answered_408(node, part):
    app = make_app(Sessions(node), lambda: True, body_seconds=SOON)
    async with serving(app=app) as served, client(served.port) as stranger:
        stranger.send(b"POST /webhooks/twilio/voice HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + part)
        said = await stranger.end()
    assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert node.rejected == {("webhook", "slow"): 1}


async def test_a_body_that_dribbles_is_answered_408(node):
    app = make_app(Sessions(node), lambda: True, body_seconds=SOON)
    async with serving(app=app) as served, client(served.port) as stranger:
        stranger.send(b"POST /webhooks/twilio/voice HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

        async def dribble() -> None:
            while True:
                stranger.send(b"1\r\nx\r\n")
                await asyncio.sleep(SOON / 10)

        dribbling = asyncio.create_task(dribble())
        said = await stranger.end()
        dribbling.cancel()
    assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")


async def test_a_body_that_is_too_large_is_told_so_though_it_keeps_coming(node):
    async with serving(app=make_app(Sessions(node), lambda: True)) as served, httpx.AsyncClient() as http:
        answer = await http.post(f"http://127.0.0.1:{served.port}/webhooks/twilio/voice", content=b"x" * 10_000_000)
    assert answer.status_code == 413


def resident(pid: int) -> int:
    """Bytes."""
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


async def test_60_megabytes_of_headers_cost_the_program_nothing():
    with Gateway("--dev", "--port", "0", env={"GATEWAY_RECORDS": '""'}) as gateway:
        before = resident(gateway.process.pid)
        sent = 0
        async with client(int(gateway.url.rpartition(":")[2])) as stranger:
            stranger.send(b"GET / HTTP/1.1\r\n")
            with contextlib.suppress(ConnectionError):
                while sent < ENDLESS:
                    stranger.send(b"x: " + b"y" * 65536 + b"\r\n")
                    await stranger.writer.drain()
                    sent += 65536
        assert sent < KERNEL
        assert resident(gateway.process.pid) - before < 16 * 1024 * 1024
        line = await until(lambda: next((r for r in gateway.records() if r["event"] == "refused"), None))
        assert (line["where"], line["reason"]) == ("http", "too_large")
        assert httpx.get(f"{gateway.url}/readyz").status_code == 200
