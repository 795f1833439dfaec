"""What a refused webhook and a status callback leave in the log."""

from __future__ import annotations

import base64
import hashlib
import hmac

import httpx
import pytest
import structlog

from gateway.node.node import Node
from gateway.serve.app import make_app, make_authorizer, make_node
from gateway.sessions.table import Sessions
from gateway.settings import Settings, load
from gateway.sockets import Upgrade

PUBLIC = "https://voice.example.com/tel"
ENVIRON = {
    "TWILIO_ACCOUNT_SID": "AC1",
    "TWILIO_AUTH_TOKEN": "twilio-token-of-the-tests",
    "PLIVO_AUTH_ID": "MA1",
    "PLIVO_AUTH_TOKEN": "plivo-token-of-the-tests",
    "TELNYX_API_KEY": "telnyx-key-of-the-tests",
    "TELNYX_PUBLIC_KEY": "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
}
CALL = {"CallSid": "CA00000000000000000000000000000001", "AccountSid": "AC1", "CallStatus": "ringing"}
WRONG = {
    "twilio": {"X-Twilio-Signature": base64.b64encode(bytes(20)).decode()},
    "plivo": {"X-Plivo-Signature-V3": base64.b64encode(bytes(32)).decode(), "X-Plivo-Signature-V3-Nonce": "n"},
    "telnyx": {"Telnyx-Signature-Ed25519": base64.b64encode(bytes(64)).decode(), "Telnyx-Timestamp": "1"},
}


@pytest.fixture
def node() -> Node:
    loaded = load(environ=ENVIRON)
    carriers = {name: loaded.carrier(name) for name in WRONG}
    whole = {"public_url": PUBLIC, "secret": "0123456789abcdef", "services": [{"host": "a.b"}], "carriers": carriers}
    return make_node(Settings.model_validate(whole))


@pytest.fixture
def logs():
    with structlog.testing.capture_logs() as lines:
        yield lines


def client(node: Node) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_app(Sessions(node), lambda: True))
    return httpx.AsyncClient(transport=transport, base_url="http://inside")


@pytest.mark.parametrize("name", ["twilio", "plivo"])
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("voice", "voice"),
        ("voice/", "voice/"),
        ("resume?gw_session=s3cret&x=s3cret&s3cret", "resume?gw_session&x&…"),
        ("status/s3cret?key=s3cret", "status/{key}?key"),
    ],
)
async def test_a_bad_signature_is_told_with_the_url_that_was_checked(node, logs, name, path, shown):
    async with client(node) as http:
        answer = await http.post(f"/tel/webhooks/{name}/{path}", data=CALL, headers=WRONG[name])
    assert (answer.status_code, answer.content) == (403, b"")
    [line] = [line for line in logs if line["event"] == "refused"]
    assert (line["carrier"], line["reason"]) == (name, "bad_signature")
    assert line["checked_url"] == f"{PUBLIC}/webhooks/{name}/{shown}"
    assert "public_url" in line["hint"]
    assert "s3cret" not in str(line)


async def test_no_url_is_named_where_none_is_signed(node, logs):
    """Telnyx signs the time and the body."""
    node.unix_time = lambda: 1.0
    async with client(node) as http:
        await http.post("/webhooks/telnyx/voice", data=CALL, headers=WRONG["telnyx"])
    [line] = [line for line in logs if line["event"] == "refused"]
    assert line["reason"] == "bad_signature"
    assert not {"checked_url", "hint"} & set(line)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/ws/twilio", "/ws/{carrier}"),
        ("/ws/twilio/s/a.b/s3cret", "/ws/{carrier}/s/{service}/{key}"),
    ],
)
async def test_a_bad_signature_of_an_upgrade_is_told_in_the_same_way(node, logs, path, shown):
    authorizer = make_authorizer(Sessions(node), Settings(public_url=PUBLIC), dev=False, local_key="k")
    headers = {name.lower(): value for name, value in WRONG["twilio"].items()}
    authorizer.decide(Upgrade(f"/tel{path}", "key=s3cret", headers, "192.0.2.1"))
    [line] = [line for line in logs if line["event"] == "refused"]
    assert line["checked_url"] == f"wss://voice.example.com/tel{shown}?key"
    assert "s3cret" not in str(line)


async def post_signed(http: httpx.AsyncClient, route: str, fields: dict[str, str]) -> None:
    text = f"{PUBLIC}/webhooks/twilio/{route}" + "".join(name + fields[name] for name in sorted(fields))
    digest = hmac.digest(ENVIRON["TWILIO_AUTH_TOKEN"].encode(), text.encode(), hashlib.sha1)
    headers = {"X-Twilio-Signature": base64.b64encode(digest).decode()}
    answer = await http.post(f"/webhooks/twilio/{route}", data=fields, headers=headers)
    assert answer.status_code < 300


async def test_a_status_callback_is_logged_without_what_it_does_not_say(node, logs):
    async with client(node) as http:
        for status in ("ringing", "completed"):
            await post_signed(http, "status", CALL | {"CallStatus": status})
    lines = [line for line in logs if line["event"] == "carrier status callback"]
    assert [line["status"] for line in lines] == ["ringing", "ended"]
    for line in lines:
        assert "" not in line.values(), line


async def test_the_end_of_a_call_is_logged_with_its_seconds(node, logs):
    node.unix_time = lambda: 1000.0
    async with client(node) as http:
        await post_signed(http, "voice", CALL)
        node.unix_time = lambda: 1042.5
        await post_signed(http, "status", CALL | {"CallStatus": "completed"})
    [line] = [line for line in logs if line["event"] == "carrier status callback"]
    assert (line["status"], line["seconds"]) == ("ended", 42.5)
