"""Exotel's REST API (it has no SDK): what is asked, and any answer is understood."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.carriers.exotel import Config, ExotelCarrier
from gateway.carriers.orders import CallState, CarrierRefusal, Placed
from tests.carriers.rest import ORDER, bodies, headers, sent, statuses, what
from tests.carriers.webhooks import PUBLIC

CALL = "80bfbec2d78bbbf10fb851f4fa165211"
BASIC = "Basic " + base64.b64encode(b"key1:token1").decode()


def carrier(*, dev: bool = False, **config: Any) -> ExotelCarrier:
    settings = {"account_sid": "acme1", "api_key": "key1", "api_token": "token1", "webhook_secret": "s3cret"}
    return ExotelCarrier(Config.model_validate({**settings, **config}), public_url=PUBLIC, dev=dev)


FORM = {
    "From": "+15550100002",  # in their words, the person
    "CallerId": "+15550100001",
    "CallType": "trans",
    "TimeOut": "60",
    "TimeLimit": "7200",
    "StatusCallback": ORDER.status_url,
    "StatusCallbackEvents[0]": "terminal",
    "StatusCallbackEvents[1]": "answered",
    "CustomField": "gw_session=s-1&gw_mac=m",
}


def test_order_of_a_call_to_a_flow() -> None:
    method, url, auth, form = what(sent(carrier(flow_id="926").place_call(ORDER, "acme1")))
    assert (method, url, auth) == ("POST", "https://api.exotel.com/v1/Accounts/acme1/Calls/connect.json", BASIC)
    assert dict(form) == {**FORM, "Url": "http://my.exotel.com/acme1/exoml/start_voice/926"}


def test_order_of_a_call_to_its_stream() -> None:
    form = dict(what(sent(carrier().place_call(ORDER, "")))[3])
    assert form == {**FORM, "StreamUrl": ORDER.stream_url, "StreamType": "bidirectional"}


def test_without_flow_and_stream_there_is_nothing_to_order() -> None:
    assert carrier().place_call(replace(ORDER, stream_url=""), "") is None


def test_seconds_are_bounded() -> None:
    form = dict(what(sent(carrier().place_call(replace(ORDER, ring_seconds=600, max_seconds=86400), "")))[3])
    assert (form["TimeOut"], form["TimeLimit"]) == ("60", "14400")


def test_a_custom_field_is_never_longer_than_exotel_takes() -> None:
    long = replace(ORDER, answer_url=ORDER.answer_url + "&gw_after=" + "x" * 200)
    assert dict(what(sent(carrier().place_call(long, "")))[3])["CustomField"] == "gw_session=s-1"


def test_keys_in_our_urls_do_not_go_into_the_custom_field() -> None:
    keyed = replace(ORDER, answer_url="https://h.example/voice?key=hush&serviceHost=a.b&gw_session=s-1")
    assert dict(what(sent(carrier().place_call(keyed, "")))[3])["CustomField"] == "gw_session=s-1"


def test_there_is_no_request_that_ends_a_call() -> None:
    assert carrier().hang_up(CALL, "acme1") is None
    assert carrier().cancel_call(CALL, "", "acme1") is None
    assert not carrier().can.cancel_ringing


def test_account_to_place_with() -> None:
    assert carrier().default_account() == "acme1"
    assert carrier().place_call(ORDER, "acme2") is None
    for lacking in ("account_sid", "api_key", "api_token"):
        settings = {key: value for key, value in carrier().accounts[0].model_dump().items() if key != lacking}
        partial = ExotelCarrier(Config.model_validate(settings), public_url=PUBLIC)
        assert (partial.default_account(), partial.place_call(ORDER, "")) == ("", None)
    secret_less = ExotelCarrier(
        Config.model_validate({"account_sid": "acme1", "api_key": "key1", "api_token": "token1"}),
        public_url=PUBLIC,
        dev=True,
    )
    assert secret_less.default_account() == ""  # as its webhooks have none
    assert secret_less.place_call(ORDER, "") is not None


@pytest.mark.parametrize("flow_id", ["../x", "926/..", "9 26", "926?x", "9" * 65])
def test_what_can_be_no_flow_is_refused_in_the_settings(flow_id: str) -> None:
    with pytest.raises(ValidationError):
        carrier(flow_id=flow_id)


@pytest.mark.parametrize(
    ("status", "body", "read"),
    [
        (200, b'{"Call":{"Sid":"%s","Status":"in-progress","Direction":"outbound-api"}}' % CALL.encode(), Placed(CALL)),
        (200, b'{"Call":{"Sid":null}}', Placed()),
        (200, b"<TwilioResponse/>", Placed()),
        (400, b'{"RestException":{"Status":400,"Message":"Mandatory Parameter missing","Code":1001}}', None),
        (401, b'{"RestException":{"Status":401,"Message":"No auth"}}', CarrierRefusal("401", "No auth", "auth")),
        (402, b'{"RestException":{"Message":"balance"}}', CarrierRefusal("402", "balance", "refused")),
        (403, b'{"RestException":{"Message":"suspended"}}', CarrierRefusal("403", "suspended", "refused")),
        (429, b"", CarrierRefusal("429", "HTTP status 429", "rate", 30.0)),
        (500, b"", CarrierRefusal("500", "HTTP status 500", "unavailable")),
    ],
)
def test_answer_to_an_order(status: int, body: bytes, read: Placed | CarrierRefusal | None) -> None:
    told = {"retry-after": "30"} if status == 429 else {}
    expected = read or CarrierRefusal("1001", "Mandatory Parameter missing", "invalid")
    assert carrier().read_placed(status, body, told) == expected


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("queued", CallState("ringing")),
        ("in-progress", CallState("answered")),
        ("completed", CallState("ended", "completed")),
        ("no-answer", CallState("ended", "no-answer")),
        ("busy", CallState("ended", "busy")),
        ("failed", CallState("ended", "failed")),
        ("canceled", CallState("ended", "canceled")),
        ("", CallState()),
    ],
)
def test_state_of_a_call(word: str, state: CallState) -> None:
    assert what(sent(carrier().ask_call(CALL, "")))[:3] == (
        "GET",
        f"https://api.exotel.com/v1/Accounts/acme1/Calls/{CALL}.json",
        BASIC,
    )
    assert carrier().read_call(200, b'{"Call":{"Status":"%s"}}' % word.encode()) == state
    assert carrier().read_call(500, b'{"Call":{"Status":"%s"}}' % word.encode()) == CallState()


def test_how_long_a_call_was() -> None:
    said = b'{"Call":{"Status":"completed","Duration":"5","EndTime":"2026-01-15 16:01:00"}}'
    assert carrier().read_call(200, said) == CallState("ended", "completed", 5)


@given(status=statuses, body=bodies, told=headers)
def test_any_answer_is_read(status: int, body: bytes, told: dict[str, str]) -> None:
    assert isinstance(carrier().read_placed(status, body, told), Placed | CarrierRefusal)
    assert isinstance(carrier().read_call(status, body), CallState)


@given(call_id=st.text(max_size=20) | st.sampled_from(["..", ".", "a/../b", "a?b", "a#", "%2e%2e", "a\n"]))
def test_no_call_id_leads_elsewhere(call_id: str) -> None:
    request = carrier().ask_call(call_id, "")
    assert request is None or httpx.URL(request.url).path == f"/v1/Accounts/acme1/Calls/{call_id}.json"
