from __future__ import annotations

import base64
import hmac
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from gateway.carriers.base import HttpRequest, Kind, Refused, Verified, Webhook
from gateway.carriers.twilio import SETTINGS, SIGNATURE, Config, TwilioCarrier
from tests.carriers.webhooks import (
    FORM,
    PUBLIC,
    Pairs,
    get,
    origin,
    pairs_of,
    path_of,
    post,
    post_body,
    query_of,
)
from tests.kit.golden import VECTORS, golden_bytes

TOKEN = "12345"
SID = "AC753e92f9dcc815f84a51038047b6d39a"
CALL = {"CallSid": "CA1", "AccountSid": SID, "From": "+15550100001", "To": "+15550100002", "CallStatus": "ringing"}
JSON_BODY = b'{"property": "value", "boolean": true}'


def carrier(public_url: str = PUBLIC, **config: Any) -> TwilioCarrier:
    settings = {"account_sid": SID, "auth_token": TOKEN, **config}
    return TwilioCarrier(Config.model_validate(settings), public_url=public_url)


def signed(
    fields: Pairs = CALL, token: str = TOKEN, path: str = "/voice", query: str = "", public_url: str = PUBLIC
) -> HttpRequest:
    """A POST as Twilio signs it, by Twilio's SDK."""
    url = public_url + path + (f"?{query}" if query else "")
    values: Any = dict(fields)
    return post(fields, path, query, {SIGNATURE: RequestValidator(token).compute_signature(url, values)})


@pytest.mark.parametrize("case", VECTORS["twilio"]["cases"], ids=lambda case: case["what"])
def test_vectors(case: dict[str, Any]) -> None:
    vectors = VECTORS["twilio"]
    url = case.get("url", vectors["url"])
    headers = {SIGNATURE: case["signature"]}
    shared: dict[str, Any] = {}
    if "algorithm" in case:
        headers[SETTINGS] = f"key=k1,algorithm={case['algorithm']}"
        shared = {"auth_token": "another", "shared_keys": {"k1": vectors["auth_token"]}}
    verifier = carrier(origin(url).replace("wss:", "https:"), **shared)
    if url.startswith("wss:"):
        result = verifier.verify_upgrade(get(path=path_of(url), headers=headers), now=0)
    elif "body" in case:
        request = HttpRequest(
            "POST", path_of(url), query_of(url), {**headers, "content-type": "application/json"}, case["body"].encode()
        )
        result = verifier.verify(request, now=0)
    else:
        params = case.get("params", vectors["params"])
        result = verifier.verify(post(params, path_of(url), query_of(url), headers), now=0)
    assert result == Verified(SID)


def test_captured_webhook_with_its_empty_fields() -> None:
    request = signed(pairs_of(golden_bytes("twilio-01-inbound-webhook.form")))
    assert carrier().verify(request, now=0) == Verified(SID)
    assert carrier().parse(request) == Webhook(
        kind=Kind.VOICE,
        call_id="CAe181f3910a272cf7106587776d9d4f6b",
        from_number="+155501000010",
        to_number="+15550100000",
        raw_from="+155501000010",
        raw_to="+15550100000",
        status="ringing",
    )


def test_get_is_signed_by_its_url() -> None:
    query = "CallSid=CA1&AccountSid=" + SID + "&CallStatus=ringing&From=%2B15550100001&To="
    url = f"{PUBLIC}/voice?{query}"
    headers = {SIGNATURE: RequestValidator(TOKEN).compute_signature(url, {})}
    assert carrier().verify(get(query, headers=headers), now=0) == Verified(SID)
    assert carrier().verify(get(query + "1", headers=headers), now=0) == Refused("bad_signature")


@pytest.mark.parametrize("public_url", ["https://h.example/gw/eu", "https://h.example:8443", "https://[2001:db8::1]"])
def test_public_url_is_what_is_signed(public_url: str) -> None:
    request = signed(public_url=public_url, query="serviceHost=a.b&x=%C3%A9")
    assert carrier(public_url).verify(request, now=0) == Verified(SID)
    assert carrier("https://other.example").verify(request, now=0) == Refused("bad_signature")


def test_forwarded_host_is_not_looked_at() -> None:
    forged = signed(public_url="https://evil.example")
    headers = {**forged.headers, "host": "evil.example", "x-forwarded-host": "evil.example"}
    request = HttpRequest("POST", forged.path, "", headers, forged.body)
    assert carrier().verify(request, now=0) == Refused("bad_signature")


@pytest.mark.parametrize(
    ("public_url", "url"),
    [
        ("https://h.example", "wss://h.example/ws/t"),
        ("https://h.example", "wss://h.example:443/ws/t"),
        ("https://h.example:443", "wss://h.example/ws/t"),
        ("https://h.example:8443", "wss://h.example:8443/ws/t"),
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws/t"),
    ],
)
def test_upgrade_is_signed_over_the_socket_url(public_url: str, url: str) -> None:
    headers = {SIGNATURE: RequestValidator(TOKEN).compute_signature(url, {})}
    verifier = carrier(public_url)
    assert verifier.verify_upgrade(get(path="/ws/t", headers=headers), now=0) == Verified(SID)
    assert verifier.verify_upgrade(get(path="/ws/t/", headers=headers), now=0) == Refused("bad_signature")
    assert verifier.verify_upgrade(get(path="/ws/u", headers=headers), now=0) == Refused("bad_signature")
    assert verifier.verify_upgrade(get(path="/ws/t"), now=0) == Refused("missing_signature")


def test_webhook_signature_is_none_for_the_upgrade() -> None:
    headers = {SIGNATURE: RequestValidator(TOKEN).compute_signature(f"{PUBLIC}/ws/t", {})}
    assert carrier().verify_upgrade(get(path="/ws/t", headers=headers), now=0) == Refused("bad_signature")


def test_upgrade_of_endless_path() -> None:
    request = get(path="/" + "x" * 9000, headers={SIGNATURE: "A" * 27 + "="})
    assert carrier().verify_upgrade(request, now=0) == Refused("too_large")


# What must not pass


@pytest.mark.parametrize("where", range(0, 119, 7))
def test_one_byte_of_the_body_changed(where: int) -> None:
    request = signed()
    changed = bytes([request.body[where] ^ 1])
    body = request.body[:where] + changed + request.body[where + 1 :]
    result = carrier().verify(HttpRequest("POST", "/voice", "", request.headers, body), now=0)
    assert isinstance(result, Refused)


def test_field_added_removed_or_moved_into_the_query() -> None:
    headers = signed().headers
    for fields, query in (({**CALL, "X": ""}, "x"), ({**CALL, "X": "1"}, ""), ({"CallSid": "CA1"}, "")):
        assert carrier().verify(post(fields, "/voice", query, headers), now=0) == Refused("bad_signature")


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        ("", "missing_signature"),
        ("A" * 4000, "bad_signature"),
        ("RSOYDt4T1cUTdK1PDd93/VVr8B8=", "bad_signature"),
        ("é" * 28, "bad_signature"),
        ("\udcff", "bad_signature"),
        ("\x00", "bad_signature"),
    ],
)
def test_signature_that_is_none(signature: str, reason: str) -> None:
    assert carrier().verify(post(CALL, headers={SIGNATURE: signature}), now=0) == Refused(reason)


def test_one_letter_of_the_signature_changed() -> None:
    request = signed()
    right = request.headers[SIGNATURE]
    for where, letter in enumerate(right):
        wrong = right[:where] + ("B" if letter == "A" else "A") + right[where + 1 :]
        assert carrier().verify(post(CALL, headers={SIGNATURE: wrong}), now=0) == Refused("bad_signature")
    assert carrier().verify(post(CALL, headers={SIGNATURE: right[:-1]}), now=0) == Refused("bad_signature")


def test_missing_header() -> None:
    assert carrier().verify(post(CALL), now=0) == Refused("missing_signature")


def test_core_field_twice() -> None:
    pairs = [*CALL.items(), ("From", "+15550100009")]
    headers = {SIGNATURE: RequestValidator(TOKEN).compute_signature(f"{PUBLIC}/voice", {})}
    assert carrier().verify(post(pairs, headers=headers), now=0) == Refused("duplicate_field")


def test_body_that_is_no_form() -> None:
    request = post_body(b"a", "text/plain", x_twilio_signature="A" * 27 + "=")
    assert carrier().verify(request, now=0) == Refused("bad_body")


def test_bytes_that_are_not_utf8_are_signed_as_they_came() -> None:
    body = urlencode(CALL).encode() + b"&CallerName=Jos%E9"
    values = {name: value.encode() for name, value in CALL.items()} | {"CallerName": b"Jos\xe9"}
    signed = f"{PUBLIC}/voice".encode() + b"".join(name.encode() + values[name] for name in sorted(values))
    made = base64.b64encode(hmac.digest(TOKEN.encode(), signed, "sha1")).decode()
    request = post_body(body, FORM, x_twilio_signature=made)
    assert carrier().verify(request, now=0) == Verified(SID)
    webhook = carrier().parse(request)
    assert isinstance(webhook, Webhook)
    assert webhook.caller_name == "Jos\ufffd"


def json_request(query: str, body: bytes = JSON_BODY) -> HttpRequest:
    url = f"{PUBLIC}/voice" + (f"?{query}" if query else "")
    signature = RequestValidator(TOKEN).compute_signature(url, {})
    return post_body(body, "application/json", query=query, x_twilio_signature=signature)


def test_json_needs_the_hash_of_its_body_in_the_url() -> None:
    digest = sha256(JSON_BODY).hexdigest()
    assert carrier().verify(json_request(f"bodySHA256={digest}"), now=0) == Verified(SID)
    assert carrier().verify(json_request(f"bodySHA256={digest.upper()}"), now=0) == Verified(SID)
    for query in ("", "bodySHA256=", f"bodySHA256={digest}&bodySHA256={digest}", f"bodySHA256={'0' * 64}", "b=%FF"):
        assert carrier().verify(json_request(query), now=0) == Refused("bad_body_hash")
    other = json_request(f"bodySHA256={digest}", b'{"property": "forged"}')
    assert carrier().verify(other, now=0) == Refused("bad_body_hash")


# Accounts and rotation


def test_account_is_chosen_by_its_sid_and_then_verified() -> None:
    verifier = carrier(accounts=[{"account_sid": "AC2", "auth_token": "two"}])
    assert verifier.verify(signed(), now=0) == Verified(SID)
    second = {**CALL, "AccountSid": "AC2"}
    assert verifier.verify(signed(second, "two"), now=0) == Verified("AC2")
    # The token of one account says nothing for another.
    assert verifier.verify(signed(second, TOKEN), now=0) == Refused("bad_signature")
    assert verifier.verify(signed({**CALL, "AccountSid": "AC3"}), now=0) == Refused("foreign_account")


def test_without_account_sid_the_signature_tells() -> None:
    verifier = carrier(accounts=[{"account_sid": "AC2", "auth_token": "two"}])
    assert verifier.verify(signed({"CallSid": "CA1"}, "two"), now=0) == Verified("AC2")


def test_rotated_token() -> None:
    verifier = carrier(auth_token=["new", "old"])
    assert verifier.verify(signed(token="new"), now=0) == Verified(SID)
    assert verifier.verify(signed(token="old"), now=0) == Verified(SID)
    assert verifier.verify(signed(token="older"), now=0) == Refused("bad_signature")


def shared(settings: str, key: str, algorithm: str) -> HttpRequest:
    signature = RequestValidator(key).compute_signature(f"{PUBLIC}/voice", dict(CALL), algorithm)
    return post(CALL, headers={SIGNATURE: signature, SETTINGS: settings})


def test_shared_key_only_where_configured() -> None:
    settings = "key=k1, algorithm=HMAC_SHA256"
    verifier = carrier(shared_keys={"k1": ["new", "old"]})
    assert verifier.verify(shared(settings, "old", "HMAC_SHA256"), now=0) == Verified(SID)
    assert verifier.verify(shared("key=k1", "new", "HMAC_SHA1"), now=0) == Verified(SID)
    # Neither the auth token nor another key or algorithm stands in for it.
    assert verifier.verify(shared(settings, TOKEN, "HMAC_SHA256"), now=0) == Refused("bad_signature")
    assert verifier.verify(shared("key=k2", "new", "HMAC_SHA1"), now=0) == Refused("unknown_key")
    assert carrier().verify(shared(settings, TOKEN, "HMAC_SHA256"), now=0) == Refused("unknown_key")
    assert carrier().verify(shared("algorithm=HMAC_SHA256", TOKEN, "HMAC_SHA256"), now=0) == Refused("unknown_key")


@pytest.mark.parametrize("algorithm", ["HMAC_MD5", "none", "é"])
def test_algorithm_that_the_sdk_raises_at(algorithm: str) -> None:
    request = post(CALL, headers={SIGNATURE: "x", SETTINGS: f"key=k1,algorithm={algorithm}"})
    assert carrier(shared_keys={"k1": "s"}).verify(request, now=0) == Refused("bad_signature")


def test_endless_settings_header() -> None:
    request = post(CALL, headers={SIGNATURE: "x", SETTINGS: "k" * 4000})
    assert carrier().verify(request, now=0) == Refused("bad_signature")


@given(
    st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=6),
    st.text(st.characters(codec="ascii", exclude_characters="?#%&=; ", exclude_categories=["Cc"]), max_size=10),
)
def test_whatever_the_sdk_signs_verifies(fields: dict[str, str], query: str) -> None:
    fields.pop("AccountSid", None)
    assert carrier().verify(signed(fields, query=query), now=0) == Verified(SID)
