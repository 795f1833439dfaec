from __future__ import annotations

import pytest

from gateway.carriers.base import HttpRequest
from gateway.carriers.parameters import with_query
from gateway.carriers.url import port_forms, signed_url, socket_url, with_scheme


@pytest.mark.parametrize(
    ("base", "forms"),
    [
        ("https://a.example", ("https://a.example", "https://a.example:443")),
        ("http://a.example/x", ("http://a.example/x", "http://a.example:80/x")),
        ("wss://a.example/x", ("wss://a.example/x", "wss://a.example:443/x")),
        ("ws://a.example", ("ws://a.example", "ws://a.example:80")),
        ("https://a.example:8443/x", ("https://a.example/x", "https://a.example:8443/x")),
        ("https://[2001:db8::1]/x", ("https://[2001:db8::1]/x", "https://[2001:db8::1]:443/x")),
        ("https://[2001:db8::1]:8443", ("https://[2001:db8::1]", "https://[2001:db8::1]:8443")),
    ],
)
def test_port_forms(base: str, forms: tuple[str, str]) -> None:
    assert port_forms(base) == forms


def test_socket_url() -> None:
    assert socket_url("https://a.example:8443/x") == "wss://a.example:8443/x"
    assert socket_url("http://127.0.0.1:8080") == "ws://127.0.0.1:8080"
    assert with_scheme("https://a.example/x", "ws") == "ws://a.example/x"


def test_signed_url_keeps_every_byte() -> None:
    request = HttpRequest("POST", "/a%2Fb/", "x=%C3%A9&y=a+b&", {})
    assert signed_url("https://a.example/under", request) == "https://a.example/under/a%2Fb/?x=%C3%A9&y=a+b&"
    assert signed_url("https://a.example", HttpRequest("POST", "/a", "", {})) == "https://a.example/a"


def test_with_query() -> None:
    assert with_query("https://a.example/r", "key", "a&b é") == "https://a.example/r?key=a%26b%20%C3%A9"
    assert with_query("https://a.example/r?s=1", "key", "k") == "https://a.example/r?s=1&key=k"
