"""What a stranger's webhook may cost before its sender is believed: no more work than its bytes are worth.

Work is counted, not timed: calls made, bytes hashed, memory taken.
"""

from __future__ import annotations

import hmac
import sys
import tracemalloc
from typing import Any

import pytest

from gateway.carriers import CARRIERS
from gateway.carriers.base import Carrier, HttpRequest, Refused
from gateway.carriers.form import FORM, LIMITS
from tests.carriers.test_carriers import SETTINGS
from tests.carriers.webhooks import PUBLIC

SIGNED = ("twilio", "telnyx", "plivo")
NOW = 1_760_000_000
MAX_CALLS = 12_000
"""Calls of Python or C functions: a form of as many fields as are allowed, each read, encoded and sorted."""
MAX_MEMORY = 24
"""Bytes at once for each byte of the request: a form is held as bytes, as text and as it is signed."""

JSON = "application/json"
HEADERS = {
    "x-twilio-signature": "A" * 27 + "=",
    "telnyx-signature-ed25519": "A" * 86 + "==",
    "telnyx-timestamp": str(NOW),
    "x-plivo-signature-v3": ",".join(["A" * 43 + "="] * 8),
    "x-plivo-signature-v3-nonce": "n",
}


def json_list(name: int, members: int) -> bytes:
    return b'{"' + b"k" * name + b'":[' + b",".join([b"0"] * members) + b"]}"


def multipart(header: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="a"; ' + header + b"\r\n\r\nv\r\n--b--\r\n"


FULL = LIMITS.body
BODIES: dict[str, tuple[str, bytes]] = {
    "a list under a long name": (JSON, json_list(40_000, 50_000)),
    "the same within the limit": (JSON, json_list(LIMITS.json // 2 - 10, LIMITS.json // 4)),
    "deep JSON": (JSON, b'{"a":' * 1000 + b"1" + b"}" * 1000),
    "JSON of many lists": (JSON, b'{"a":[' + b",".join([b"[]"] * (LIMITS.json // 3 - 10)) + b"]}"),
    "JSON of many names": (JSON, b"{%s}" % b",".join(b'"%d":{}' % n for n in range(1600))),
    "options in a part's header": ("multipart/form-data; boundary=b", multipart(b"a;" * 121_500)),
    "the same within the limit ": ("multipart/form-data; boundary=b", multipart(b"a;" * (FULL // 2 - 100))),
    "options in the Content-Type": ("multipart/form-data; boundary=b" + ";a" * 30_000, multipart(b"")),
    "nothing but escapes": (FORM, b"a=" + b"%41" * (FULL // 3 - 1)),
    "escapes between letters": (FORM, b"a=" + b"x%41" * (FULL // 4 - 1)),
    "no escapes at all": (FORM, b"a=" + b"%" * (FULL - 2)),
    "no escapes, many": (FORM, b"&".join([b"a%41%=%zz"] * 399)),
    "undecodable bytes": (FORM, b"a=" + b"\xff" * (FULL - 2)),
    "separators": (FORM, b"&" * FULL),
    "many fields": (FORM, b"&".join(b"%d=%%41" % n for n in range(LIMITS.fields))),
    "one name often": (FORM, b"&".join([b"name" * 20 + b"=%d" % n for n in range(LIMITS.fields)])),
    "backslashes": (FORM, b"a=%41" + b"\\" * (FULL - 5)),
}
LONG = "A" * 60_000
LONG_HEADERS = {
    "Twilio's signature": {"x-twilio-signature": LONG},
    "Twilio's settings": {"x-twilio-webhooks-signature-settings": "a," * 30_000},
    "Telnyx' signature": {"telnyx-signature-ed25519": LONG},
    "Telnyx' timestamp": {"telnyx-timestamp": "1" * 60_000},
    "Plivo's signatures": {"x-plivo-signature-v3": "," * 60_000, "x-plivo-signature-ma-v3": ("A" * 43 + "=,") * 1300},
    "Plivo's nonce": {"x-plivo-signature-v3-nonce": LONG},
    "Basic": {"authorization": "Basic " + LONG},
    "Content-Type": {"content-type": FORM + ";a" * 30_000},
}


def carrier_of(name: str) -> Carrier:
    plugin = CARRIERS[name]
    made = plugin.carrier(plugin.config.model_validate(SETTINGS[name]), public_url=PUBLIC)
    made.warm_up()
    made.verify(HttpRequest("POST", "/voice", "", {"content-type": FORM, **HEADERS}, b"a=1"), now=NOW)  # imports
    return made


class Work:
    """Counts calls, bytes hashed and the most memory held while it is entered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = self.hashed = self.memory = 0
        self._patch = monkeypatch

    def __enter__(self) -> Work:
        digest = hmac.digest

        def counted(key: bytes, message: bytes, name: str) -> bytes:
            self.hashed += len(message)
            return digest(key, message, name)

        self._patch.setattr(hmac, "digest", counted)
        tracemalloc.start()
        sys.setprofile(self._count)
        return self

    def _count(self, frame: Any, event: str, arg: Any) -> None:
        self.calls += event in ("call", "c_call")

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        self.memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def check(name: str, request: HttpRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier = carrier_of(name)
    size = len(request.body) + len(request.query) + sum(map(len, request.headers.values()))
    with Work(monkeypatch) as work:
        result = carrier.verify(request, now=NOW)
    assert isinstance(result, Refused)
    assert work.calls <= MAX_CALLS
    assert work.hashed <= 4 * size + 1000, "the body is hashed once for each form of the URL, and for nothing else"
    assert work.memory <= MAX_MEMORY * size + 100_000


@pytest.mark.parametrize("name", CARRIERS)
@pytest.mark.parametrize("what", BODIES)
def test_a_strangers_body_costs_what_hashing_it_costs(name: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, body = BODIES[what]
    check(name, HttpRequest("POST", "/voice", "", {"content-type": kind, **HEADERS}, body), monkeypatch)


@pytest.mark.parametrize("name", CARRIERS)
@pytest.mark.parametrize("what", LONG_HEADERS)
def test_a_strangers_header_costs_a_look(name: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"content-type": FORM, **HEADERS, **LONG_HEADERS[what]}
    check(name, HttpRequest("POST", "/voice", "", headers, b"CallSid=CA1"), monkeypatch)


@pytest.mark.parametrize("name", CARRIERS)
@pytest.mark.parametrize("query", ["a=" + "%41" * 20_000, "&" * 60_000, "a=1&" * 400, "%" * 8000])
def test_a_strangers_query_costs_a_look(name: str, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(name, HttpRequest("GET", "/voice", query, HEADERS), monkeypatch)
    check(name, HttpRequest("POST", "/voice", query, {"content-type": FORM, **HEADERS}, b"a=1"), monkeypatch)


@pytest.mark.parametrize("name", CARRIERS)
def test_multipart_is_never_parsed_before_belief(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    monkeypatch.setattr("gateway.carriers.form.read_multipart", lambda *_, **__: parsed.append(1))
    kind, body = BODIES["options in a part's header"]
    for request in (
        HttpRequest("POST", "/voice", "", {"content-type": kind, **HEADERS}, body[:1000]),
        HttpRequest("POST", "/voice", "key=wrong", {"content-type": kind, **HEADERS}, body[:1000]),
    ):
        assert isinstance(carrier_of(name).verify(request, now=NOW), Refused)
    assert parsed == []


@pytest.mark.parametrize("name", SIGNED)
def test_an_impossible_signature_is_refused_before_the_body_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    impossible = {"x-twilio-signature": "x", "telnyx-signature-ed25519": "x", "x-plivo-signature-v3": "x"}
    monkeypatch.setattr(f"gateway.carriers.{name}.read", lambda *_: pytest.fail("the body was read"))
    request = HttpRequest("POST", "/voice", "", {"content-type": FORM, **HEADERS, **impossible}, b"CallSid=CA1")
    plugin = CARRIERS[name]
    carrier = plugin.carrier(plugin.config.model_validate(SETTINGS[name]), public_url=PUBLIC)
    assert carrier.verify(request, now=NOW) == Refused("bad_signature")
