"""Plivo's signature V3: what is believed, and what is not."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plivo.utils import signature_v3

from gateway.carriers.base import HttpRequest, Kind, Refused, Verified, Webhook
from gateway.carriers.form import Fields
from gateway.carriers.parameters import OwnParameters
from gateway.carriers.plivo_signature import MAIN_SIGNATURE, NONCE, SIGNATURE, sign, to_sign
from tests.carriers.plivo import AUTH_ID, CALL, TOKEN, account, carrier, query_fields, signature, signed
from tests.carriers.webhooks import (
    PUBLIC,
    get,
    origin,
    pairs_of,
    path_of,
    post,
    post_body,
    query_of,
)
from tests.kit.golden import VECTORS, golden_bytes


@pytest.mark.parametrize("vector", VECTORS["plivo_v3"], ids=lambda v: v["method"] + " " + query_of(v["url"]))
def test_vectors_of_the_go_sdk(vector: dict[str, Any]) -> None:
    url, params = vector["url"], vector["params"]
    headers = {SIGNATURE: vector["signature"], NONCE: vector["nonce"]}
    verifier = carrier(origin(url), auth_token=vector["token"])
    if vector["method"] == "POST":
        request = post(params, path_of(url), query_of(url), headers)
    else:
        query = "&".join(filter(None, [query_of(url), urlencode(params)]))
        request = get(query, path_of(url), headers)
    assert account(verifier.verify(request, now=0)) == AUTH_ID


@pytest.mark.parametrize("vector", VECTORS["plivo_v3_edges"], ids=lambda v: v["name"])
def test_vectors_of_the_edges(vector: dict[str, Any]) -> None:
    url = vector["uri"]
    query, params = query_fields(query_of(url)), Fields(vector["params"].items())
    made = to_sign(vector["method"], origin(url) + path_of(url), query, params, vector["nonce"])
    assert made.decode() == vector["signed"]
    assert sign(vector["token"], made) == vector["sig"]


@pytest.mark.parametrize("vector", VECTORS["plivo_v2"], ids=lambda v: v["url"])
def test_v2_is_not_accepted(vector: dict[str, Any]) -> None:
    v2 = {"x-plivo-signature-v2": vector["signature"], "x-plivo-signature-v2-nonce": vector["nonce"]}
    verifier = carrier(vector["url"], auth_token=vector["token"])
    assert verifier.verify(post(path="", headers=v2), now=0) == Refused("missing_signature")
    as_v3 = {SIGNATURE: vector["signature"], NONCE: vector["nonce"]}
    assert verifier.verify(post(path="", headers=as_v3), now=0) == Refused("bad_signature")


plain = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8)


def sdk_accepts(method: str, url: str, params: dict[str, Any], made: str) -> bool:
    return bool(signature_v3.validate_v3_signature(method, url, "n1", TOKEN, made, dict(params)))


@given(
    st.sampled_from(["GET", "POST"]),
    st.dictionaries(plain, plain, max_size=4),
    st.dictionaries(plain, st.text(max_size=8), max_size=4),
)
def test_the_sdk_agrees(method: str, query: dict[str, str], params: dict[str, str]) -> None:
    raw = urlencode(query)
    url = f"{PUBLIC}/voice" + (f"?{raw}" if raw else "")
    params = {name: value for name, value in params.items() if method == "POST" and name not in query}
    assert sdk_accepts(method, url, params, signature(method, raw, params))


def test_lists_as_the_sdk_has_them() -> None:
    params = {"Digits": ["5678", "1234", "1234"], "A": "1"}
    made = signature("POST", "x=2&x=1", params)
    assert sdk_accepts("POST", f"{PUBLIC}/voice?x=2&x=1", params, made)


def test_query_that_the_sdk_raises_at() -> None:
    """Up to Python 3.12 the SDK raises UnicodeEncodeError, which is why ours is its own."""
    if sys.version_info < (3, 13):
        with pytest.raises(UnicodeEncodeError):
            sdk_accepts("POST", f"{PUBLIC}/voice?x=%C3%A9", {}, "x")
    assert account(carrier().verify(signed(query="x=%C3%A9"), now=0)) == AUTH_ID
    made = to_sign("POST", PUBLIC, query_fields("x=%C3%A9"), Fields(), "n")
    assert made == f"{PUBLIC}?x=é.n".encode()


def test_json_body_as_the_sdk_has_it() -> None:
    tree = {"Event": "started", "CallUUID": "u", "Duration": 7, "Extra": {"b": "2", "a": True}, "List": ["b", "a"]}
    joined = signature_v3.construct_post_url(f"{PUBLIC}/voice", tree).decode()
    made = sign(TOKEN, f"{joined}.n1".encode())
    request = HttpRequest(
        "POST",
        "/voice",
        "",
        {"content-type": "application/json", SIGNATURE: made, NONCE: "n1"},
        json.dumps(tree).encode(),
    )
    assert account(carrier().verify(request, now=0)) == AUTH_ID
    forged = HttpRequest("POST", "/voice", "", request.headers, json.dumps({**tree, "Extra": {}}).encode())
    assert carrier().verify(forged, now=0) == Refused("bad_signature")


def test_nested_json_is_not_taken_for_no_parameters() -> None:
    headers = {"content-type": "application/json", SIGNATURE: signature("POST"), NONCE: "n1"}
    request = HttpRequest("POST", "/voice", "", headers, b'{"Stream":{"Event":"forged"}}')
    assert carrier().verify(request, now=0) == Refused("bad_signature")


def test_bottomless_json() -> None:
    body = b'{"a":' * 1000 + b"1" + b"}" * 1000
    headers = {"content-type": "application/json", SIGNATURE: "x", NONCE: "n1"}
    assert isinstance(carrier().verify(HttpRequest("POST", "/voice", "", headers, body), now=0), Refused)


def test_captured_webhook() -> None:
    fields = pairs_of(golden_bytes("plivo-01-answer-post-outbound.form"))
    request = signed(fields, query="gw_session=s1")
    assert account(carrier(auth_id="MAD57ECB8CAC269549FE").verify(request, now=0)) == "MAD57ECB8CAC269549FE"
    assert carrier().parse(request) == Webhook(
        kind=Kind.VOICE,
        call_id="2012cb47-ad3b-fff7-fbec-234a241d39fe",
        from_number="+155501000070",
        to_number="+155501000080",
        raw_from="155501000070",
        raw_to="155501000080",
        direction="outbound",
        status="answered",
        own=OwnParameters(session="s1"),
    )


# What must not pass


@pytest.mark.parametrize("where", range(0, 150, 11))
def test_one_byte_of_the_body_changed(where: int) -> None:
    request = signed()
    body = bytearray(request.body)
    body[where] ^= 1
    result = carrier().verify(HttpRequest("POST", "/voice", "", request.headers, bytes(body)), now=0)
    assert isinstance(result, Refused)


@pytest.mark.parametrize(
    ("path", "query", "public_url"),
    [
        ("/resume", "a=1", PUBLIC),
        ("/voice", "a=2", PUBLIC),
        ("/voice", "", PUBLIC),
        ("/voice", "a=1", "https://x.example"),
    ],
)
def test_another_url(path: str, query: str, public_url: str) -> None:
    request = signed(query="a=1")
    moved = HttpRequest("POST", path, query, request.headers, request.body)
    assert carrier(public_url).verify(moved, now=0) == Refused("bad_signature")


def test_one_letter_of_the_signature_changed() -> None:
    right = signed().headers[SIGNATURE]
    for where, letter in enumerate(right):
        wrong = right[:where] + ("B" if letter == "A" else "A") + right[where + 1 :]
        assert carrier().verify(post(CALL, headers={SIGNATURE: wrong, NONCE: "n1"}), now=0) == Refused("bad_signature")


def test_another_nonce() -> None:
    request = signed()
    headers = {**request.headers, NONCE: "n2"}
    assert carrier().verify(HttpRequest("POST", "/voice", "", headers, request.body), now=0) == Refused("bad_signature")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing_signature"),
        ({SIGNATURE: "x"}, "missing_signature"),
        ({NONCE: "n1"}, "missing_signature"),
        ({SIGNATURE: "", MAIN_SIGNATURE: "", NONCE: "n1"}, "missing_signature"),
        ({SIGNATURE: "A" * 4000, NONCE: "n1"}, "bad_signature"),
        ({MAIN_SIGNATURE: "A" * 4000, NONCE: "n1"}, "bad_signature"),
        ({SIGNATURE: "x", NONCE: "n" * 4000}, "bad_signature"),
        ({SIGNATURE: "é,\udcff,", NONCE: "é\udcff"}, "bad_signature"),
    ],
)
def test_headers_that_are_none(headers: dict[str, str], reason: str) -> None:
    assert carrier().verify(post(CALL, headers=headers), now=0) == Refused(reason)


@pytest.mark.parametrize("name", ["CallUUID", "From", "To", "Event", "ParentAuthID", "CallStatus"])
def test_core_field_twice(name: str) -> None:
    pairs = [*CALL.items(), (name, "forged")]
    assert carrier().verify(signed(pairs), now=0) == Refused("duplicate_field")
    query = urlencode(pairs)
    request = get(query, headers={SIGNATURE: signature("GET", query), NONCE: "n1"})
    assert carrier().verify(request, now=0) == Refused("duplicate_field")


def test_bytes_that_are_not_utf8_are_signed_as_they_came() -> None:
    body = urlencode(CALL).encode() + b"&CallerName=Jos%E9"
    url = f"{PUBLIC}/voice"
    values = {name: value.encode() for name, value in CALL.items()} | {"CallerName": b"Jos\xe9"}
    parts = [name.encode() + values[name] for name in sorted(values)]
    headers = {SIGNATURE: sign(TOKEN, url.encode() + b"?" + b"".join(parts) + b".n1"), NONCE: "n1"}
    request = post_body(body, "application/x-www-form-urlencoded")
    verified = carrier().verify(HttpRequest("POST", "/voice", "", {**request.headers, **headers}, body), now=0)
    assert account(verified) == AUTH_ID
    webhook = carrier().parse(request)
    assert isinstance(webhook, Webhook)
    assert webhook.caller_name == "Jos\ufffd"


def test_names_differ_by_case() -> None:
    fields = {**CALL, "to": "mine", "direction": "mine"}
    webhook = carrier().parse(signed(fields))
    assert isinstance(webhook, Webhook)
    assert (webhook.to_number, webhook.direction) == ("+15550100008", "inbound")


# Accounts, rotation, several signatures


def test_signatures_with_commas_and_blanks() -> None:
    request = signed()
    made = request.headers[SIGNATURE]
    for header in (f"x,{made}", f"x , {made} , y", f"{made},"):
        headers = {**request.headers, SIGNATURE: header}
        assert account(carrier().verify(HttpRequest("POST", "/voice", "", headers, request.body), now=0)) == AUTH_ID


def test_main_account_signature() -> None:
    request = signed(header=MAIN_SIGNATURE)
    assert account(carrier().verify(request, now=0)) == AUTH_ID
    both = HttpRequest("POST", "/voice", "", {**request.headers, SIGNATURE: "of a subaccount"}, request.body)
    assert account(carrier().verify(both, now=0)) == AUTH_ID


def test_account_by_parent() -> None:
    verifier = carrier(accounts=[{"auth_id": "MA2", "auth_token": "two"}])
    assert account(verifier.verify(signed({**CALL, "ParentAuthID": "MA2"}, token="two"), now=0)) == "MA2"
    assert verifier.verify(signed({**CALL, "ParentAuthID": "MA2"}), now=0) == Refused("bad_signature")
    assert verifier.verify(signed({**CALL, "ParentAuthID": "MA3"}), now=0) == Refused("foreign_account")
    assert account(verifier.verify(signed({"CallUUID": "u"}, token="two"), now=0)) == "MA2"


def test_subaccount_is_called_by_its_parents_id() -> None:
    verifier = carrier(auth_id="SA1")
    assert account(verifier.verify(signed(), now=0)) == "SA1"


def test_rotated_token() -> None:
    verifier = carrier(auth_token=["new", "old"])
    assert account(verifier.verify(signed(token="new"), now=0)) == AUTH_ID
    assert account(verifier.verify(signed(token="old"), now=0)) == AUTH_ID
    assert verifier.verify(signed(token="older"), now=0) == Refused("bad_signature")


# The nonce


def nonce_of(request: HttpRequest) -> tuple[str, str]:
    result = carrier().verify(request, now=0)
    assert isinstance(result, Verified)
    assert result.nonce is not None
    return result.nonce


def test_retry_has_the_same_nonce_and_digest() -> None:
    request = signed(query="a=1&b=2")
    assert nonce_of(request)[0] == "n1"
    assert nonce_of(request) == nonce_of(signed(query="a=1&b=2"))
    reordered = post(list(reversed(CALL.items())), query="b=2&a=1", headers=request.headers)
    assert nonce_of(reordered) == nonce_of(request)


def test_what_v3_signs_alike_has_another_digest() -> None:
    one, other = signed(query="a=1&b=2"), signed(query="a=1%26b=2")
    assert one.headers[SIGNATURE] == other.headers[SIGNATURE]
    assert nonce_of(one) != nonce_of(other)
    one, other = signed({**CALL, "X": "Y1"}), signed({**CALL, "XY": "1"})
    assert one.headers[SIGNATURE] == other.headers[SIGNATURE]
    assert nonce_of(one) != nonce_of(other)


def test_json_retry_has_the_same_digest() -> None:
    tree = b'{"CallUUID":"u"}'
    made = sign(TOKEN, f"{PUBLIC}/voice?CallUUIDu.n1".encode())
    request = HttpRequest(
        "POST", "/voice", "", {"content-type": "application/json", SIGNATURE: made, NONCE: "n1"}, tree
    )
    assert nonce_of(request) == nonce_of(request)


# The upgrade


@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
def test_upgrade_under_any_scheme(scheme: str) -> None:
    made = signature("GET", "x=1", path="/ws/t", base=f"{scheme}://voice.example.com:8443")
    request = get("x=1", "/ws/t", {SIGNATURE: made, NONCE: "n1"})
    verifier = carrier("https://voice.example.com:8443")
    assert account(verifier.verify_upgrade(request, now=0)) == AUTH_ID
    assert verifier.verify_upgrade(get("x=2", "/ws/t", request.headers), now=0) == Refused("bad_signature")
    assert verifier.verify_upgrade(get("x=1", "/ws/u", request.headers), now=0) == Refused("bad_signature")


def test_upgrade_without_signature() -> None:
    assert carrier().verify_upgrade(get(path="/ws/t"), now=0) == Refused("missing_signature")
    endless = get("x" * 9000, "/ws/t", {SIGNATURE: "A" * 43 + "=", NONCE: "n1"})
    assert carrier().verify_upgrade(endless, now=0) == Refused("too_large")


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_whatever_is_signed_verifies(fields: dict[str, str], query: dict[str, str]) -> None:
    fields.pop("ParentAuthID", None)
    assert account(carrier().verify(signed(fields, urlencode(query)), now=0)) == AUTH_ID
