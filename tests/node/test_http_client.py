"""Requests to carriers and static workers: what counts as done, and that each ends in its time, whoever answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest

from gateway.carriers.orders import RestCall
from gateway.carriers.rest_answers import MAX_BODY
from gateway.node.http_client import HttpClient, HttpReply, NotSent, Unanswered
from gateway.sockets import Refusal, server_protocol
from tests.kit.dribble import dribbling
from tests.kit.waiting import PATIENCE

SECONDS = 0.3
"""What the deadline is here. Those who break it would dribble for ever."""


@pytest.fixture
async def rest():
    rest = HttpClient()
    rest.warm_up()
    yield rest
    await rest.close()


@contextlib.asynccontextmanager
async def answering(answer: bytes):
    """The port of a server that says this to whatever is asked, and what it was asked."""
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if (length := asked[-1].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]).isdigit():
            asked[-1] += await reader.readexactly(int(length))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


def http(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (status, len(body), body)


def hang_up(port: int, **values) -> RestCall:
    return RestCall("POST", f"http://127.0.0.1:{port}/Calls/CA1", **values)


@pytest.mark.parametrize(
    ("answer", "done", "is_done"),
    [
        (http(200), (), True),
        (http(204), (), True),
        (http(404), (), False),
        (http(404), ("404",), True),
        (http(400, b'{"code": 21220}'), ("21220",), True),
        (http(400, b'{"code": 21221}'), ("21220",), False),
        (http(500), ("404",), False),
        (http(401, b'{"api_id": "4041-4b", "error": "no"}'), ("404",), False),
        (http(302), (), False),
        (b"", (), False),
        (b"no http at all\r\n\r\n", (), False),
    ],
)
async def test_what_counts_as_done(rest, answer, done, is_done):
    async with answering(answer) as (port, _):
        assert await rest.ask(hang_up(port, done=done), seconds=PATIENCE) is is_done


async def test_a_form_or_json_with_what_proves_who_asks(rest):
    async with answering(http(200)) as (port, asked):
        await rest.ask(hang_up(port, form=[("Status", "completed")], auth=("AC1", "t")), seconds=PATIENCE)
        await rest.ask(hang_up(port, json={"a": 1}, headers=[("authorization", "Bearer k")]), seconds=PATIENCE)
    form, tree = asked
    assert form.startswith(b"POST /Calls/CA1 HTTP/1.1\r\n")
    assert b"authorization: basic qumxonq=" in form.lower()
    assert form.endswith(b"\r\n\r\nStatus=completed")
    assert b"authorization: Bearer k\r\n" in tree
    assert json.loads(tree.partition(b"\r\n\r\n")[2]) == {"a": 1}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://127.0.0.1:99999/", "http://a..b/", "ftp://127.0.0.1/", "nonsense", ""]
)
async def test_nobody_there_or_no_address_at_all(rest, url):
    assert await rest.ask(RestCall("POST", url), seconds=PATIENCE) is False
    assert await rest.status(url, seconds=PATIENCE) is None


LONG_BODY = b"HTTP/1.1 %d OK\r\ncontent-length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("begins", "is_done"),
    [(b"", False), (b"HTTP/1.1 200 OK\r\nx-", False), (LONG_BODY % 500, False), (LONG_BODY % 200, True)],
)
async def test_a_carrier_that_dribbles_has_no_longer_than_one_that_is_silent(rest, begins, is_done):
    async with dribbling(begins) as port, asyncio.timeout(PATIENCE):
        assert await rest.ask(hang_up(port), seconds=SECONDS) is is_done


async def test_an_answer_with_its_headers_and_body(rest):
    answer = b"HTTP/1.1 429 X\r\nRetry-After: 3\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    async with answering(answer) as (port, _):
        reply = await rest.send(hang_up(port), PATIENCE)
    assert reply == HttpReply(429, {"retry-after": "3", "content-length": "2", "connection": "close"}, b"{}")


async def test_a_list_in_a_form_repeats_its_name(rest):
    async with answering(http(200)) as (port, asked):
        await rest.send(hang_up(port, form={"Event": ["ringing", "answered"]}), PATIENCE)
    assert asked[0].endswith(b"\r\n\r\nEvent=ringing&Event=answered")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://127.0.0.1:99999/", "http://a..b/", "nonsense", ""])
async def test_what_could_not_be_sent_was_surely_not_done(rest, url):
    assert isinstance(await rest.send(RestCall("POST", url), PATIENCE), NotSent)


async def test_no_connection_in_time_is_not_sent(rest):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as waiting:
            for _ in range(3):  # a full backlog answers no SYN
                client = waiting.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
            assert await rest.send(hang_up(port), SECONDS) == NotSent("TimeoutError")


async def test_a_connection_that_closes_unanswered_may_have_done_it(rest):
    async with answering(b"") as (port, _):
        assert await rest.send(hang_up(port), PATIENCE) == Unanswered("RemoteProtocolError")


async def test_silence_after_the_request_may_have_done_it(rest):
    async with dribbling(b"") as port:
        assert await rest.send(hang_up(port), SECONDS) == Unanswered("TimeoutError")


async def test_a_status_counts_although_its_body_breaks_off(rest):
    async with answering(b'HTTP/1.1 201 X\r\ncontent-length: 90\r\n\r\n{"sid"') as (port, _):
        reply = await rest.send(hang_up(port), PATIENCE)
    assert reply == HttpReply(201, {"content-length": "90"}, b'{"sid"')


async def test_an_endless_body_is_cut(rest):
    endless = b"HTTP/1.1 200 X\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 300_000
    async with dribbling(endless) as port:
        reply = await rest.send(hang_up(port), PATIENCE)
    assert isinstance(reply, HttpReply)
    assert len(reply.body) == MAX_BODY


async def test_what_is_asked_is_sent_once(rest):
    async with answering(http(500)) as (port, asked):
        await rest.send(hang_up(port), PATIENCE)
    assert len(asked) == 1


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\nx-"])
async def test_a_worker_whose_page_dribbles_has_no_page(rest, begins):
    async with dribbling(begins) as port, asyncio.timeout(PATIENCE):
        assert await rest.status(f"http://127.0.0.1:{port}/readyz", seconds=SECONDS) is None


async def test_the_body_of_a_page_is_not_read_for_its_status(rest):
    endless = b"HTTP/1.1 503 X\r\ncontent-length: 1000000000\r\n\r\n"
    async with dribbling(endless) as port:
        assert await rest.status(f"http://127.0.0.1:{port}/readyz", seconds=PATIENCE) == 503


async def test_the_status_of_a_page(rest):
    protocol = server_protocol(lambda _: Refusal(403), plain=lambda upgrade: Refusal(200, "ready"))
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for _ in range(3):
        assert await rest.status(f"http://127.0.0.1:{port}/readyz", seconds=PATIENCE) == 200
    server.close()


async def test_closing_what_was_never_opened():
    await HttpClient().close()
