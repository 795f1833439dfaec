"""What Twilio's webhooks say, and what it is answered."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree

from gateway.carriers.base import HttpRequest, Kind, Refused, StreamAnswer, Webhook
from gateway.carriers.parameters import OwnParameters
from serializers.base import MediaFormat
from tests.carriers.test_twilio import CALL, SID, carrier
from tests.carriers.webhooks import (
    Pairs,
    post,
    refused_forms,
)

# What webhooks say


def parse(fields: Pairs, query: str = "") -> Webhook:
    webhook = carrier().parse(post(fields, query=query))
    assert isinstance(webhook, Webhook)
    return webhook


@pytest.mark.parametrize(
    ("fields", "kind", "status", "outcome"),
    [
        ({"CallStatus": "ringing"}, Kind.VOICE, "ringing", ""),
        ({"CallStatus": "in-progress", "Direction": "outbound-api"}, Kind.VOICE, "answered", ""),
        ({"CallStatus": "ringing", "CallbackSource": "call-progress-events"}, Kind.STATUS, "ringing", ""),
        ({"CallStatus": "in-progress", "CallbackSource": "call-progress-events"}, Kind.STATUS, "answered", ""),
        ({"CallStatus": "initiated"}, Kind.STATUS, "ringing", ""),
        ({"CallStatus": "completed", "CallDuration": "3"}, Kind.STATUS, "ended", "completed"),
        ({"CallStatus": "no-answer"}, Kind.STATUS, "ended", "no-answer"),
        ({"CallStatus": "canceled"}, Kind.STATUS, "ended", "canceled"),
        ({"CallStatus": "in-progress", "StreamSid": "MZ1"}, Kind.VOICE, "answered", ""),
        ({"StreamSid": "MZ1", "StreamEvent": "stream-started"}, Kind.STREAM, "", ""),
        ({"StreamSid": "MZ1"}, Kind.STREAM, "", ""),
        ({"AnsweredBy": "human"}, Kind.STATUS, "", ""),
        ({}, Kind.OTHER, "", ""),
    ],
)
def test_kind_and_status(fields: dict[str, str], kind: Kind, status: str, outcome: str) -> None:
    webhook = parse({"CallSid": "CA1", **fields})
    assert (webhook.kind, webhook.status, webhook.outcome) == (kind, status, outcome)
    assert webhook.detail == (fields["CallStatus"] if status == "ended" else "")


def test_outbound_call_of_ours() -> None:
    webhook = parse({**CALL, "Direction": "outbound-api", "CallStatus": "in-progress"}, "gw_session=s1&key=hush")
    assert webhook.direction == "outbound"
    assert (webhook.from_number, webhook.to_number) == ("+15550100001", "+15550100002")
    assert (webhook.own, webhook.custom_params) == (OwnParameters(session="s1"), {})


def test_stream_error() -> None:
    webhook = parse(
        {"CallSid": "CA1", "StreamSid": "MZ1", "StreamEvent": "stream-error", "StreamError": "31920", "AccountSid": SID}
    )
    assert (webhook.stream, webhook.detail) == ("failed", "31920")


def test_dial_action_and_answering_machine() -> None:
    assert parse({**CALL, "CallStatus": "in-progress", "DialCallStatus": "no-answer"}).dial == "no-answer"
    assert parse({"CallSid": "CA1", "AnsweredBy": "machine_end_beep"}).answered_by == "machine"


def test_numbers_that_are_none_pass_as_they_came() -> None:
    webhook = parse({"CallSid": "CA1", "CallStatus": "ringing", "From": "client:alice", "To": "sip:bot@acme.example"})
    assert (webhook.from_number, webhook.to_number) == ("client:alice", "sip:bot@acme.example")


@pytest.mark.parametrize(("request_", "reason"), refused_forms("CallSid"))
def test_parse_refused(request_: HttpRequest, reason: str) -> None:
    assert carrier().parse(request_) == Refused(reason)


# Answers


def test_stream_markup_to_the_byte() -> None:
    answer = StreamAnswer(
        "wss://voice.example.com/ws/twilio/token",
        "https://voice.example.com/resume?gw_session=s&gw_attempt=1",
        "https://voice.example.com/stream?gw_session=s",
        [
            ("serviceHost", "support.acme"),
            ("quote", "\"'><&\x00"),
            ("", "x"),
            ("long", "x" * 496),
            ("fits", "y" * 495),
        ],
        MediaFormat("l16", 16000),
    )
    assert carrier().answer_stream(answer).body == (
        b"<?xml version='1.0' encoding='UTF-8'?>\n"
        b'<Response><Connect><Stream url="wss://voice.example.com/ws/twilio/token"'
        b' statusCallback="https://voice.example.com/stream?gw_session=s">'
        b'<Parameter name="serviceHost" value="support.acme"/>'
        b'<Parameter name="quote" value="&quot;\'&gt;&lt;&amp;"/>'
        b'<Parameter name="fits" value="' + b"y" * 495 + b'"/>'
        b'</Stream></Connect><Redirect method="POST">'
        b"https://voice.example.com/resume?gw_session=s&amp;gw_attempt=1</Redirect></Response>"
    )


def test_stream_url_has_no_query() -> None:
    stream = etree.fromstring(carrier().answer_stream(StreamAnswer("wss://h/ws/t?token=x", "", "")).body)[0][0]
    assert dict(stream.items()) == {"url": "wss://h/ws/t"}


@pytest.mark.parametrize(
    ("answer", "markup"),
    [
        (carrier().answer_reject("busy"), '<Reject reason="busy"/>'),
        (carrier().answer_reject("rejected"), '<Reject reason="rejected"/>'),
        (carrier().answer_reject("anything"), '<Reject reason="rejected"/>'),
        (carrier().answer_hangup(), "<Hangup/>"),
        (
            carrier().answer_dial("+15550123", caller="+15550100", action_url="https://h/r?a=1&b=2"),
            '<Dial action="https://h/r?a=1&amp;b=2" method="POST" callerId="+15550100">'
            "<Number>+15550123</Number></Dial>",
        ),
        (
            carrier().answer_dial("sip:bob@acme.example", caller="", action_url="https://h/r"),
            '<Dial action="https://h/r" method="POST"><Sip>sip:bob@acme.example</Sip></Dial>',
        ),
        (
            carrier().answer_digits('12w#"<', resume_url="https://h/r"),
            '<Play digits="12w#"/><Redirect method="POST">https://h/r</Redirect>',
        ),
        (carrier().answer_park(), '<Pause length="3600"/>' * 24),
    ],
)
def test_other_answers(answer: Any, markup: str) -> None:
    assert answer.status == 200
    assert answer.content_type == "text/xml; charset=utf-8"
    assert answer.body.decode() == f"<?xml version='1.0' encoding='UTF-8'?>\n<Response>{markup}</Response>"


def test_empty_answer() -> None:
    assert carrier().answer_empty().body.endswith(b"<Response/>")
    assert carrier().answer_attach(StreamAnswer("wss://h/t", "", "")) == carrier().answer_stream(
        StreamAnswer("wss://h/t", "", "")
    )
