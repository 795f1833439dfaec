"""What Plivo's webhooks say, and what it is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lxml import etree

from gateway.carriers.base import HttpRequest, Kind, Refused, StreamAnswer, Webhook
from serializers.base import MediaFormat
from tests.carriers.plivo import carrier
from tests.carriers.webhooks import (
    Pairs,
    post,
    post_body,
    refused_forms,
)

# What webhooks say


def parse(fields: Pairs) -> Webhook:
    webhook = carrier().parse(post({"CallUUID": "u", **dict(fields)}))
    assert isinstance(webhook, Webhook)
    return webhook


@pytest.mark.parametrize(
    ("fields", "kind", "status"),
    [
        ({"Event": "StartApp", "CallStatus": "ringing"}, Kind.VOICE, "ringing"),
        ({"Event": "StartApp", "CallStatus": "in-progress"}, Kind.VOICE, "answered"),
        ({"Event": "Redirect", "CallStatus": "in-progress"}, Kind.VOICE, "answered"),
        ({"Event": "Redirect", "CallStatus": "completed"}, Kind.STATUS, "ended"),
        ({"CallStatus": "in-progress"}, Kind.VOICE, "answered"),
        ({"Event": "DialAction", "CallStatus": "in-progress", "DialStatus": "busy"}, Kind.VOICE, "answered"),
        ({"Event": "Ring", "CallStatus": "ringing"}, Kind.STATUS, "ringing"),
        ({"Event": "Hangup", "CallStatus": "completed"}, Kind.STATUS, "ended"),
        ({"Event": "Hangup"}, Kind.STATUS, "ended"),
        ({"Event": "MachineDetection", "CallStatus": "in-progress"}, Kind.STATUS, "answered"),
        ({"Event": "RecordStop", "CallStatus": "in-progress"}, Kind.OTHER, "answered"),
        ({"Event": "StartStream", "StreamID": "s"}, Kind.STREAM, ""),
        ({"Event": "PlayedStream", "StreamID": "s"}, Kind.STREAM, ""),
    ],
)
def test_kind_and_status(fields: dict[str, str], kind: Kind, status: str) -> None:
    webhook = parse(fields)
    assert (webhook.kind, webhook.status) == (kind, status)


@pytest.mark.parametrize(
    ("event", "state"),
    [
        ("StartStream", "started"),
        ("started", "started"),
        ("StopStream", "stopped"),
        ("stopped", "stopped"),
        ("DroppedStream", "failed"),
        ("failed", "failed"),
        ("DegradedStream", "degraded"),
    ],
)
def test_both_sets_of_stream_events_as_form_and_as_json(event: str, state: str) -> None:
    fields = {"CallUUID": "u", "StreamID": "s1", "Event": event, "StatusReason": "connection_failed"}
    for request in (post(fields), post_body(json.dumps(fields).encode(), "application/json")):
        webhook = carrier().parse(request)
        assert isinstance(webhook, Webhook)
        assert (webhook.kind, webhook.stream) == (Kind.STREAM, state)
        assert webhook.detail == "connection_failed"


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ("918035735900", "+918035735900"),
        ("+918035735900", "+918035735900"),
        ("sip:user@phone.plivo.com", "sip:user@phone.plivo.com"),
        ("12345", "12345"),
        ("anonymous", "anonymous"),
    ],
)
def test_numbers_with_and_without_plus(raw: str, number: str) -> None:
    webhook = parse({"Event": "StartApp", "From": raw})
    assert (webhook.from_number, webhook.raw_from) == (number, raw)


@pytest.mark.parametrize(
    ("fields", "detail", "outcome"),
    [
        ({"CallStatus": "completed", "HangupCauseName": "Normal Hangup"}, "Normal Hangup", "completed"),
        ({"CallStatus": "timeout"}, "timeout", "no-answer"),
        ({"CallStatus": "busy", "HangupCause": "USER_BUSY"}, "USER_BUSY", "busy"),
        ({"CallStatus": "failed", "HangupCauseCode": "1000", "HangupCauseName": "Canceled"}, "Canceled", "canceled"),
        ({"CallStatus": "failed", "HangupCauseCode": "3020", "HangupCauseName": "Rejected"}, "Rejected", "busy"),
        ({"CallStatus": "failed", "HangupCauseCode": "2000"}, "failed", "failed"),
    ],
)
def test_how_a_call_ended(fields: dict[str, str], detail: str, outcome: str) -> None:
    webhook = parse({"Event": "Hangup", **fields})
    assert (webhook.detail, webhook.outcome) == (detail, outcome)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("completed", "completed"),
        ("busy", "busy"),
        ("no-answer", "no-answer"),
        ("timeout", "no-answer"),
        ("failed", "failed"),
        ("cancel", "canceled"),
    ],
)
def test_how_a_call_that_we_placed_ended(status: str, outcome: str) -> None:
    webhook = parse(
        {
            "Event": "Hangup",
            "CallStatus": status,
            "Direction": "outbound",
            "From": "15550100001",
            "To": "15550100002",
            "RequestUUID": "9834029e-58b6-11e1-b8b7-a5bd0e4e126f",
        }
    )
    assert (webhook.kind, webhook.status, webhook.outcome) == (Kind.STATUS, "ended", outcome)
    assert (webhook.direction, webhook.from_number, webhook.to_number) == ("outbound", "+15550100001", "+15550100002")
    assert webhook.alias == "9834029e-58b6-11e1-b8b7-a5bd0e4e126f"


@pytest.mark.parametrize(
    ("fields", "call_id", "alias"),
    [
        ({"CallUUID": "u", "RequestUUID": "r"}, "u", "r"),
        ({"CallUUID": "u", "RequestUUID": "u"}, "u", ""),
        ({"CallUUID": "u", "ALegRequestUUID": "r"}, "u", "r"),
        ({"CallUUID": "u", "RequestUUID": "../r"}, "u", ""),
        ({"CallUUID": "", "RequestUUID": "r"}, "r", ""),  # of a call that never came to be
    ],
)
def test_request_is_another_name_of_the_call(fields: dict[str, str], call_id: str, alias: str) -> None:
    webhook = parse(fields)
    assert (webhook.call_id, webhook.alias) == (call_id, alias)


@pytest.mark.parametrize(
    ("raw", "dial"), [("completed", "completed"), ("cancel", "canceled"), ("timeout", "no-answer")]
)
def test_dial_action(raw: str, dial: str) -> None:
    assert parse({"DialStatus": raw, "CallStatus": "in-progress"}).dial == dial


def test_machine_detection() -> None:
    assert parse({"Event": "MachineDetection", "Machine": "true"}).answered_by == "machine"
    assert parse({"Event": "MachineDetection", "Machine": "False"}).answered_by == "human"
    assert parse({"Event": "StartApp"}).answered_by == ""


@pytest.mark.parametrize(("request_", "reason"), refused_forms("CallUUID"))
def test_parse_refused(request_: HttpRequest, reason: str) -> None:
    assert carrier().parse(request_) == Refused(reason)


# Answers


def test_stream_markup_to_the_byte() -> None:
    answer = StreamAnswer(
        "wss://voice.example.com/ws/plivo/token?a=1&b=2",
        "https://voice.example.com/resume?gw_session=s&gw_attempt=1",
        "https://voice.example.com/stream",
        [("host", "support"), ("dotted", "support.acme"), ("blank", ""), ("n", "1")],
    )
    assert carrier().answer_stream(answer).body == (
        b"<?xml version='1.0' encoding='UTF-8'?>\n"
        b'<Response><Stream bidirectional="true" keepCallAlive="true" contentType="audio/x-mulaw;rate=8000"'
        b' audioTrack="inbound" streamTimeout="86400" statusCallbackUrl="https://voice.example.com/stream"'
        b' extraHeaders="host=support,n=1">wss://voice.example.com/ws/plivo/token?a=1&amp;b=2</Stream>'
        b'<Redirect method="POST">https://voice.example.com/resume?gw_session=s&amp;gw_attempt=1</Redirect>'
        b"</Response>"
    )


@pytest.mark.parametrize(
    ("wanted", "content_type"),
    [
        (MediaFormat("mulaw", 8000), "audio/x-mulaw;rate=8000"),
        (MediaFormat("alaw", 8000), "audio/x-mulaw;rate=8000"),
        (MediaFormat("l16", 8000), "audio/x-l16;rate=8000"),
        (MediaFormat("l16", 16000), "audio/x-l16;rate=16000"),
        (MediaFormat("l16", 24000), "audio/x-l16;rate=16000"),
    ],
)
def test_content_type(wanted: MediaFormat, content_type: str) -> None:
    (stream,) = etree.fromstring(carrier().answer_stream(StreamAnswer("wss://h/t", "", "", (), wanted)).body)
    assert stream.get("contentType") == content_type
    assert stream.get("extraHeaders") is None
    assert stream.get("statusCallbackUrl") is None


def test_extra_headers_stay_within_512_bytes() -> None:
    parameters = [("a", "x" * 400), ("b", "y" * 400), ("c", "z" * 100)]
    (stream,) = etree.fromstring(carrier().answer_stream(StreamAnswer("wss://h/t", "", "", parameters)).body)
    assert stream.get("extraHeaders") == "a=" + "x" * 400 + ",c=" + "z" * 100


@pytest.mark.parametrize(
    ("answer", "markup"),
    [
        (carrier().answer_reject("busy"), '<Hangup reason="busy"/>'),
        (carrier().answer_reject("anything"), '<Hangup reason="rejected"/>'),
        (carrier().answer_hangup(), "<Hangup/>"),
        (
            carrier().answer_dial("+15550123", caller="+15550100", action_url="https://h/r?a=1&b=2"),
            '<Dial action="https://h/r?a=1&amp;b=2" method="POST" callerId="+15550100">'
            "<Number>+15550123</Number></Dial>",
        ),
        (
            carrier().answer_dial("sip:bob@acme.example", caller="", action_url="https://h/r"),
            '<Dial action="https://h/r" method="POST"><User>sip:bob@acme.example</User></Dial>',
        ),
        (
            carrier().answer_digits("12w#</DTMF>", resume_url="https://h/r"),
            '<DTMF>12w#D</DTMF><Redirect method="POST">https://h/r</Redirect>',
        ),
        (carrier().answer_park(), '<Wait length="3600"/>' * 24),
    ],
)
def test_other_answers(answer: Any, markup: str) -> None:
    assert answer.body.decode() == f"<?xml version='1.0' encoding='UTF-8'?>\n<Response>{markup}</Response>"


def test_no_verb_that_only_twilio_knows() -> None:
    # Any of them makes Plivo end the call with 8011.
    one = carrier()
    answers = [one.answer_reject("busy"), one.answer_park(), one.answer_empty(), one.answer_digits("1", resume_url="")]
    for answer in answers:
        assert not {"Reject", "Pause", "Say"} & {verb.tag for verb in etree.fromstring(answer.body)}


def test_extra_headers_bring_from_and_to_where_our_own_words_fit() -> None:
    parameters = [("from_number", "+15550100001"), ("to_number", "+15550100000"), ("from", "theirs"), ("plan", "gold")]
    (stream,) = etree.fromstring(carrier().answer_stream(StreamAnswer("wss://h/t", "", "", parameters)).body)
    assert stream.get("extraHeaders") == "from=15550100001,to=15550100000,plan=gold"


def test_a_caller_without_a_number_is_no_extra_header() -> None:
    parameters = [("from_number", "sip:ann@example.com"), ("to_number", "+15550100000")]
    (stream,) = etree.fromstring(carrier().answer_stream(StreamAnswer("wss://h/t", "", "", parameters)).body)
    assert stream.get("extraHeaders") == "to=15550100000"
