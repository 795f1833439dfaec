"""Orders and requests of carriers' REST APIs, for the tests of this folder."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import httpx
import orjson
from hypothesis import strategies as st

from gateway.carriers.orders import CallOrder, RestCall

ORDER = CallOrder(
    session="s-1",
    to="+15550100002",
    from_number="+15550100001",
    answer_url="https://voice.example.com/webhooks/c/voice?gw_session=s-1&gw_mac=m",
    status_url="https://voice.example.com/webhooks/c/status?gw_session=s-1&gw_mac=m",
    stream_url="wss://voice.example.com/ws/c/token",
)


def sent(call: RestCall | None) -> httpx.Request:
    """The request as httpx writes it."""
    assert call is not None
    request = httpx.Request(
        call.method,
        call.url,
        headers=dict(call.headers),
        data=dict(call.form) if call.form is not None else None,
        json=dict(call.json) if call.json is not None else None,
    )
    return next(httpx.BasicAuth(*call.auth).auth_flow(request)) if call.auth else request


def what(request: httpx.Request) -> tuple[str, str, str, Any]:
    """What a carrier sees of a request: method, URL, who asks, and the form or the JSON."""
    body: Any = None
    if request.headers.get("content-type") == "application/json":
        body = orjson.loads(request.content)
    elif request.content:
        body = sorted(parse_qsl(request.content.decode(), keep_blank_values=True))
    return request.method, str(request.url), request.headers.get("authorization", ""), body


# What may be answered: JSON with a liking for what our code looks at, or anything.
_NAMES = (
    "sid code message status errors detail data call_sid request_uuid error api_id Call Sid Status RestException "
    "Message Code completed busy is_alive end_time call_status"
)
_words = st.sampled_from(["", *_NAMES.split()]) | st.text(max_size=12)
_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=12,
)
bodies = _trees.map(lambda tree: json.dumps(tree).encode()) | st.binary(max_size=80)
statuses = st.sampled_from([100, 200, 201, 202, 204, 302, 400, 401, 403, 404, 422, 429, 500, 503]) | st.integers()
headers = st.dictionaries(
    st.sampled_from(["retry-after", "date"]),
    st.sampled_from(["3", "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 -0000", "1e9", "-1", "9" * 400])
    | st.text(max_size=30),
)
