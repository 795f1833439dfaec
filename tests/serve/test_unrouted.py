"""Wrong paths, and upgrades that a proxy has stripped: an answer that says what to do, a metric, few log lines."""

from __future__ import annotations

import pytest
import structlog

from gateway.node.node import Node
from gateway.node.urls import NO_UPGRADE, NOT_FOUND
from gateway.serve.app import make_app, make_authorizer, make_node
from gateway.sessions.table import Sessions
from gateway.settings import Settings
from tests.kit.http_server import client, serving


@pytest.fixture
def node() -> Node:
    settings = {"public_url": "https://voice.example.com/tel", "secret": "0123456789abcdef"}
    return make_node(Settings.model_validate(settings | {"services": [{"host": "a.b"}]}))


@pytest.fixture
def logs():
    with structlog.testing.capture_logs() as lines:
        yield lines


KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade")


async def ask(node: Node, path: str, *lines: str, method: str = "GET") -> tuple[int, bytes, bytes]:
    """Ask a real server, byte for byte: the answer's status, head and body."""
    sessions = Sessions(node)
    authorizer = make_authorizer(sessions, Settings(public_url=node.public_url), dev=False, local_key="k")
    app = make_app(sessions, lambda: True)
    request = "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", *lines, "Connection: close", "\r\n")).encode()
    async with (
        serving(app=app, decide=authorizer.decide, invalid=authorizer.invalid) as served,
        client(served.port) as stranger,
    ):
        stranger.send(request)
        said = await stranger.end()
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


@pytest.mark.parametrize(
    "path", ["/ws/twilio/t0ken-of-a-call", "/tel/ws/exotel", "/ws", "/v1/workers/connect", "/ws/x/"]
)
@pytest.mark.parametrize(
    ("left", "missing"),
    [
        ((), "`Upgrade: websocket` and `Connection: Upgrade`"),
        (("Upgrade: websocket",), "`Connection: Upgrade`"),
        (("Connection: Upgrade",), "`Upgrade: websocket`"),
    ],
    ids=["both", "connection", "upgrade"],
)
async def test_an_upgrade_that_a_proxy_stripped_is_told_so(node, logs, path, left, missing):
    status, head, body = await ask(node, path, KEY, VERSION, *left)
    assert (status, body.decode()) == (426, NO_UPGRADE)
    assert b"\r\nupgrade: websocket" in head  # RFC 9110, section 15.5.22
    assert node.rejected == {("http", "no_upgrade"): 1}
    [line] = [line for line in logs if line["event"] == "refused"]
    assert (line["where"], line["reason"]) == ("http", "no_upgrade")
    assert f"without {missing}: the proxy in front must pass" in line["hint"]
    assert "t0ken" not in str(line)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/webhoks/twilio/voice", "did you mean /webhooks/twilio/voice?"),
        ("/webhooks/twilio/voices/my-own-key", "did you mean /webhooks/twilio/voice/…?"),
        ("/tell/webhooks/twilio/voice", "did you mean /tel/webhooks/twilio/voice?"),
        ("/twilio/voice", "<carrier>"),
        ("/my-own-key", "<carrier>"),
        ("/", "<carrier>"),
        ("/" + "x" * 5000, "<carrier>"),
        ("/%00%ff", "<carrier>"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_wrong_path_is_told_so(node, logs, path, meant, method):
    status, _, body = await ask(node, path, "Content-Length: 0", method=method)
    assert (status, body.decode()) == (404, NOT_FOUND)
    assert node.rejected == {("http", "unknown_path"): 1}
    [line] = [line for line in logs if line["event"] == "refused"]
    assert meant in line["hint"]
    assert "my-own-key" not in str(line)
    assert len(line["hint"]) < 300


@pytest.mark.parametrize(
    ("path", "reason", "hint"),
    [
        ("/webhooks/plivo/voice", "carrier_closed", "set [carriers.plivo]"),
        ("/webhooks/twillio/voice", "unknown_carrier", "did you mean /webhooks/twilio/voice?"),
        ("/webhooks/vonage/voice", "unknown_carrier", "only twilio, telnyx, plivo, exotel"),
    ],
)
async def test_a_carrier_that_is_not_on_is_told_so(node, logs, path, reason, hint):
    status, _, body = await ask(node, path, "Content-Length: 0", method="POST")
    assert (status, body.decode()) == (404, NOT_FOUND)
    assert node.rejected == {("http", reason): 1}
    [line] = [line for line in logs if line["event"] == "refused"]
    assert hint in line["hint"]


@pytest.mark.parametrize(
    ("path", "reason", "hint"),
    [
        ("/wss/twilio/t0ken", "unknown_path", "did you mean /ws/twilio/…?"),
        ("/a/b/c", "unknown_path", "/ws/<carrier>"),
        ("/ws/vonage/t0ken", "unknown_carrier", "only twilio"),
        ("/ws/twilio/t0ken", "carrier_closed", "set [carriers.twilio]"),
        ("/ws/telnyx", "carrier_closed", "set [carriers.telnyx]"),
    ],
)
async def test_an_upgrade_to_a_wrong_path_is_told_so(node, logs, path, reason, hint):
    status, _, body = await ask(node, path, *UPGRADE, KEY, VERSION)
    assert (status, body.decode()) == (404, NOT_FOUND)
    assert node.rejected == {("upgrade", reason): 1}
    [line] = [line for line in logs if line["event"] == "refused"]
    assert hint in line["hint"]
    assert "t0ken" not in str(line)


@pytest.mark.parametrize(
    "lines",
    [(KEY,), (VERSION,), (KEY, KEY, VERSION), (KEY, "Sec-WebSocket-Version: 8"), (KEY, VERSION, "X: " + "y" * 9000)],
)
async def test_a_handshake_that_is_broken_is_counted(node, logs, lines):
    await ask(node, "/ws/twilio/t0ken", *UPGRADE, *lines)
    assert node.rejected == {("upgrade", "bad_handshake"): 1}
    [line] = [line for line in logs if line["event"] == "refused"]
    assert "Sec-WebSocket" in line["hint"]
    assert "t0ken" not in str(line) and "dGhl" not in str(line)


async def test_a_stranger_does_not_flood_the_log(node, logs):
    sessions = Sessions(node)
    async with serving(app=make_app(sessions, lambda: True)) as served, client(served.port) as stranger:
        for _ in range(200):
            stranger.send(b"GET /scanned HTTP/1.1\r\n\r\nGET /ws HTTP/1.1\r\n\r\n")
            assert [(await stranger.answer())[0] for _ in range(2)] == [404, 426]
    assert node.rejected == {("http", "unknown_path"): 200, ("http", "no_upgrade"): 200}
    assert len([line for line in logs if line["event"] == "refused"]) <= 2 * 6
