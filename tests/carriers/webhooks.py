"""Requests as carriers make them, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from hypothesis import strategies as st

from gateway.carriers.base import HttpRequest

FORM = "application/x-www-form-urlencoded"
PUBLIC = "https://voice.example.com"

Pairs = Mapping[str, Any] | Sequence[tuple[str, Any]]


def origin(url: str) -> str:
    """Scheme and host of a URL: what `public_url` would be."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def path_of(url: str) -> str:
    return urlsplit(url).path


def query_of(url: str) -> str:
    return urlsplit(url).query


def post(
    fields: Pairs = (), path: str = "/voice", query: str = "", headers: Mapping[str, str] | None = None
) -> HttpRequest:
    """An urlencoded POST; a list as value is a repeated name."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    body = urlencode(list(pairs), doseq=True).encode()
    return HttpRequest("POST", path, query, {"content-type": FORM, **(headers or {})}, body)


def post_body(body: bytes, content_type: str, path: str = "/voice", query: str = "", **headers: str) -> HttpRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRequest("POST", path, query, {"content-type": content_type, **named}, body)


def get(query: str | Pairs = "", path: str = "/voice", headers: Mapping[str, str] | None = None) -> HttpRequest:
    raw = query if isinstance(query, str) else urlencode(query, doseq=True)
    return HttpRequest("GET", path, raw, headers or {})


def pairs_of(form: bytes) -> list[tuple[str, str]]:
    return parse_qsl(form.decode().strip(), keep_blank_values=True)


def refused_forms(call_id: str) -> list[tuple[HttpRequest, str]]:
    """What the parser of a carrier of forms refuses, and why. call_id: the name of that field."""
    return [
        (post({"CallStatus": "ringing", "Event": "StartApp"}), "no_call_id"),
        (post({call_id: "CA" + "x" * 600}), "bad_call_id"),
        (post({call_id: ".."}), "bad_call_id"),
        (post({call_id: "CA1/../CA2"}), "bad_call_id"),
        (post([(call_id, "CA1"), (call_id, "CA2")]), "duplicate_field"),
        (post({call_id: "CA1"}, query="serviceHost=1&serviceHost=2"), "duplicate_field"),
    ]


# What a stranger may send: any text in the places of a request, with a liking for what our code looks at.
_words = st.sampled_from(
    [
        "",
        "CallSid",
        "CallUUID",
        "AccountSid",
        "CallStatus",
        "Event",
        "Stream",
        "Stream[Status]",
        "ConnectionId",
        "serviceHost",
        "gw_session",
        "key",
        "bodySHA256",
        "ringing",
        "completed",
        "{",
        "%",
        "%FF",
        "\x00",
        "é",
        "+1",
    ]
)
_text = _words | st.text(max_size=20)
_form = st.lists(st.tuples(_text, _text), max_size=8).map(urlencode)
_query = _form | st.text(max_size=40)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text | st.just("data"), inner, max_size=3),
    max_leaves=10,
).map(lambda tree: json.dumps(tree).encode())
_body = st.binary(max_size=80) | _form.map(str.encode) | _json
_headers = st.dictionaries(
    st.sampled_from(
        [
            "content-type",
            "authorization",
            "x-twilio-signature",
            "x-twilio-webhooks-signature-settings",
            "telnyx-signature-ed25519",
            "telnyx-timestamp",
            "x-plivo-signature-v3",
            "x-plivo-signature-ma-v3",
            "x-plivo-signature-v3-nonce",
        ]
    ),
    st.text(max_size=60)
    | st.sampled_from(
        [
            FORM,
            "application/json",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "Basic OnNlY3JldA==",
            "Basic é",
            "key=k,algorithm=HMAC_SHA256",
            "key=k,algorithm=MD5",
            "1760000000",
            "k" * 4000,
        ]
    ),
    max_size=9,
)

strangers: st.SearchStrategy[HttpRequest] = st.builds(
    HttpRequest,
    method=st.sampled_from(["GET", "POST", "get", "HEAD", ""]),
    path=st.text(max_size=30).map(lambda text: "/" + text) | st.text(st.characters(), max_size=5),
    query=_query,
    headers=_headers,
    body=_body,
)
