"""Who may ask, and what is wrong with a request: always a problem, which names the field and shows no value."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.requests import Request
from structlog.testing import capture_logs

from gateway.api.validation import MAX_BODY, read_body
from gateway.serve.app import make_app
from tests.api.serving import KEY, READ_KEY, api_of, problem

HANGUP = "/v1/calls/abc/hangup"
DTMF = "/v1/calls/abc/dtmf"
SECRET = "hunter2-of-the-tests"


# Keys.


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY])
async def test_without_a_key_nothing_is_done(gateway, header):
    async with api_of(gateway.sessions, "") as http:
        answer = await http.post(HANGUP, headers={} if header is None else {"authorization": header})
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert gateway.node.rejected["api", "bad_key"] == 1


async def test_a_gateway_without_keys_is_closed(gateway):
    transport = httpx.ASGITransport(make_app(gateway.sessions, lambda: True))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        problem(await http.post(HANGUP, headers={"authorization": "Bearer "}), 401)


async def test_a_key_of_another_scope_is_not_enough(gateway):
    async with api_of(gateway.sessions, READ_KEY) as http:
        said = problem(await http.post(HANGUP), 403)
    assert said["code"] == "scope" and "calls:write" in said["detail"]


async def test_who_is_not_let_in_learns_nothing_of_the_request(gateway):
    async with api_of(gateway.sessions, "") as http:
        problem(await http.post(DTMF, content=b"{"), 401)


# Paths and methods.


@pytest.mark.parametrize("path", ["/v1/", "/v1/nothing", "/v1/calls/a/b/c", "/start/x", "/v1/calls/a%2Fb/hangup"])
async def test_a_path_that_is_not_there(http, path):
    problem(await http.post(path), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"])
async def test_another_method(http, method):
    answer = await http.request(method, HANGUP)
    assert problem(answer, 405)["code"] == "method"
    assert answer.headers["allow"] == "POST"


async def test_a_slash_at_the_end_is_no_other_path(http):
    problem(await http.post(f"{HANGUP}/"), 404)
    assert (await http.get("/v1/openapi.json/")).status_code == 200


async def test_the_path_of_the_public_url_stands_before_it(gateway):
    gateway.node.public_url = "http://127.0.0.1:1/voice"
    async with api_of(gateway.sessions) as http:
        assert (await http.get("/voice/v1/docs")).status_code == 200
        assert (await http.get("http://127.0.0.1:1/v1/docs")).status_code == 200
        problem(await http.get("/voice/v1/nothing"), 404)


# Bodies.


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_that_is_not_said_to_be_json(http, content_type):
    problem(await http.post(DTMF, content=b'{"digits":"1"}', headers={"content-type": content_type}), 415)


async def test_a_body_that_is_too_large(http):
    headers = {"content-type": "application/json"}
    problem(await http.post(DTMF, content=b" " * (MAX_BODY + 1), headers=headers), 413)


async def test_a_body_that_does_not_come():
    async def receive() -> dict:
        await asyncio.sleep(1000)

    said = await read_body(Request({"type": "http", "headers": []}, receive), 0.01)
    assert said.status == 408


async def test_a_body_whose_sender_leaves():
    async def receive() -> dict:
        return {"type": "http.disconnect"}

    said = await read_body(Request({"type": "http", "headers": []}, receive))
    assert said.status == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'{"digits":"\xff"}', b'{"digits":"\\ud800"}', b"NaN", b"[" * 100_000, b'{"digits":1e999}'],
)
async def test_a_body_that_is_no_json(http, body):
    answer = await http.post(DTMF, content=body, headers={"content-type": "application/json; charset=utf-8"})
    assert problem(answer, 422)["code"] == "bad_json"


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        ({}, "digits", "is missing"),
        ({"digits": 5}, "digits", "must be a string"),
        ({"digits": None}, "digits", "must be a string"),
        ({"digits": ""}, "digits", "has not the form that it must have (0-9 A-D * #"),
        ({"digits": SECRET}, "digits", "has not the form that it must have"),
        ({"digits": "1", "digit": SECRET}, "digit", "there is no such field; do you mean digits?"),
        ({"digits": "1", "x\n\u202e" * 40: 1}, "x\\n\\u202e", "there is no such field; there are digits"),
        ([], "", "must be an object"),
        ("x", "", "must be an object"),
    ],
)
async def test_a_wrong_field_is_named_and_its_value_not_shown(http, body, field, detail):
    answer = await http.post(DTMF, json=body)
    said = problem(answer, 422)
    assert [(each["field"][:9], each["detail"][: len(detail)]) for each in said["errors"]] == [(field, detail)]
    assert SECRET not in answer.text


async def test_a_query_is_not_passed_over(http):
    assert problem(await http.post(f"{HANGUP}?at_once=true"), 422)["errors"][0]["field"] == "at_once"
    problem(await http.get("/v1/docs?a=%ff"), 422)
    problem(await http.get("/v1/docs?" + "a" * 9000), 422)


async def test_a_body_may_be_left_out_where_nothing_must_be_said(http):
    problem(await http.post(HANGUP), 404)
    problem(await http.post(HANGUP, json={"at_once": True}), 404)
    problem(await http.post(HANGUP, json={"at_once": "yes"}), 422)


async def test_without_a_registry_it_says_so(gateway, http):
    gateway.memory.down = True
    answer = await http.post(HANGUP)
    assert problem(answer, 503)["code"] == "registry_down"
    assert answer.headers["retry-after"] == "1"


async def test_a_bug_is_a_problem_too(gateway, http, monkeypatch):
    async def broken(*_, **__):
        raise ValueError(SECRET)

    monkeypatch.setattr("gateway.api.control.control.hang_up", broken)
    answer = await http.post(HANGUP)
    problem(answer, 500)
    assert SECRET not in answer.text


# The audit log.


async def test_each_write_is_a_line_with_the_keys_name_and_not_the_key(http):
    with capture_logs() as logged:
        await http.post(DTMF, json={"digits": "1"})
    [line] = [line for line in logged if line["event"] == "audit"]
    said = {"key": "all", "action": "dtmf", "session_id": "abc", "status": 404, "code": "not_found"}
    assert line == {"event": "audit", "log_level": "info", **said}
    assert KEY not in str(logged)


async def test_a_read_is_none(http):
    with capture_logs() as logged:
        await http.get("/v1/docs")
    assert not [line for line in logged if line["event"] == "audit"]


async def test_a_write_without_the_scope_is_one(gateway):
    with capture_logs() as logged:
        async with api_of(gateway.sessions, READ_KEY) as http:
            await http.post(HANGUP)
    [line] = [line for line in logged if line["event"] == "audit"]
    assert (line["key"], line["status"], line["code"]) == ("reader", 403, "scope")
