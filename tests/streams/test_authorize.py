"""Keys that open a static stream: where they may stand, and that a webhook's are read by the same eyes."""

from __future__ import annotations

import base64

import pytest

from gateway.serve.app import make_authorizer, make_node
from gateway.sessions.table import Sessions
from gateway.settings import load
from gateway.sockets import Accept, Refusal, Upgrade
from gateway.streams.handshake import StreamHandshake

KEY = "stream-key-of-the-tests"
CONFIG = f"""
public_url = "https://voice.example.com"
secret = "0123456789abcdef"
[carriers.exotel]
account_sid = "e1"
api_key = "k"
api_token = "t"
webhook_secret = "webhook-secret-of-the-tests"
stream_key = ["an-older-{KEY}", "{KEY}"]
[[services]]
host = "a.b"
"""


@pytest.fixture
async def decide(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG)
    settings = load(str(file), {})
    authorizer = make_authorizer(Sessions(make_node(settings)), settings, dev=False, local_key="k")

    def decide(path: str, query: str = "", **headers: str) -> str | int:
        """The service that an accepted upgrade names, or the status of a refusal."""
        match authorizer.decide(Upgrade(path, query, headers, "192.0.2.1")):
            case Accept(handler=StreamHandshake() as door):
                return door._grant.service
            case Refusal(status=status):
                return status
        raise AssertionError

    return decide


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("path", ["/ws", "/ws/exotel"])
@pytest.mark.parametrize(
    ("query", "authorization", "opens"),
    [
        (f"key={KEY}", "", True),
        (f"key=an-older-{KEY}", "", True),
        ("", basic("anyone", KEY), True),
        ("", basic("", KEY), True),
        (f"key={KEY}", basic("anyone", "wrong"), True),
        ("", basic(KEY, ""), False),
        ("", basic(KEY, "wrong"), False),
        (f"key={KEY}&key={KEY}", "", False),
        ("key=", basic("", ""), False),
        ("key=wrong", "", False),
        ("", "", False),
        ("", f"Bearer {KEY}", False),
    ],
)
async def test_where_a_key_may_stand(decide, path, query, authorization, opens):
    assert decide(path, f"{query}&serviceHost=a.b", authorization=authorization) == ("a.b" if opens else 403)


async def test_the_key_and_the_service_in_the_path(decide):
    assert decide(f"/ws/exotel/s/a.b/{KEY}", "serviceHost=other") == "a.b"
    assert decide("/ws/exotel/s/a.b/wrong") == 403


@pytest.mark.parametrize("query", ["serviceHost=a.b&serviceHost=c.d", "serviceHost=%FF", "", "x" * 9000])
async def test_a_service_that_is_not_named_once_is_not_named(decide, query):
    assert decide(f"/ws/exotel/s//{KEY}", query) == ""
