"""Telnyx' REST API: what is asked is what Telnyx' SDK would ask, and any answer is understood."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.orders import CallState, CarrierRefusal, Placed
from gateway.carriers.telnyx import Config, TelnyxCarrier
from tests.carriers.rest import ORDER, bodies, headers, sent, statuses, what
from tests.carriers.webhooks import PUBLIC

if TYPE_CHECKING:
    from telnyx import Telnyx

APP = "1293384261075731499"
CALL = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg"


def carrier(**config: Any) -> TelnyxCarrier:
    settings = {"api_key": "KEY1", "connection_id": APP, "public_key": "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="}
    return TelnyxCarrier(Config.model_validate({**settings, **config}), public_url=PUBLIC)


@pytest.fixture(scope="module")
def sdk() -> tuple[Telnyx, list[httpx.Request]]:
    """Their client, and what it sends."""
    from telnyx import Telnyx  # takes over a second: once, and not in each process that collects the tests

    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    telnyx = Telnyx(api_key="KEY1", http_client=client, max_retries=0)
    telnyx.texml.calls.create(APP, from_="+1", to="+1")  # imports what it needs: seconds
    return telnyx, requests


def test_order_is_what_the_sdk_sends(sdk: tuple[Telnyx, list[httpx.Request]]) -> None:
    client, requests = sdk
    client.texml.calls.create(
        APP,
        from_=ORDER.from_number,
        to=ORDER.to,
        url=ORDER.answer_url,
        method="POST",
        extra_body={  # as their page on machine detection has it
            "StatusCallback": ORDER.status_url,
            "StatusCallbackMethod": "POST",
            "StatusCallbackEvent": "initiated ringing answered completed",
            "Timeout": 60,
            "TimeLimit": 7200,
            "MachineDetection": "DetectMessageEnd",
            "AsyncAmd": True,
            "AsyncAmdStatusCallback": ORDER.status_url,
            "AsyncAmdStatusCallbackMethod": "POST",
        },
    )
    order = replace(ORDER, machine_detection="message_end")
    assert what(sent(carrier().place_call(order, APP))) == what(requests[-1])


def test_hang_up_and_question_are_what_the_sdk_sends(sdk: tuple[Telnyx, list[httpx.Request]]) -> None:
    client, requests = sdk
    client.calls.actions.hangup(CALL)
    assert sent(carrier().hang_up(CALL, APP)).url.path == requests[-1].url.path
    assert what(sent(carrier().cancel_call(CALL, "", APP)))[2:] == ("Bearer KEY1", {})
    client.calls.retrieve_status(CALL)
    asked, theirs = sent(carrier().ask_call(CALL, APP)), requests[-1]
    assert (asked.method, asked.url.path) == (theirs.method, theirs.url.path)
    assert asked.headers["authorization"] == theirs.headers["authorization"]


def test_order_as_it_is_on_the_wire() -> None:
    assert what(sent(carrier().place_call(ORDER, ""))) == (
        "POST",
        f"https://api.telnyx.com/v2/texml/calls/{APP}",
        "Bearer KEY1",
        {
            "To": "+15550100002",
            "From": "+15550100001",
            "Url": ORDER.answer_url,
            "Method": "POST",
            "StatusCallback": ORDER.status_url,
            "StatusCallbackMethod": "POST",
            "StatusCallbackEvent": "initiated ringing answered completed",
            "Timeout": 60,
            "TimeLimit": 7200,
        },
    )


@pytest.mark.parametrize(("seconds", "ring", "whole"), [(0, 5, 30), (9_999_999, 120, 14400)])
def test_seconds_are_bounded(seconds: int, ring: int, whole: int) -> None:
    body = what(sent(carrier().place_call(replace(ORDER, ring_seconds=seconds, max_seconds=seconds), "")))[3]
    assert (body["Timeout"], body["TimeLimit"]) == (ring, whole)


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:9/telnyx", "http://127.0.0.1:9/telnyx/", "http://127.0.0.1:9/telnyx/v2"]
)
def test_base_url_with_and_without_its_version(base: str) -> None:
    call = carrier(api_url=base).place_call(ORDER, "")
    assert call is not None
    assert call.url == f"http://127.0.0.1:9/telnyx/v2/texml/calls/{APP}"


def test_account_to_place_with() -> None:
    assert carrier().default_account() == APP
    none = carrier(connection_id="")
    assert (none.default_account(), none.place_call(ORDER, "")) == ("", None)
    assert carrier(api_key="KEY1").place_call(ORDER, "another") is None
    dev = TelnyxCarrier(Config.model_validate({"api_key": "K", "connection_id": APP}), public_url=PUBLIC, dev=True)
    assert dev.default_account() == ""  # as its webhooks have none
    assert dev.place_call(ORDER, "") is not None


def error(code: object, detail: str = "d") -> bytes:
    text = f'"{code}"' if isinstance(code, str) else code
    return f'{{"errors":[{{"code":{text},"title":"t","detail":"{detail}","source":{{"pointer":"/to"}}}}]}}'.encode()


@pytest.mark.parametrize(
    ("status", "body", "read"),
    [
        (200, f'{{"call_sid":"{CALL}","from":"+1","to":"+1","status":"queued"}}'.encode(), Placed(CALL)),
        (200, f'{{"data":{{"call_control_id":"{CALL}","record_type":"call"}}}}'.encode(), Placed(CALL)),
        (200, b'{"from":"+1","to":"+1","status":"queued"}', Placed("")),
        (401, error("10009", "Could not understand the API key."), None),
        (403, error("10010"), CarrierRefusal("10010", "d", "refused")),
        (403, error("90099"), CarrierRefusal("90099", "d", "refused")),
        (404, error("10005"), CarrierRefusal("10005", "d", "auth")),
        (422, error("10015"), CarrierRefusal("10015", "d", "invalid")),
        (422, error("10016"), CarrierRefusal("10016", "d", "invalid")),
        (422, error(10002), CarrierRefusal("10002", "d", "invalid")),
        (429, error("10011"), CarrierRefusal("10011", "d", "rate")),
        (500, b"oops", CarrierRefusal("500", "HTTP status 500", "unavailable")),
        (422, b'{"errors":[]}', CarrierRefusal("422", "HTTP status 422", "invalid")),
        (422, b'{"errors":[{"code":"1","title":"only a title"}]}', CarrierRefusal("1", "only a title", "invalid")),
    ],
)
def test_answer_to_an_order(status: int, body: bytes, read: Placed | CarrierRefusal | None) -> None:
    expected = read or CarrierRefusal("10009", "Could not understand the API key.", "auth")
    assert carrier().read_placed(status, body, {}) == expected


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (200, b'{"data":{"is_alive":true,"call_duration":3}}', CallState("answered")),
        (200, b'{"data":{"is_alive":false,"end_time":"2026-01-15T10:31:00Z"}}', CallState("ended", ended=1768473060.0)),
        (200, b'{"data":{"is_alive":false,"end_time":"2026-01-15T10:31:00"}}', CallState("ended")),  # in which zone?
        (200, b'{"data":{"is_alive":false}}', CallState()),  # being dialled
        (200, b'{"data":{"is_alive":"yes"}}', CallState()),
        (422, error("90018"), CallState("ended")),
        (404, error("90015"), CallState("ended")),
        (404, error("10005"), CallState()),
        (500, b"", CallState()),
    ],
)
def test_state_of_a_call(status: int, body: bytes, state: CallState) -> None:
    assert carrier().read_call(status, body) == state


@given(status=statuses, body=bodies, told=headers)
def test_any_answer_is_read(status: int, body: bytes, told: dict[str, str]) -> None:
    assert isinstance(carrier().read_placed(status, body, told), Placed | CarrierRefusal)
    assert isinstance(carrier().read_call(status, body), CallState)


@given(call_id=st.text(max_size=20) | st.sampled_from(["..", ".", "v3:x/../y", "v3:x?y", "v3:x#", "%2e%2e", "v3:x\n"]))
def test_no_call_id_leads_elsewhere(call_id: str) -> None:
    for request in (carrier().ask_call(call_id, ""), carrier().hang_up(call_id, "")):
        assert request is None or httpx.URL(request.url).path.split("/")[3] == call_id
