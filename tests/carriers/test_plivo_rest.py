"""Plivo's REST API: what is asked is what Plivo's SDK would ask, and any answer is understood."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import httpx
import orjson
import plivo
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import BaseAdapter

from gateway.carriers.orders import CallState, CarrierRefusal, Placed
from gateway.carriers.plivo import Config, PlivoCarrier
from tests.carriers.plivo import AUTH_ID, TOKEN, carrier
from tests.carriers.rest import ORDER, bodies, headers, sent, statuses, what
from tests.carriers.webhooks import PUBLIC

CALL = "2012cb47-ad3b-fff7-fbec-234a241d39fe"
REQUEST = "9834029e-58b6-11e1-b8b7-a5bd0e4e126f"
URL = f"https://api.plivo.com/v1/Account/{AUTH_ID}/"
BASIC = "Basic " + base64.b64encode(f"{AUTH_ID}:{TOKEN}".encode()).decode()


class Recorder(BaseAdapter):
    """Takes what the SDK sends."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        self.request_made = request
        response = requests.Response()
        response.status_code, response._content = 200, b"{}"
        return response

    def close(self) -> None:
        pass

    def what(self) -> tuple[str | None, str, str, Any]:
        made = self.request_made
        path = str(made.url).partition(f"/{AUTH_ID}/")[2]  # their host for voice is another name for the same
        return made.method, path, made.headers["authorization"], orjson.loads(made.body) if made.body else None


@pytest.fixture
def sdk() -> tuple[plivo.RestClient, Recorder]:
    client, recorder = plivo.RestClient(AUTH_ID, TOKEN), Recorder()
    client.session.mount("https://", recorder)
    return client, recorder


def asked(request: httpx.Request) -> tuple[str, str, str, Any]:
    method, url, auth, body = what(request)
    assert url.startswith(URL)
    return method, url.removeprefix(URL), auth, body


def test_order_is_what_the_sdk_sends(sdk: tuple[plivo.RestClient, Recorder]) -> None:
    client, recorder = sdk
    client.calls.create(
        from_="15550100001",
        to_="15550100002",
        answer_url=ORDER.answer_url,
        ring_url=ORDER.status_url,
        hangup_url=ORDER.status_url,
        time_limit=7200,
        ring_timeout=60,
        machine_detection="true",
        machine_detection_url=ORDER.status_url,
    )
    method, path, auth, theirs = recorder.what()
    ours = asked(sent(carrier().place_call(replace(ORDER, machine_detection="detect"), AUTH_ID)))
    assert ours[:3] == (method, path, auth)
    defaults = {"fallback_method": "POST", "machine_detection_time": 5000, "callback_method": "POST"}
    defaults["error_if_parent_not_found"] = False
    assert {**defaults, **ours[3]} == {**defaults, **theirs}


def test_hang_up_and_question_are_what_the_sdk_sends(sdk: tuple[plivo.RestClient, Recorder]) -> None:
    client, recorder = sdk
    client.calls.hangup(CALL)
    assert asked(sent(carrier().hang_up(CALL, AUTH_ID)))[:3] == recorder.what()[:3]
    client.calls.cancel(REQUEST)
    assert asked(sent(carrier().cancel_call("", REQUEST, AUTH_ID)))[:3] == recorder.what()[:3]
    client.live_calls.get(CALL)
    assert asked(sent(carrier().ask_call(CALL, AUTH_ID)))[:3] == recorder.what()[:3]


def test_order_as_it_is_on_the_wire() -> None:
    assert what(sent(carrier().place_call(ORDER, ""))) == (
        "POST",
        f"{URL}Call/",
        BASIC,
        {
            "from": "15550100001",
            "to": "15550100002",
            "answer_url": ORDER.answer_url,
            "answer_method": "POST",
            "ring_url": ORDER.status_url,
            "ring_method": "POST",
            "hangup_url": ORDER.status_url,
            "hangup_method": "POST",
            "ring_timeout": 60,
            "time_limit": 7200,
        },
    )


def test_a_ringing_call_is_ended_by_what_names_it() -> None:
    by_request, by_call = carrier().cancel_call("", REQUEST, ""), carrier().cancel_call(CALL, REQUEST, "")
    assert by_request is not None
    assert by_call is not None
    assert by_request.url == f"{URL}Request/{REQUEST}/"
    assert by_call.url == f"{URL}Call/{CALL}/"
    assert carrier().cancel_call("", "", "") is None  # "Call/" alone ends every call of the account


def test_account_to_place_with() -> None:
    assert carrier().default_account() == AUTH_ID
    assert carrier().place_call(ORDER, "MAFOREIGN") is None
    unknown = PlivoCarrier(None, public_url=PUBLIC, dev=True)
    assert (unknown.default_account(), unknown.place_call(ORDER, "")) == ("", None)


def test_two_accounts_each_place_with_their_own_key() -> None:
    accounts = [{"auth_id": "MA1", "auth_token": "one"}, {"auth_id": "SA2", "auth_token": ["new", "old"]}]
    both = PlivoCarrier(Config.model_validate({"accounts": accounts}), public_url=PUBLIC)
    call = both.place_call(ORDER, "SA2")
    assert call is not None
    assert call.auth == ("SA2", "new")


@pytest.mark.parametrize(
    ("status", "body", "read"),
    [
        (201, b'{"message":"call fired","request_uuid":"%s","api_id":"a"}' % REQUEST.encode(), Placed("", REQUEST)),
        (201, b'{"message":"calls fired","request_uuid":["%s"]}' % REQUEST.encode(), Placed("", REQUEST)),
        (201, b'{"message":"call queued"}', Placed()),
        (201, b'{"request_uuid":"../Call"}', Placed()),
        (
            400,
            b'{"api_id":"a","error":"to parameter is invalid"}',
            CarrierRefusal("400", "to parameter is invalid", "invalid"),
        ),
        (400, b'{"error":{"error":"nested"}}', CarrierRefusal("400", "nested", "invalid")),
        (
            401,
            b"Could not verify your access level for that URL.\nYou have to login with proper credentials",
            CarrierRefusal(
                "401",
                "Could not verify your access level for that URL. You have to login with proper credentials",
                "auth",
            ),
        ),
        (403, b'{"error":"geo permission"}', CarrierRefusal("403", "geo permission", "refused")),
        (404, b'{"error":"not found"}', CarrierRefusal("404", "not found", "auth")),
        (429, b'{"error":"too many requests"}', CarrierRefusal("429", "too many requests", "rate")),
        (503, b"", CarrierRefusal("503", "HTTP status 503", "unavailable")),
    ],
)
def test_answer_to_an_order(status: int, body: bytes, read: Placed | CarrierRefusal) -> None:
    assert carrier().read_placed(status, body, {}) == read


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (200, b'{"call_status":"in-progress","call_uuid":"x","direction":"outbound"}', CallState("answered")),
        (200, b'{"call_status":"ringing"}', CallState("ringing")),
        (200, b'{"call_status":"completed"}', CallState("ended", "completed")),
        (200, b'{"call_status":"timeout"}', CallState("ended", "no-answer")),
        (200, b"{}", CallState()),
        (404, b'{"error":"not found"}', CallState("ended")),
        (401, b"", CallState()),
    ],
)
def test_state_of_a_call(status: int, body: bytes, state: CallState) -> None:
    assert carrier().read_call(status, body) == state


@given(status=statuses, body=bodies, told=headers)
def test_any_answer_is_read(status: int, body: bytes, told: dict[str, str]) -> None:
    assert isinstance(carrier().read_placed(status, body, told), Placed | CarrierRefusal)
    assert isinstance(carrier().read_call(status, body), CallState)


@given(call_id=st.text(max_size=20) | st.sampled_from(["..", ".", "a/../b", "a?b", "a#", "%2e%2e", "a\n", ""]))
def test_no_call_id_leads_elsewhere(call_id: str) -> None:
    tried = carrier().ask_call(call_id, ""), carrier().hang_up(call_id, ""), carrier().cancel_call("", call_id, "")
    for request in tried:
        assert request is None or httpx.URL(request.url).path.split("/")[5:] == [call_id, ""]
