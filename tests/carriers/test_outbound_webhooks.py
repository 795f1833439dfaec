"""Webhooks of calls that we placed, as the carriers write them: from is ours, to the callee, on all of them."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from gateway.carriers import CARRIERS
from gateway.carriers.base import HttpRequest, Kind, Webhook
from tests.carriers.webhooks import FORM, PUBLIC, get

SESSION = "gw_session=s-1&gw_mac=m"
OURS, CALLEE = "+15550100001", "+15550100002"

TWILIO = (
    "AccountSid=AC1&ApiVersion=2010-04-01&CallSid=CA1&Called=%2B15550100002&Caller=%2B15550100001&CallerCity="
    "&Direction=outbound-api&From=%2B15550100001&To=%2B15550100002&ToCity="
)
TWILIO_STATUS = (
    "&Timestamp=Sun%2C+29+Nov+2026+21%3A00%3A00+%2B0000&CallbackSource=call-progress-events&SequenceNumber=1"
)
# developers.telnyx.com/api-reference/callbacks/texml-call-*: they have no Direction.
TELNYX = (
    "AccountSid=f5586561-8ff0-4291-a51b-c7dfe4139ff9&CallSid=v3%3A9X2vxPDFY2&CallSidLegacy=v3%3A9X2vxPDFY2"
    "&ConnectionId=1234567890"
)
TELNYX_STATUS = (
    "&CallInitiatedAt=2024-01-15T10%3A30%3A26.028Z&CallbackSource=call-progress-events&From=%2B15550100001"
    "&To=%2B15550100002&SequenceNumber=3&Timestamp=2024-01-15T10%3A30%3A00Z"
)
TELNYX_END = (
    "&CallStatus=completed&CallDuration=0&CallQualityStats=%7B%22mos%22%3A4.2%7D&HangupSource=callee&HangupCause="
)
PLIVO = (
    "ALegRequestUUID=9834029e&ALegUUID=2012cb47&BillRate=0.005&CallUUID=2012cb47&Direction=outbound&From=15550100001"
    "&ParentAuthID=MA1&RequestUUID=9834029e&SessionStart=2024-10-25+14%3A13%3A37.779297&To=15550100002"
)
PLIVO_END = "&Event=Hangup&Duration=0&BillDuration=0&HangupSource=Callee"
EXOTEL = "CallSid=80bfbec2&Direction=outbound-api&From=%2B15550100002&To=&PhoneNumberSid=%2B15550100001"


def post(carrier: str, body: str) -> Webhook:
    request = HttpRequest("POST", "/status", SESSION, {"content-type": FORM}, body.encode())
    webhook = CARRIERS[carrier].carrier(None, public_url=PUBLIC, dev=True).parse(request)
    assert isinstance(webhook, Webhook)
    assert (webhook.own.session, webhook.own.mac) == ("s-1", "m")
    return webhook


@pytest.mark.parametrize(
    ("carrier", "body"),
    [
        ("twilio", TWILIO + "&CallStatus=in-progress"),
        ("telnyx", TELNYX + "&From=%2B15550100001&To=%2B15550100002&CallStatus=in-progress&Direction=outbound"),
        ("telnyx", TELNYX + "&From=%2B15550100001&To=%2B15550100002"),
        ("plivo", PLIVO + "&CallStatus=in-progress&Event=StartApp"),
    ],
)
def test_an_answered_call_asks_what_to_do(carrier: str, body: str) -> None:
    webhook = post(carrier, body)
    assert (webhook.kind, webhook.outcome, webhook.answered_by) == (Kind.VOICE, "", "")
    assert (webhook.from_number, webhook.to_number) == (OURS, CALLEE)


def test_an_answered_call_of_exotel_asks_by_get() -> None:
    query = "serviceHost=support.acme&CallSid=80bfbec2&CallFrom=%2B15550100002&CallTo=%2B15550100001"
    query += "&Direction=outbound-dial&From=%2B15550100002&To=%2B15550100009&CustomField=gw_session%3Ds-1%26gw_mac%3Dm"
    webhook = CARRIERS["exotel"].carrier(None, public_url=PUBLIC, dev=True).parse(get(query))
    assert isinstance(webhook, Webhook)
    assert (webhook.kind, webhook.direction) == (Kind.VOICE, "outbound")
    assert (webhook.from_number, webhook.to_number) == (OURS, CALLEE)
    assert (webhook.own.session, webhook.own.mac, webhook.own.service_host) == ("s-1", "m", "support.acme")


@pytest.mark.parametrize(
    ("carrier", "body", "status", "outcome"),
    [
        ("twilio", TWILIO + TWILIO_STATUS + "&CallStatus=initiated", "ringing", ""),
        ("twilio", TWILIO + TWILIO_STATUS + "&CallStatus=ringing", "ringing", ""),
        ("twilio", TWILIO + TWILIO_STATUS + "&CallStatus=in-progress", "answered", ""),
        ("twilio", TWILIO + TWILIO_STATUS + "&CallStatus=completed&CallDuration=7&Duration=1", "ended", "completed"),
        ("twilio", TWILIO + TWILIO_STATUS + "&CallStatus=busy&SipResponseCode=486", "ended", "busy"),
        ("twilio", TWILIO + TWILIO_STATUS + "&CallStatus=no-answer&SipResponseCode=487", "ended", "no-answer"),
        ("twilio", TWILIO + TWILIO_STATUS + "&CallStatus=failed&SipResponseCode=404", "ended", "failed"),
        ("twilio", TWILIO + TWILIO_STATUS + "&CallStatus=canceled", "ended", "canceled"),
        ("telnyx", TELNYX + TELNYX_STATUS + "&CallStatus=initiated", "ringing", ""),
        ("telnyx", TELNYX + TELNYX_STATUS + "&CallStatus=ringing", "ringing", ""),
        ("telnyx", TELNYX + TELNYX_STATUS + "&CallStatus=in-progress&Codec=PCMU", "answered", ""),
        ("telnyx", TELNYX + TELNYX_STATUS + TELNYX_END + "normal_clearing", "ended", "completed"),
        ("telnyx", TELNYX + TELNYX_STATUS + TELNYX_END + "time_limit", "ended", "completed"),
        ("telnyx", TELNYX + TELNYX_STATUS + TELNYX_END + "user_busy", "ended", "busy"),
        ("telnyx", TELNYX + TELNYX_STATUS + TELNYX_END + "call_rejected", "ended", "busy"),
        ("telnyx", TELNYX + TELNYX_STATUS + TELNYX_END + "timeout", "ended", "no-answer"),
        ("telnyx", TELNYX + TELNYX_STATUS + TELNYX_END + "no_answer", "ended", "no-answer"),
        ("telnyx", TELNYX + TELNYX_STATUS + TELNYX_END + "originator_cancel", "ended", "canceled"),
        ("telnyx", TELNYX + TELNYX_STATUS + TELNYX_END + "not_found", "ended", "failed"),
        ("telnyx", TELNYX + TELNYX_STATUS + "&CallStatus=no-answer", "ended", "no-answer"),
        ("telnyx", TELNYX + TELNYX_STATUS + "&CallStatus=failed&ErrorCode=10001", "ended", "failed"),
        ("plivo", PLIVO + "&CallStatus=ringing&Event=Ring&CallerName=%2B15550100001", "ringing", ""),
        ("plivo", PLIVO + PLIVO_END + "&CallStatus=completed&HangupCauseCode=4000", "ended", "completed"),
        ("plivo", PLIVO + PLIVO_END + "&CallStatus=completed&HangupCauseCode=4010", "ended", "completed"),
        ("plivo", PLIVO + PLIVO_END + "&CallStatus=busy&HangupCauseCode=3010", "ended", "busy"),
        ("plivo", PLIVO + PLIVO_END + "&CallStatus=timeout&HangupCauseCode=6000", "ended", "no-answer"),
        ("plivo", PLIVO + PLIVO_END + "&CallStatus=no-answer", "ended", "no-answer"),
        ("plivo", PLIVO + PLIVO_END + "&CallStatus=failed&HangupCauseCode=2000", "ended", "failed"),
        ("plivo", PLIVO + PLIVO_END + "&CallStatus=failed&HangupCauseCode=1000", "ended", "canceled"),
        ("exotel", EXOTEL + "&EventType=answered&Status=in-progress", "answered", ""),
        ("exotel", EXOTEL + "&EventType=terminal&Status=completed&ConversationDuration=7", "ended", "completed"),
        ("exotel", EXOTEL + "&EventType=terminal&Status=busy", "ended", "busy"),
        ("exotel", EXOTEL + "&EventType=terminal&Status=no-answer", "ended", "no-answer"),
        ("exotel", EXOTEL + "&EventType=terminal&Status=failed", "ended", "failed"),
    ],
)
def test_what_becomes_of_a_call(carrier: str, body: str, status: str, outcome: str) -> None:
    webhook = post(carrier, body)
    assert (webhook.kind, webhook.status, webhook.outcome) == (Kind.STATUS, status, outcome)
    assert (webhook.from_number, webhook.to_number) == (OURS, CALLEE)
    if "Direction" in dict(parse_qsl(body)):
        assert webhook.direction == "outbound"


@pytest.mark.parametrize(
    ("carrier", "body", "answered_by"),
    [
        ("twilio", "CallSid=CA1&AccountSid=AC1&AnsweredBy=human&MachineDetectionDuration=2500", "human"),
        ("twilio", "CallSid=CA1&AccountSid=AC1&AnsweredBy=machine_start&MachineDetectionDuration=2500", "machine"),
        ("twilio", "CallSid=CA1&AccountSid=AC1&AnsweredBy=machine_end_beep&MachineDetectionDuration=9", "machine"),
        ("twilio", "CallSid=CA1&AccountSid=AC1&AnsweredBy=fax&MachineDetectionDuration=2500", "machine"),
        ("twilio", "CallSid=CA1&AccountSid=AC1&AnsweredBy=unknown&MachineDetectionDuration=2500", ""),
        ("telnyx", TELNYX + "&AnsweredBy=human&MachineDetectionDuration=2500", "human"),
        ("telnyx", TELNYX + "&AnsweredBy=machine_start&MachineDetectionDuration=2500", "machine"),
        ("telnyx", TELNYX + "&AnsweredBy=not_sure&MachineDetectionDuration=2500", ""),
        ("plivo", PLIVO + "&Event=MachineDetection&CallStatus=in-progress&Machine=true", "machine"),
        ("plivo", PLIVO + "&Event=MachineDetection&CallStatus=in-progress&Machine=false", "human"),
    ],
)
def test_who_answered(carrier: str, body: str, answered_by: str) -> None:
    webhook = post(carrier, body)
    assert (webhook.kind, webhook.answered_by, webhook.outcome) == (Kind.STATUS, answered_by, "")
