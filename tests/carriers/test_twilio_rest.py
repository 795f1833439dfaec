"""Twilio's REST API: what is asked is what Twilio's SDK would ask, and any answer is understood."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from gateway.carriers.orders import CallState, CarrierRefusal, Placed
from gateway.carriers.twilio import Config, TwilioCarrier
from tests.carriers.rest import ORDER, bodies, headers, sent, statuses, what
from tests.carriers.webhooks import PUBLIC

SID = "AC753e92f9dcc815f84a51038047b6d39a"
CALL = "CA11111111111111111111111111111111"
BASIC = "Basic " + base64.b64encode(f"{SID}:12345".encode()).decode()


def carrier(**config: Any) -> TwilioCarrier:
    settings = {"account_sid": SID, "auth_token": "12345", **config}
    return TwilioCarrier(Config.model_validate(settings), public_url=PUBLIC)


class Recorder(HttpClient):
    """Takes what the SDK sends."""

    def __init__(self) -> None:
        pass

    def request(self, method: str, url: str, *more: Any, data: Any, auth: Any, **rest: Any) -> Response:
        self.request_made = next(httpx.BasicAuth(*auth).auth_flow(httpx.Request(method, url, data=data)))
        return Response(200, "{}")


@pytest.fixture
def sdk() -> tuple[Client, Recorder]:
    recorder = Recorder()
    return Client(SID, "12345", http_client=recorder), recorder


def test_order_is_what_the_sdk_sends(sdk: tuple[Client, Recorder]) -> None:
    client, recorder = sdk
    client.calls.create(
        to=ORDER.to,
        from_=ORDER.from_number,
        url=ORDER.answer_url,
        method="POST",
        status_callback=ORDER.status_url,
        status_callback_method="POST",
        status_callback_event=["initiated", "ringing", "answered", "completed"],
        timeout=60,
        time_limit=7200,
        machine_detection="DetectMessageEnd",
        async_amd="true",
        async_amd_status_callback=ORDER.status_url,
        async_amd_status_callback_method="POST",
    )
    order = replace(ORDER, machine_detection="message_end")
    assert what(sent(carrier().place_call(order, SID))) == what(recorder.request_made)


def test_hang_up_and_question_are_what_the_sdk_sends(sdk: tuple[Client, Recorder]) -> None:
    client, recorder = sdk
    client.calls(CALL).update(status="completed")
    assert what(sent(carrier().hang_up(CALL, SID))) == what(recorder.request_made)
    assert what(sent(carrier().cancel_call(CALL, "", SID))) == what(recorder.request_made)
    client.calls(CALL).fetch()
    assert what(sent(carrier().ask_call(CALL, SID))) == what(recorder.request_made)


def test_order_as_it_is_on_the_wire() -> None:
    method, url, auth, form = what(sent(carrier().place_call(ORDER, "")))
    assert (method, url, auth) == ("POST", f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Calls.json", BASIC)
    assert form == [
        ("From", "+15550100001"),
        ("Method", "POST"),
        ("StatusCallback", ORDER.status_url),
        ("StatusCallbackEvent", "answered"),
        ("StatusCallbackEvent", "completed"),
        ("StatusCallbackEvent", "initiated"),
        ("StatusCallbackEvent", "ringing"),
        ("StatusCallbackMethod", "POST"),
        ("TimeLimit", "7200"),
        ("Timeout", "60"),
        ("To", "+15550100002"),
        ("Url", ORDER.answer_url),
    ]


def test_machine_detection_never_waits() -> None:
    form = dict(what(sent(carrier().place_call(replace(ORDER, machine_detection="detect"), "")))[3])
    assert (form["MachineDetection"], form["AsyncAmd"]) == ("Enable", "true")


def test_seconds_are_bounded() -> None:
    form = dict(what(sent(carrier().place_call(replace(ORDER, ring_seconds=9999, max_seconds=0), "")))[3])
    assert (form["Timeout"], form["TimeLimit"]) == ("600", "1")


def test_base_url_of_the_section_or_of_the_account() -> None:
    call = carrier(api_url="http://127.0.0.1:9/twilio/").place_call(ORDER, "")
    assert call is not None
    assert call.url == f"http://127.0.0.1:9/twilio/2010-04-01/Accounts/{SID}/Calls.json"


def test_account_to_place_with() -> None:
    assert carrier().default_account() == SID
    assert carrier().place_call(ORDER, "AC-foreign") is None
    unknown = TwilioCarrier(None, public_url=PUBLIC, dev=True)
    assert (unknown.default_account(), unknown.place_call(ORDER, "")) == ("", None)


@pytest.mark.parametrize(
    ("status", "body", "read"),
    [
        (201, b'{"sid": "%s", "status": "queued"}' % CALL.encode(), Placed(CALL)),
        (201, b'{"sid": "../../x"}', Placed("")),
        (201, b"<html>", Placed("")),
        (
            401,
            b'{"code": 20003, "message": "Authenticate", "more_info": "https://www.twilio.com/docs/errors/20003", '
            b'"status": 401}',
            CarrierRefusal("20003", "Authenticate", "auth"),
        ),
        (
            400,
            b'{"code": 21211, "message": "The \'To\' number +15005550001 is not a valid phone number.", "status": 400}',
            CarrierRefusal("21211", "The 'To' number +15005550001 is not a valid phone number.", "invalid"),
        ),
        (400, b'{"code": 21212, "message": "m", "status": 400}', CarrierRefusal("21212", "m", "invalid")),
        (400, b'{"code": 21210, "message": "m", "status": 400}', CarrierRefusal("21210", "m", "refused")),
        (400, b'{"code": 21606, "message": "m", "status": 400}', CarrierRefusal("21606", "m", "refused")),
        (400, b'{"code": 21215, "message": "m", "status": 400}', CarrierRefusal("21215", "m", "refused")),
        (429, b'{"code": 20429, "message": "Too Many Requests"}', CarrierRefusal("20429", "Too Many Requests", "rate")),
        (404, b'{"code": 20404, "message": "not found"}', CarrierRefusal("20404", "not found", "auth")),
        (500, b"", CarrierRefusal("500", "HTTP status 500", "unavailable")),
        (502, b"<html>", CarrierRefusal("502", "HTTP status 502", "unanswered")),
        (504, b"", CarrierRefusal("504", "HTTP status 504", "unanswered")),
        (524, b"", CarrierRefusal("524", "HTTP status 524", "unanswered")),
        (
            400,
            b'{"type": "https://x", "title": "Bad", "status": 400, "code": 21211, "detail": "not valid"}',
            CarrierRefusal("21211", "not valid", "invalid"),
        ),
        (302, b"", CarrierRefusal("302", "the REST API answers with a redirect: is api_url right?", "refused")),
        (400, b'{"code": 1, "message": "a\\n\\u001b[31m  b"}', CarrierRefusal("1", "a ?[31m b", "invalid")),
    ],
)
def test_answer_to_an_order(status: int, body: bytes, read: Placed | CarrierRefusal) -> None:
    assert carrier().read_placed(status, body, {}) == read


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:09 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:09 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "999999999"}, 86400.0),
    ],
)
def test_when_to_try_again(told: dict[str, str], seconds: float | None) -> None:
    refusal = carrier().read_placed(429, b"{}", told)
    assert isinstance(refusal, CarrierRefusal)
    assert refusal.retry_after == seconds


@pytest.mark.parametrize(("status", "seconds"), [(500, None), (503, 7.0)])
def test_a_500_does_not_say_that_nothing_was_dialled(status: int, seconds: float | None) -> None:
    refusal = carrier().read_placed(status, b"{}", {"retry-after": "7"})
    assert isinstance(refusal, CarrierRefusal)
    assert refusal.retry_after == seconds


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("queued", CallState("ringing")),
        ("ringing", CallState("ringing")),
        ("in-progress", CallState("answered")),
        ("completed", CallState("ended", "completed")),
        ("busy", CallState("ended", "busy")),
        ("no-answer", CallState("ended", "no-answer")),
        ("failed", CallState("ended", "failed")),
        ("canceled", CallState("ended", "canceled")),
        ("dreaming", CallState()),
    ],
)
def test_state_of_a_call(word: str, state: CallState) -> None:
    assert carrier().read_call(200, b'{"sid": "CA1", "status": "%s"}' % word.encode()) == state
    assert carrier().read_call(404, b'{"sid": "CA1", "status": "%s"}' % word.encode()) == CallState()


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (
            b'"duration": "5", "end_time": "Thu, 15 Jan 2026 10:31:00 +0000"',
            CallState("ended", "completed", 5, 1768473060.0),
        ),
        (b'"duration": "-5", "end_time": "Thu, 15 Jan"', CallState("ended", "completed")),
        (b'"duration": null, "end_time": 5', CallState("ended", "completed")),
    ],
)
def test_when_a_call_ended(said: bytes, state: CallState) -> None:
    assert carrier().read_call(200, b'{"sid": "CA1", "status": "completed", %s}' % said) == state


@given(status=statuses, body=bodies, told=headers)
def test_any_answer_is_read(status: int, body: bytes, told: dict[str, str]) -> None:
    assert isinstance(carrier().read_placed(status, body, told), Placed | CarrierRefusal)
    assert isinstance(carrier().read_call(status, body), CallState)


@given(call_id=st.text(max_size=20) | st.sampled_from(["..", ".", "CA1/../CA2", "CA1?x", "CA1#", "%2e%2e", "CA1\n"]))
def test_no_call_id_leads_elsewhere(call_id: str) -> None:
    for request in (carrier().ask_call(call_id, ""), carrier().hang_up(call_id, "")):
        assert request is None or request.url.rpartition("/Calls/")[2] == f"{call_id}.json"


def test_nothing_secret_is_shown() -> None:
    call = carrier(auth_token="sesame").place_call(replace(ORDER, status_url="https://h.example/?key=sesame"), "")
    shown = repr(call) + repr(ORDER)
    assert "sesame" not in shown
    assert "+1555" not in shown
    assert "gw_mac" not in shown
