"""A browser page on another site against a gateway under --dev."""

from __future__ import annotations

import socket

import pytest

from gateway.node.node import Node
from gateway.serve.app import make_app, make_authorizer, make_node
from gateway.serve.browser_guard import BrowserGuard
from gateway.sessions.table import Sessions
from gateway.settings import Settings
from tests.acceptance.program import Gateway
from tests.kit.http_server import client, serving
from tests.kit.waiting import PATIENCE

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


@pytest.fixture
def node() -> Node:
    settings = {"public_url": "https://dev.example.com", "secret": "0123456789abcdef", "services": [{"host": "a.b"}]}
    return make_node(Settings.model_validate(settings), dev=True)


async def ask(node: Node, path: str, *lines: str) -> int:
    """The status that a real server with the guard answers a request with, byte for byte."""
    sessions, guard = Sessions(node), BrowserGuard(node)
    authorizer = make_authorizer(sessions, Settings(public_url=node.public_url), dev=True, local_key="k")
    app, decide = guard.app(make_app(sessions, lambda: True)), guard.decide(authorizer.decide)
    async with serving(app=app, decide=decide) as served, client(served.port) as browser:
        browser.send("\r\n".join((f"GET {path} HTTP/1.1", *lines, "\r\n")).encode())
        return int((await browser.reader.readuntil(b"\r\n\r\n")).split()[1])


OWN = [
    ("Host: 127.0.0.1:8080",),
    ("Host: localhost:8080",),
    ("Host: [::1]:8080",),
    ("Host: dev.example.com",),
    ("Host: Dev.Example.Com:443", "Origin: https://dev.example.com"),
    ("Host: 127.0.0.1:8080", "Origin: http://localhost:3000"),
    ("Host: 127.0.0.1:8080", "Origin: http://localhost:3000", "Sec-Fetch-Site: cross-site"),
    ("Host: 127.0.0.1:8080", "Sec-Fetch-Site: none"),
    (),
]
FOREIGN = [
    (("Host: evil.example",), "foreign_host"),
    (("Host: evil.example:8080", "Origin: http://evil.example:8080"), "foreign_host"),
    (("Host: 127.0.0.1.evil.example",), "foreign_host"),
    (("Host: localhost.evil.example",), "foreign_host"),
    (("Host: 10.0.0.7:8080",), "foreign_host"),
    (("Host: [",), "foreign_host"),
    (("Host: 127.0.0.1:8080", "Origin: https://evil.example"), "foreign_origin"),
    (("Host: 127.0.0.1:8080", "Origin: null"), "foreign_origin"),
    (("Host: 127.0.0.1:8080", "Origin: "), "foreign_origin"),
    (("Host: 127.0.0.1:8080", "Sec-Fetch-Site: cross-site"), "foreign_origin"),
]


@pytest.mark.parametrize("lines", OWN)
async def test_this_machine_and_the_public_name_are_answered(node, lines):
    assert await ask(node, "/livez", *lines) == 200
    assert await ask(node, "/webhooks/plivo/voice?CallUUID=11111111-2222-3333-4444-555555555555", *lines) == 200
    assert await ask(node, "/ws/twilio", *UPGRADE, *lines) == 101
    assert not [where for where, _ in node.rejected if where == "dev"]


@pytest.mark.parametrize(("lines", "reason"), FOREIGN)
async def test_a_page_of_another_site_is_not(node, lines, reason):
    for path in ("/livez", "/status", "/webhooks/plivo/voice?CallUUID=1", "/nothing"):
        assert await ask(node, path, *lines) == 403
    assert await ask(node, "/ws/twilio", *UPGRADE, *lines) == 403
    assert node.rejected == {("dev", reason): 5}
    assert not node.streams


def test_the_guard_stands_before_a_real_dev_gateway_and_its_metrics():
    def status(url: str, host: str) -> bytes:
        address = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((address[0], int(address[2])), timeout=PATIENCE) as sock:
            sock.sendall(f"GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return sock.recv(4096).split()[1]

    with Gateway("--dev", "--port", "0", env={"GATEWAY_RECORDS": '""'}) as gateway:
        for url in (gateway.url, gateway.log("metrics and health")["ops"]):
            assert status(url, "evil.example") == b"403"
            assert status(url, "127.0.0.1") == b"200"
        gateway.log("refused")  # its line comes by a pipe, and may be later than the answer
        lines = [one for one in gateway.records() if one["event"] == "refused"]
        assert {(one["where"], one["reason"]) for one in lines} == {("dev", "foreign_host")}
