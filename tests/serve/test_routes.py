"""Paths with a slash too many: answered as they were called, and never by a redirect to the Host of the request."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlencode

import pytest

from gateway.carriers import CARRIERS
from gateway.serve.app import make_app, make_authorizer, make_node
from gateway.serve.ops import make_ops_app
from gateway.sessions.table import Sessions
from gateway.settings import Settings, load
from tests.kit.http_server import client, serving

PUBLIC = "https://voice.example.com"
TOKEN = "twilio-token-of-the-tests"
FIELDS = {
    "CallSid": "CA00000000000000000000000000000001",
    "AccountSid": "AC1",
    "From": "+15550100001",
    "To": "+15550100000",
    "CallStatus": "ringing",
}
CALL = urlencode(FIELDS).encode()


def settings(**values) -> Settings:
    whole = {"public_url": PUBLIC, "secret": "0123456789abcdef", "services": [{"host": "a.b"}]}
    return Settings.model_validate(whole | values)


def twilio() -> Settings:
    environ = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": TOKEN}
    return settings(carriers={"twilio": load(environ=environ).carrier("twilio")})


def signature(text: str) -> bytes:
    return base64.b64encode(hmac.digest(TOKEN.encode(), text.encode(), hashlib.sha1))


async def statuses(app, *requests: bytes) -> list[int]:
    """What a real server answers to each of them, byte for byte as they are sent."""
    answers = []
    async with serving(app=app) as served:
        for request in requests:
            async with client(served.port) as stranger:
                stranger.send(request)
                answers.append((await stranger.answer())[0])
    return answers


@pytest.mark.parametrize("name", [*CARRIERS, "nobody"])
@pytest.mark.parametrize("route", ["voice", "resume", "status", "stream", "connect", "voice/key"])
@pytest.mark.parametrize("prefix", ["", "/tel"])
async def test_no_webhook_is_redirected(name, route, prefix):
    node = make_node(settings(public_url=PUBLIC + prefix), dev=True)
    path = f"{prefix}/webhooks/{name}/{route}"
    forms = [
        f"{method} {path}{slash} HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/x-www-form-urlencoded"
        f"\r\nContent-Length: {len(CALL)}\r\n\r\n".encode()
        + CALL
        for method in ("POST", "GET")
        for slash in ("", "/")
    ]
    post, post_with, get, get_with = await statuses(make_app(Sessions(node), lambda: True), *forms)
    assert (post_with, get_with) == (post, get)
    # Exotel's own answer to a Passthru applet is a 302 without a Location: branch B of the flow.
    assert not {post, get} & {301, 307, 308}


# No worker is there: /status says so.
@pytest.mark.parametrize(("path", "status"), [("/status", 503), ("/livez", 200), ("/readyz", 200), ("/lbz", 200)])
async def test_no_health_check_is_redirected(path, status):
    app = make_app(Sessions(make_node(settings(), dev=True)), lambda: True)
    request = f"GET {path}/ HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode()
    assert await statuses(app, request) == [status]


async def test_nothing_of_the_operators_is_redirected():
    app = make_ops_app(make_node(settings(), dev=True), lambda: True)
    requests = [f"GET {path}/ HTTP/1.1\r\nHost: evil\r\n\r\n".encode() for path in ("/metrics", "/livez", "/nothing")]
    assert await statuses(app, *requests) == [200, 200, 404]


async def test_a_signature_is_over_the_slash_that_the_carrier_called():
    app = make_app(Sessions(make_node(twilio())), lambda: True)
    form = "".join(name + FIELDS[name] for name in sorted(FIELDS))

    def post(path: str, signed: str) -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nHost: voice.example.com\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(CALL)}\r\nX-Twilio-Signature: ".encode()
            + signature(f"{PUBLIC}{signed}{form}")
            + b"\r\n\r\n"
            + CALL
        )

    path = "/webhooks/twilio/voice"
    requests = [post(path, path), post(f"{path}/", f"{path}/"), post(path, f"{path}/"), post(f"{path}/", path)]
    assert await statuses(app, *requests) == [200, 200, 403, 403]


async def test_an_upgrade_with_a_slash_is_decided_as_one_without():
    node = make_node(twilio())
    authorizer = make_authorizer(Sessions(node), settings(), dev=False, local_key="k")
    async with serving(decide=authorizer.decide) as served:
        for path, signed, status in (
            ("/ws/twilio", "/ws/twilio", 101),
            ("/ws/twilio/s/a.b/", "/ws/twilio/s/a.b/", 101),
            ("/ws/twilio/s/a.b/key/", "/ws/twilio/s/a.b/key/", 101),
            ("/ws/twilio/s/a.b/key/", "/ws/twilio/s/a.b/key", 403),
            ("/ws/twilio/", "/ws/twilio/", 403),
            ("/ws/", "/ws/", 403),
            ("/v1/workers/connect/", "", 401),
        ):
            async with client(served.port) as carrier:
                carrier.send(
                    f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                    "X-Twilio-Signature: ".encode()
                    + signature(f"wss://voice.example.com{signed}")
                    + b"\r\n\r\n"
                )
                head = await carrier.reader.readuntil(b"\r\n\r\n")
                assert int(head.split()[1]) == status, path
