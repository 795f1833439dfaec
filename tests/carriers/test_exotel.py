from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.base import HttpRequest, Kind, Refused, StreamAnswer, Verified, Webhook
from gateway.carriers.exotel import Config, ExotelCarrier
from gateway.carriers.parameters import OwnParameters
from serializers.base import MediaFormat
from tests.carriers.webhooks import PUBLIC, Pairs, get, post, post_body
from tests.kit.golden import golden_bytes

CALL = {
    "CallSid": "15200678a1c07e20405361494018fbd0",
    "CallFrom": "09494865411",
    "CallTo": "08047112345",
    "Direction": "incoming",
}
SECRET = "s3cret"


def carrier(**config: Any) -> ExotelCarrier:
    settings = {"account_sid": "acme1", "webhook_secret": SECRET, **config}
    return ExotelCarrier(Config.model_validate(settings), public_url=PUBLIC)


def basic(password: str, user: str = "anyone") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (get({**CALL, "key": SECRET}), Verified("acme1")),
        (get(CALL, headers=basic(SECRET)), Verified("acme1")),
        (get(CALL, headers=basic(SECRET, "")), Verified("acme1")),
        (get({**CALL, "key": "wrong"}, headers=basic(SECRET)), Verified("acme1")),
        (post(CALL, query=f"key={SECRET}"), Verified("acme1")),
        (get(CALL), Refused("missing_key")),
        (get({**CALL, "key": ""}), Refused("missing_key")),
        (get({**CALL, "key": [SECRET, SECRET]}), Refused("missing_key")),
        (get({**CALL, "key": SECRET + "x"}), Refused("bad_key")),
        (get({**CALL, "key": "é"}), Refused("bad_key")),
        (get({**CALL, "key": "k" * 4000}), Refused("bad_key")),
        (get(CALL, headers=basic("wrong", SECRET)), Refused("bad_key")),
        (post({**CALL, "key": SECRET}), Refused("missing_key")),  # in the body it is a field, not a key
        (get({**CALL, "key": SECRET, "AccountSid": "acme1"}), Verified("acme1")),
        (get({**CALL, "key": SECRET, "AccountSid": "acme2"}), Refused("foreign_account")),
        (get(urlencode({**CALL, "key": SECRET}) + "&CallSid=2"), Refused("duplicate_field")),
        (post_body(b"a", "text/plain", query=f"key={SECRET}"), Refused("bad_body")),
    ],
)
def test_verify(request_: HttpRequest, result: object) -> None:
    assert carrier().verify(request_, now=0) == result


def test_rotation_and_several_accounts() -> None:
    verifier = carrier(webhook_secret=["new", "old"], accounts=[{"account_sid": "acme2", "webhook_secret": "two"}])
    for key, account in (("new", "acme1"), ("old", "acme1"), ("two", "acme2")):
        assert verifier.verify(get({**CALL, "key": key}), now=0) == Verified(account)
    foreign = get({**CALL, "key": "two", "AccountSid": "acme1"})
    assert verifier.verify(foreign, now=0) == Refused("foreign_account")


def test_without_secret_no_request_is_believed() -> None:
    config = Config.model_validate({"account_sid": "acme1", "api_key": "k", "api_token": "t"})
    request = get({**CALL, "key": ""}, headers=basic(""))
    assert ExotelCarrier(config, public_url=PUBLIC).verify(request, now=0) == Refused("not_configured")
    assert ExotelCarrier(config, public_url=PUBLIC, dev=True).verify(request, now=0) == Verified()


def test_our_own_urls_carry_the_key() -> None:
    both = carrier(webhook_secret=["new", "old"], accounts=[{"account_sid": "acme2", "webhook_secret": "two"}])
    for account, key in (("acme1", "new"), ("acme2", "two"), ("", "new"), ("gone", "new")):
        assert both.callback_url("https://h/s?a=1", account) == f"https://h/s?a=1&key={key}"
    assert ExotelCarrier(None, public_url=PUBLIC).callback_url("https://h/s", "") == "https://h/s"


def test_upgrade_is_unsigned() -> None:
    assert carrier().verify_upgrade(get(path="/ws/t"), now=0) == Refused("unsigned")


# What webhooks say


def parse(request: HttpRequest, **config: Any) -> Webhook:
    webhook = carrier(**config).parse(request)
    assert isinstance(webhook, Webhook)
    return webhook


def test_captured_outbound_call_is_turned_round() -> None:
    url = golden_bytes("exotel-01-dynamic-url-get-outbound.url").decode().strip()
    webhook = parse(get(urlsplit(url).query, urlsplit(url).path))
    assert (webhook.kind, webhook.call_id) == (Kind.VOICE, "15200678a1c07e20405361494018fbd0")
    assert webhook.direction == "outbound"
    # CallFrom is the customer whom we dialled, CallTo our ExoPhone, To a third number.
    assert (webhook.raw_from, webhook.raw_to) == ("05550100010", "05550100009")
    assert webhook.custom_params == {"CustomField": "custom-field-value"}


def test_inbound_numbers_are_read_in_the_region() -> None:
    webhook = parse(get({**CALL, "From": "0999", "To": "0888"}))
    assert (webhook.from_number, webhook.to_number) == ("+919494865411", "+918047112345")
    assert (webhook.raw_from, webhook.raw_to) == ("09494865411", "08047112345")
    assert webhook.direction == "inbound"


def test_captured_status_callback() -> None:
    body = golden_bytes("exotel-04-statuscallback.multipart")
    webhook = parse(post_body(body, "multipart/form-data; boundary=form-data-boundary-lebu8d9e3h8xzvhf"))
    assert (webhook.kind, webhook.status, webhook.outcome) == (Kind.STATUS, "ended", "completed")
    assert webhook.call_id == "ea70405f21228bcc2c083469a3b6dec5"


@pytest.mark.parametrize(
    ("fields", "status", "outcome"),
    [
        ({"Status": "no-answer", "EventType": "terminal"}, "ended", "no-answer"),
        ({"Status": "in-progress", "EventType": "answered"}, "answered", ""),
        ({"EventType": "terminal"}, "ended", ""),
        ({"EventType": "ringing"}, "ringing", ""),
    ],
)
def test_status_callbacks(fields: dict[str, str], status: str, outcome: str) -> None:
    webhook = parse(post({"CallSid": "1", **fields}))
    assert (webhook.kind, webhook.status, webhook.outcome) == (Kind.STATUS, status, outcome)


def test_status_callback_of_our_dial() -> None:
    webhook = parse(
        post(
            {
                "CallSid": "1",
                "Status": "completed",
                "Direction": "outbound-api",
                "From": "09494865411",
                "To": "",
                "PhoneNumberSid": "08047112345",
            }
        )
    )
    assert (webhook.from_number, webhook.to_number) == ("+918047112345", "+919494865411")


ENDED = {"StreamSID": "st1", "Status": "completed", "DisconnectedBy": "bot", "Duration": "7"}


@pytest.mark.parametrize(
    "request_",
    [
        get({**CALL, **{f"Stream[{name}]": value for name, value in ENDED.items()}}),
        get({**CALL, "Stream": json.dumps(ENDED)}),
        post({**CALL, **{f"Stream[{name}]": value for name, value in ENDED.items()}}),
        post({**CALL, "Stream": json.dumps(ENDED)}),
        post_body(json.dumps({**CALL, "Stream": ENDED}).encode(), "application/json"),
        post_body(json.dumps({**CALL, "Stream": json.dumps(ENDED)}).encode(), "application/json"),
    ],
    ids=["get-fields", "get-json", "form-fields", "form-json", "json-object", "json-text"],
)
def test_passthru_after_the_stream(request_: HttpRequest) -> None:
    webhook = parse(request_)
    assert webhook.kind is Kind.VOICE
    assert (webhook.stream, webhook.detail) == ("stopped", "bot")


@pytest.mark.parametrize("stream", ["{", "[]", "7", "null", '{"Status":7}', '"text"'])
def test_passthru_with_an_unreadable_stream(stream: str) -> None:
    webhook = parse(get({**CALL, "Stream": stream}))
    assert (webhook.kind, webhook.stream) == (Kind.VOICE, "")


def test_stream_start_event() -> None:
    body = {"CallSid": "1", "StreamSid": "st1", "EventType": "stream-start", "From": "1", "To": "2"}
    webhook = parse(post_body(json.dumps(body).encode(), "application/json"))
    assert (webhook.kind, webhook.stream) == (Kind.STREAM, "started")


def test_something_else() -> None:
    assert parse(post({"CallSid": "1", "What": "ever"})).kind is Kind.OTHER


def test_after_connect_the_dial_is_told() -> None:
    assert parse(get({**CALL, "DialCallStatus": "no-answer"})).dial == "no-answer"


def test_the_query_of_the_flow() -> None:
    webhook = parse(get({"campaign": "x", **CALL, "serviceHost": "a.b", "gw_x": "1", "flow_id": "7", "key": SECRET}))
    assert webhook.own == OwnParameters(service_host="a.b")
    assert webhook.custom_params == {"campaign": "x"}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (get({"CallFrom": "1"}), "no_call_id"),
        (get({"CallSid": "x" * 600}), "bad_call_id"),
        (get("CallSid=1&CallSid=2"), "duplicate_field"),
        (get("CallSid=1&serviceHost=a&serviceHost=b"), "duplicate_field"),
        (get("CallSid=%FF"), "bad_call_id"),
    ],
)
def test_parse_refused(request_: HttpRequest, reason: str) -> None:
    assert carrier().parse(request_) == Refused(reason)


# Answers


def stream_url(parameters: Pairs = (), rate: int = 8000, url: str = "wss://voice.example.com/ws/exotel/token") -> str:
    pairs = list(dict(parameters).items())
    answer = carrier().answer_stream(StreamAnswer(url, "https://h/r", "https://h/s", pairs, MediaFormat("l16", rate)))
    assert answer.content_type == "application/json"
    return str(json.loads(answer.body)["url"])


def test_stream_answer_to_the_byte() -> None:
    answer = StreamAnswer("wss://h/ws/t", "https://h/r", "https://h/s", [("serviceHost", "support.acme"), ("q", '"&é')])
    assert carrier().answer_stream(answer).body == (b'{"url":"wss://h/ws/t?serviceHost=support.acme&q=%22%26%C3%A9"}')


def test_sample_rate_is_asked_where_it_is_not_8000() -> None:
    assert stream_url() == "wss://voice.example.com/ws/exotel/token"
    assert stream_url(rate=16000).endswith("?sample-rate=16000")
    assert stream_url(rate=44100) == "wss://voice.example.com/ws/exotel/token"


def test_three_parameters_of_256_characters() -> None:
    assert parse_qsl(urlsplit(stream_url({"a": "1", "b": "2", "c": "3", "d": "4"})).query) == [
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
    ]
    assert parse_qsl(urlsplit(stream_url({"a": "1", "b": "2", "c": "3"}, 16000)).query) == [
        ("sample-rate", "16000"),
        ("a", "1"),
        ("b", "2"),
    ]
    assert parse_qsl(urlsplit(stream_url({"a": "x" * 300, "b": "2", "": "3"})).query) == [("b", "2")]


@given(st.dictionaries(st.text(st.characters()), st.text(st.characters())), st.integers(1, 700))
def test_limits_hold_for_any_parameters(parameters: dict[str, str], length: int) -> None:
    base = "wss://h/" + "x" * length
    url = stream_url(parameters, url=base)
    path, _, query = url.partition("?")
    assert path == base
    assert len(query) <= 256
    assert query == "" or len(url) < 600
    assert len(parse_qsl(query, keep_blank_values=True)) <= 3


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (carrier().answer_reject("busy"), 503),
        (carrier().answer_hangup(), 200),
        (carrier().answer_attach(StreamAnswer("wss://h/t", "", "")), 302),
        (carrier().answer_dial("+911", caller="", action_url="https://h"), 302),
        (carrier().answer_digits("1", resume_url="https://h"), 302),
        (carrier().answer_park(), 200),
        (carrier().answer_empty(), 200),
    ],
)
def test_branches_of_passthru(answer: Any, status: int) -> None:
    assert (answer.status, answer.body) == (status, b"")


@pytest.mark.parametrize(
    ("to", "caller", "answer"),
    [
        (
            "+919494865411",
            "+918047112345",
            {
                "fetch_after_attempt": False,
                "destination": {"numbers": ["+919494865411"]},
                "outgoing_phone_number": "+918047112345",
            },
        ),
        ("+91\ud8009", "", {"fetch_after_attempt": False, "destination": {"numbers": ["+919"]}}),
        ("", "+918047112345", {"fetch_after_attempt": False, "destination": {"numbers": []}}),
    ],
)
def test_connect(to: str, caller: str, answer: dict[str, Any]) -> None:
    given = carrier().answer_number(to, caller=caller)
    assert (given.status, given.content_type) == (200, "application/json")
    assert json.loads(given.body) == answer


def placed_by_us(custom_field: str, query: str = "") -> Webhook:
    fields = {**CALL, "Direction": "outbound-dial", "CustomField": custom_field}
    webhook = carrier().parse(get(f"{query}&{urlencode(fields)}"))
    assert isinstance(webhook, Webhook)
    return webhook


def test_session_of_a_call_that_we_placed_is_in_its_custom_field() -> None:
    webhook = placed_by_us("gw_session=s-1&gw_attempt=2", "serviceHost=a.b&team=red")
    assert webhook.own == OwnParameters(service_host="a.b", session="s-1", attempt=2)
    assert webhook.custom_params == {"team": "red"}
    assert (webhook.from_number, webhook.to_number) == ("+918047112345", "+919494865411")  # ours, the callee's


def test_what_the_url_says_of_the_session_counts_first() -> None:
    assert placed_by_us("gw_session=s-1", "gw_session=s-2").own.session == "s-2"


@pytest.mark.parametrize("custom_field", ["order 17", "gw_session=s-1&team=red", "gw_session=s-1&serviceHost=a.b"])
def test_a_custom_field_of_the_user_stays_what_it_is(custom_field: str) -> None:
    webhook = placed_by_us(custom_field)
    assert (webhook.own, webhook.custom_params) == (OwnParameters(), {"CustomField": custom_field})


@pytest.mark.parametrize("custom_field", ["gw_session", "gw_%", "gw_=&", "gw_session=&gw_session=s"])
def test_a_custom_field_with_no_sense_in_it(custom_field: str) -> None:
    assert placed_by_us(custom_field).custom_params == {}


@pytest.mark.parametrize(
    ("said", "status", "outcome"),
    [
        ({"EventType": "answered", "Status": "in-progress"}, "answered", ""),
        ({"EventType": "terminal", "Status": "completed"}, "ended", "completed"),
        ({"EventType": "terminal", "Status": "no-answer"}, "ended", "no-answer"),
        ({"EventType": "terminal", "Status": "busy"}, "ended", "busy"),
        ({"EventType": "terminal", "Status": "failed"}, "ended", "failed"),
        ({"EventType": "terminal", "Status": "canceled"}, "ended", "canceled"),
    ],
)
def test_callback_of_a_call_that_we_placed(said: dict[str, str], status: str, outcome: str) -> None:
    fields = {
        "CallSid": CALL["CallSid"],
        **said,
        "DateUpdated": "2025-01-15 18:14:07",
        "Direction": "outbound-api",
        "From": "09494865411",
        "To": "",
        "PhoneNumberSid": "08047112345",
        "CustomField": "gw_session=s-1",
    }
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value.encode())
        for name, value in fields.items()
    )
    webhook = carrier().parse(post_body(body + b"--b--\r\n", "multipart/form-data; boundary=b"))
    assert isinstance(webhook, Webhook)
    assert (webhook.kind, webhook.status, webhook.outcome) == (Kind.STATUS, status, outcome)
    assert (webhook.direction, webhook.from_number, webhook.to_number) == ("outbound", "+918047112345", "+919494865411")
    assert webhook.own.session == "s-1"
