from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from gateway.simulator.carrier import Request
from gateway.simulator.http import Http, absolute, local_stream_url, local_url, public_stream_url
from gateway.simulator.twilio import SimulatedTwilio

from .plans import plan
from .scripted_gateway import ScriptedGateway

PUBLIC = "https://voice.example.com/gw"


@pytest.mark.parametrize(
    ("url", "local"),
    [
        (PUBLIC + "/webhooks/x?a=1", "http://127.0.0.1:8080/webhooks/x?a=1"),
        (PUBLIC + "?a=1", "http://127.0.0.1:8080?a=1"),
        (PUBLIC + "ay/x", PUBLIC + "ay/x"),
        ("https://elsewhere.example/x", "https://elsewhere.example/x"),
    ],
)
def test_public_urls_are_requested_at_the_base_url(url: str, local: str) -> None:
    assert local_url(url, plan("twilio", "http://127.0.0.1:8080", public_url=PUBLIC)) == local


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("wss://voice.example.com/gw/ws/t", "ws://127.0.0.1:8080/ws/t"),
        ("wss://user:pw@voice.example.com/gw/ws/t", "ws://127.0.0.1:8080/ws/t"),
        ("wss://elsewhere.example/ws", "wss://elsewhere.example/ws"),
    ],
)
def test_public_streams_are_dialled_at_the_base_url(url: str, local: str) -> None:
    p = plan("twilio", "http://127.0.0.1:8080", public_url=PUBLIC)
    assert local_stream_url(url, p) == local
    assert public_stream_url("/ws/t", p) == "wss://voice.example.com/gw/ws/t"


def test_urls_of_an_answer_may_be_relative() -> None:
    assert absolute("../next", "https://h/a/b/c") == "https://h/a/next"
    assert absolute("", "https://h/a") == "https://h/a"


async def test_a_form_is_posted_and_logged() -> None:
    async with ScriptedGateway() as gateway:
        p = plan("twilio", gateway.url)
        async with Http(p, SimulatedTwilio(p), None) as http:
            answer = await http.send(Request("POST", p.public + "/x?a=1", [("k", "ä b"), ("empty", "")]))
        assert answer.status == 200
        (seen,) = gateway.requests
        assert parse_qs(seen.body.decode(), keep_blank_values=True) == {"k": ["ä b"], "empty": [""]}
        assert "x-twilio-signature" in seen.headers
        assert (http.log[0].method, http.log[0].path, http.log[0].status) == ("POST", "/x?a=1", 200)


async def test_multipart_has_the_captured_form() -> None:
    async with ScriptedGateway() as gateway:
        p = plan("twilio", gateway.url)
        async with Http(p, SimulatedTwilio(p), None) as http:
            await http.send(Request("POST", p.public + "/x", [("CallSid", "c"), ("Status", "s")], multipart=True))
        body = gateway.requests[0].body
        assert body.startswith(
            b'--form-data-boundary-lebu8d9e3h8xzvhf\r\nContent-Disposition: form-data; name="CallSid"\r\n\r\nc\r\n'
        )
        assert body.endswith(b"--form-data-boundary-lebu8d9e3h8xzvhf--\r\n\r\n")


async def test_no_gateway_is_tried_twice_and_is_status_0() -> None:
    async with ScriptedGateway() as gateway:
        gone = gateway.url
    p = plan("twilio", gone)
    async with Http(p, SimulatedTwilio(p), None) as http:
        answer = await http.send(Request("GET", p.public + "/x"))
    assert answer.status == 0
    assert "ConnectError" in answer.error
    assert [exchange.status for exchange in http.log] == [0, 0]
