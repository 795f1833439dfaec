"""What the APIs read of a request: credentials, forms, JSON; and that nothing that is sent breaks them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from gateway.simulator.rest import Plan, SimulatedCarriers
from gateway.simulator.rest.api import Rejected, asked_of, basic_auth, is_url, read_json_or_form, same
from gateway.simulator.rest.order import seconds_of


def request(body: bytes = b"", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": raw, "query_string": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(scope, receive)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "read"),
    [
        (f"Basic {encoded('AC1:se:cret')}", ("AC1", "se:cret")),
        (f"basic {encoded('AC1:')}", ("AC1", "")),
        (f"Bearer {encoded('AC1:secret')}", ("", "")),
        ("Basic ???", ("", "")),
        ("", ("", "")),
    ],
)
def test_basic_credentials(header: str, read: tuple[str, str]) -> None:
    assert basic_auth(request(authorization=header)) == read


def test_no_secret_is_like_no_secret() -> None:
    assert same("a", "a") and not same("a", "b") and not same("", "") and not same("a", "ä")


async def test_json_is_read_as_a_form_is() -> None:
    body = {"AsyncAmd": True, "Timeout": 30, "Url": None, "Event": ["a", "b"]}
    asked = await read_json_or_form(request(json.dumps(body).encode(), content_type="application/json"))
    assert asked.fields == {"AsyncAmd": "true", "Timeout": "30", "Url": "", "Event": "b"}
    assert asked.repeated["Event"] == ("a", "b")
    assert (await read_json_or_form(request(b"a=1&b=&a=2"))) == asked_of([("a", "1"), ("b", ""), ("a", "2")])


@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"\xff"])
async def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        await read_json_or_form(request(body, content_type="application/json"))
    assert rejected.value.response.status_code == 400


@pytest.mark.parametrize(
    ("text", "good"),
    [("https://h/x?y", True), ("http://h", True), ("ws://h", False), ("h/x", False), ("http://[", False), ("", False)],
)
def test_a_callback_url_can_be_asked(text: str, good: bool) -> None:
    assert is_url(text) == good


@pytest.mark.parametrize(("text", "read"), [("30", 30), ("", 60), ("x", 60), ("nan", 60), ("-5", 1), ("1e9", 600)])
def test_seconds_within_bounds(text: str, read: float) -> None:
    assert seconds_of(text, 60, 1, 600) == read


NAMES = (
    "To From Url Twiml Status Timeout TimeLimit MachineDetection StatusCallback StatusCallbackEvent ApplicationSid "
    "Texml to from answer_url legs aleg_url digits machine_detection CallerId StreamUrl StreamType CustomField"
)
values = st.text(max_size=20) | st.sampled_from(
    ["+15550190001", "http://127.0.0.1:9/", "true", "completed", "<", "ws://h"]
)
fields = st.dictionaries(st.sampled_from(NAMES.split()) | st.text(max_size=5), values, max_size=8)
places = st.sampled_from(
    [
        ("POST", "/twilio/2010-04-01/Accounts/{twilio}/Calls.json"),
        ("POST", "/twilio/2010-04-01/Accounts/{twilio}/Calls/CA0.json"),
        ("POST", "/telnyx/v2/texml/calls/1000000000000000001"),
        ("POST", "/telnyx/v2/texml/Accounts/a/Calls"),
        ("POST", "/telnyx/v2/calls/v3:0/actions/hangup"),
        ("POST", "/plivo/v1/Account/{plivo}/Call/"),
        ("POST", "/plivo/v1/Account/{plivo}/Call/0/"),
        ("GET", "/plivo/v1/Account/{plivo}/Call/0/"),
        ("POST", "/exotel/v1/Accounts/{exotel}/Calls/connect"),
        ("GET", "/exotel/v1/Accounts/{exotel}/Calls/0.json"),
    ]
)


@settings(max_examples=25, deadline=None)
@given(place=places, body=fields | st.binary(max_size=60), kind=st.sampled_from(["json", "form", "multipart"]))
def test_nothing_that_is_sent_breaks_an_api(place: tuple[str, str], body: Any, kind: str) -> None:
    asyncio.run(send(place, body, kind))


async def send(place: tuple[str, str], body: Any, kind: str) -> None:
    """By ASGI: an exception of the application's would be raised here."""
    carriers = SimulatedCarriers(plan=Plan(rings=0.0, result="failed"))
    ids = {name: account.id for name, account in carriers.accounts.items()}
    carrier = place[1].split("/")[1]
    content: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"data": body}
    if kind == "json" and isinstance(body, dict):
        content = {"json": body}
    elif kind == "multipart":
        content |= {"headers": {"content-type": "multipart/form-data; boundary=b"}}
    transport = httpx.ASGITransport(carriers.app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://carriers", auth=login(carriers, carrier)
    ) as client:
        answer = await client.request(place[0], place[1].format(**ids), **(content if place[0] == "POST" else {}))
    assert answer.status_code < 500
    await carriers.ended()


def login(carriers: SimulatedCarriers, carrier: str) -> Any:
    account = carriers.accounts[carrier].settings()
    if carrier == "telnyx":
        return lambda asked: asked.headers.update({"Authorization": f"Bearer {account['api_key']}"}) or asked
    user = account.get("api_key", account.get("auth_id", account.get("account_sid", "")))
    return (user, account.get("api_token", account.get("auth_token", "")))
