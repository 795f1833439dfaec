"""A request to a running session's bot reaches it as it came, within bounds, from any node."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.api import proxy
from gateway.api.parts import Api
from gateway.pool.facts import FactEvent
from gateway.serve.app import make_app
from tests.api.image import JSON, Image, Route, image, serve_by
from tests.api.serving import KEY, KEYS, READ_KEY, problem
from tests.kit.http_server import serving
from tests.kit.node import SERVICE, start
from tests.kit.two_nodes import second_node
from tests.kit.waiting import until

AGENT = SERVICE.partition(".")[0]


@pytest.fixture
def service(service):
    return replace(service, protocol="relay", rest=0.0, wrapup=0.1)


@asynccontextmanager
async def client_of(sessions, key: str = KEY):
    """A client of this node's API, by real HTTP."""
    app = make_app(sessions, lambda: True, Api(sessions, KEYS))
    async with (
        serving(app=app) as served,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{served.port}", headers={"authorization": f"Bearer {key}"}
        ) as http,
    ):
        yield http
    await sessions.node.worker_http.close()


@pytest.fixture
async def worker(gateway):
    async with image() as made:
        await serve_by(gateway, made)
        yield made
        for session in gateway.sessions:
            session.superseded()
        await until(lambda: not gateway.sessions)


@pytest.fixture
async def http(gateway, worker):
    async with client_of(gateway.sessions) as client:
        yield client


@pytest.fixture
async def session(gateway, worker) -> str:
    """A call that the worker serves."""
    stream = await gateway.open(await gateway.stream_path())
    stream.send(start())
    await until(lambda: worker.heard)
    [running] = gateway.sessions
    await until(lambda: running.facts.node)
    return running.id


def url(session: str, path: str, agent: str = AGENT) -> str:
    return f"/v1/public/{agent}/sessions/{session}/{path}"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("agent", [AGENT, SERVICE])
async def test_a_request_comes_to_the_bot_as_it_was_sent(http, worker, session, method, agent):
    worker.routes["/context/a%2Fb"] = Route(201, (JSON, (b"x-bot", b"1")), (b'{"updated":', b"true}"))
    body = b'{"user_name": "Ada"}' if method in ("POST", "PUT", "PATCH") else b""
    headers = {"content-type": "application/json", "x-mine": "2", "te": "trailers", "connection": "x-hop", "x-hop": "3"}
    answer = await http.request(method, url(session, "context/a%2Fb?n=1&m=%20", agent), content=body, headers=headers)
    assert (answer.status_code, answer.json(), answer.headers["x-bot"]) == (201, {"updated": True}, "1")
    [asked] = worker.asked
    assert (asked["method"], asked["raw_path"], asked["query_string"]) == (method, b"/context/a%2Fb", b"n=1&m=%20")
    assert asked["body"] == body
    came = dict(asked["headers"])
    assert (came[b"content-type"], came[b"x-mine"], came[b"x-daily-session-id"]) == (JSON[1], b"2", session.encode())
    assert not {b"authorization", b"te", b"x-hop"} & set(came)
    assert came[b"host"] in worker.url.encode()


async def test_head_has_the_headers_only(http, worker, session):
    worker.routes["/status"] = Route(200, (JSON, (b"content-length", b"17")), ())
    answer = await http.head(url(session, "status"))
    assert (answer.status_code, answer.content, worker.asked[0]["method"]) == (200, b"", "HEAD")


async def test_what_the_bot_answers_comes_back_as_it_was_said(http, worker, session):
    headers = (JSON, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"connection", b"x-hop"), (b"x-hop", b"1"))
    worker.routes["/status"] = Route(418, headers, (b"{}",))
    answer = await http.get(url(session, "status"))
    assert answer.status_code == 418
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"] and "x-hop" not in answer.headers
    assert (await http.get(url(session, "nothing"))).json() == {"detail": "Not Found"}


async def test_an_answer_is_passed_on_piece_by_piece(http, worker, session):
    worker.go_on = asyncio.Semaphore(1)
    worker.routes["/events"] = Route(200, ((b"content-type", b"text/event-stream"),), (b"data: 1\n\n", b"data: 2\n\n"))
    async with http.stream("GET", url(session, "events")) as answer:
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"data: 1\n\n"
        worker.go_on.release()
        assert await anext(pieces) == b"data: 2\n\n"


async def test_a_body_without_a_length_is_passed_on(http, worker, session):
    async def body():
        yield b"one "
        yield b"two"

    worker.routes["/context"] = Route()
    assert (await http.post(url(session, "context"), content=body())).status_code == 200
    assert worker.asked[0]["body"] == b"one two"


async def test_bodies_that_are_too_large_do_not_reach_the_bot(http, worker, session, monkeypatch):
    monkeypatch.setattr(proxy, "MAX_REQUEST", 100)

    async def body():
        for _ in range(11):
            yield b"x" * 10

    worker.routes["/context"] = Route()
    for content in (b"x" * 101, body()):
        assert problem(await http.post(url(session, "context"), content=content), 413)["code"] == "too_large"
    assert not [asked for asked in worker.asked if len(asked["body"]) > 100]
    assert (await http.post(url(session, "context"), content=b"x" * 100)).status_code == 200


async def test_an_answer_that_is_too_large_is_broken_off(http, worker, session, monkeypatch):
    monkeypatch.setattr(proxy, "MAX_ANSWER", 100)
    worker.routes["/big"] = Route(200, (JSON,), (b"x" * 60, b"x" * 60))
    with pytest.raises(httpx.RemoteProtocolError), capture_logs() as lines:
        await http.get(url(session, "big"))
    assert [line for line in lines if "too large" in line["event"]]


async def test_a_bot_that_does_not_answer_in_time(gateway, http, worker, session, monkeypatch):
    monkeypatch.setattr(proxy, "SECONDS", 0.2)
    original = worker.__class__._http

    async def silent(self, scope, receive, send):
        if scope["raw_path"] == b"/slow":
            await asyncio.Event().wait()
        await original(self, scope, receive, send)

    monkeypatch.setattr(Image, "_http", silent)
    assert problem(await http.get(url(session, "slow")), 504)["code"] == "slow"
    worker.go_on, worker.routes["/half"] = asyncio.Semaphore(1), Route(200, (JSON,), (b"x", b"y"))
    with pytest.raises(httpx.RemoteProtocolError):
        await http.get(url(session, "half"))
    assert gateway.node.worker_http.running == 0


async def test_only_so_many_at_once(gateway, http, session):
    gateway.node.worker_http.running = proxy.AT_ONCE
    answer = await http.get(url(session, "status"))
    assert problem(answer, 429)["code"] == "too_many" and answer.headers["retry-after"]
    gateway.node.worker_http.running = 0


@pytest.mark.parametrize("path", ["ws", "bot", "api/offer", "whatsapp", "readyz", "livez", "%62ot", "/bot/"])
async def test_paths_of_the_image_itself_are_none_of_the_bots(http, worker, session, path):
    problem(await http.post(url(session, path)), 404)
    assert not worker.asked


async def test_a_worker_that_has_just_died(gateway, http, worker, session):
    live = gateway.sessions.get(session)
    dead = replace(live.claim.worker, url="ws://127.0.0.1:9/ws")
    await gateway.memory.beat(f"static:{SERVICE}", 1, [dead])
    said = problem(await http.get(url(session, "status")), 502)
    assert "ConnectError" in said["detail"]


async def test_any_node_finds_the_worker(gateway, worker, session):
    worker.routes["/status"] = Route(parts=(b'{"on":"air"}',))
    async with second_node(gateway) as second, client_of(second.sessions) as http:
        assert (await http.get(url(session, "status"))).json() == {"on": "air"}


async def test_while_the_registry_is_away_the_calls_own_node_knows_the_worker(gateway, http, worker, session):
    worker.routes["/status"] = Route()
    gateway.memory.down = True
    assert (await http.get(url(session, "status"))).status_code == 200
    problem(await http.get(url("other", "status")), 503)
    gateway.memory.down = False


async def test_sessions_that_have_no_bot(gateway, http, session):
    for agent in ("sales", "sales.acme"):
        assert problem(await http.get(url(session, "status", agent)), 404)["code"] == "unknown_service"
    problem(await http.get(url("no-such-session", "status")), 404)
    await gateway.memory.merge("prepared", FactEvent(service=SERVICE, status="queued", created=1.0))
    assert problem(await http.get(url("prepared", "status")), 409)["code"] == "no_worker"
    await gateway.memory.merge("other", FactEvent(service="sales.acme", status="streaming", created=1.0))
    problem(await http.get(url("other", "status")), 404)
    await gateway.memory.merge("over", FactEvent(service=SERVICE, status="ended", ended=2.0, call_ended=2.0))
    problem(await http.get(url("over", "status")), 404)


async def test_a_worker_of_the_gateways_own_has_no_routes(gateway):
    stream = await gateway.open(await gateway.stream_path())
    stream.send(start())
    await until(lambda: any(bot.connections for bot in gateway.bots))
    [running] = gateway.sessions
    async with client_of(gateway.sessions) as http:
        said = problem(await http.get(url(running.id, "status")), 501)
    assert "listed by their URLs" in said["detail"]


async def test_it_needs_the_scope_of_a_start_and_leaves_a_line(gateway, http, worker, session):
    worker.routes["/speak"] = Route()
    async with client_of(gateway.sessions, READ_KEY) as reader:
        problem(await reader.post(url(session, "speak")), 403)
    async with client_of(gateway.sessions, "wrong") as stranger:
        problem(await stranger.get(url(session, "speak")), 401)
    assert not worker.asked
    with capture_logs() as lines:
        await http.post(url(session, "speak"))
    [line] = [line for line in lines if line["event"] == "audit"]
    assert (line["action"], line["status"], line["session_id"]) == ("session_post", 200, session)
    assert "speak" not in str(line)
