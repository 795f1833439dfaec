"""What each carrier's webhook says of who calls."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.carriers import CARRIERS
from gateway.carriers.base import Webhook
from tests.carriers.webhooks import PUBLIC, get, post

CALLS = {
    "twilio": {"CallSid": "CA1", "CallStatus": "ringing"},
    "telnyx": {"CallSid": "v3:1", "CallStatus": "ringing"},
    "plivo": {"CallUUID": "u", "CallStatus": "ringing", "Event": "StartApp"},
    "exotel": {"CallSid": "e1", "Direction": "incoming"},
}


def parse(carrier: str, **fields: str) -> Webhook:
    said: dict[str, Any] = {**CALLS[carrier], "From": "+15550100001", "To": "+15550100002", **fields}
    request = get(said) if carrier == "exotel" else post(said)
    webhook = CARRIERS[carrier].carrier(None, public_url=PUBLIC, dev=True).parse(request)
    assert isinstance(webhook, Webhook)
    return webhook


@pytest.mark.parametrize(
    ("carrier", "field"),
    [
        ("twilio", "CallerName"),
        ("telnyx", "CallerName"),
        ("telnyx", "CallerIdName"),
        ("telnyx", "CallerId"),
        ("plivo", "CallerName"),
        ("exotel", "CallerName"),
    ],
)
def test_name(carrier: str, field: str) -> None:
    assert parse(carrier, **{field: "ACME INC"}).caller_name == "ACME INC"


@pytest.mark.parametrize(
    ("carrier", "field"),
    [("twilio", "CallerName"), ("telnyx", "CallerIdName"), ("telnyx", "CallerId"), ("plivo", "CallerName")],
)
@pytest.mark.parametrize("number", ["+15550100001", "15550100001", "(555) 010-0001"])
def test_a_number_in_the_place_of_a_name_is_none(carrier: str, field: str, number: str) -> None:
    assert parse(carrier, **{field: number}).caller_name == ""


@pytest.mark.parametrize("carrier", CALLS)
def test_forwarded_from(carrier: str) -> None:
    assert parse(carrier, ForwardedFrom="+15550100009").forwarded_from == "+15550100009"
    assert parse(carrier).forwarded_from == ""


@pytest.mark.parametrize(
    ("carrier", "fields", "stir"),
    [
        ("twilio", {"StirVerstat": "TN-Validation-Passed-A"}, "A"),
        ("twilio", {"StirVerstat": "TN-Validation-Passed-B"}, "B"),
        ("twilio", {"StirVerstat": "TN-Validation-Passed-C-Diverted"}, "C"),
        ("twilio", {"StirVerstat": "TN-Validation-Passed"}, None),
        ("twilio", {"StirVerstat": "TN-Validation-Failed"}, "failed"),
        ("twilio", {"StirVerstat": "TN-Validation-Failed-B"}, "failed"),
        ("twilio", {"StirVerstat": "No-TN-Validation"}, None),
        ("twilio", {}, None),
        ("telnyx", {"ShakenStirAttestation": "A", "ShakenStirValidated": "true"}, "A"),
        ("telnyx", {"ShakenStirAttestation": "B"}, "B"),
        ("telnyx", {"ShakenStirAttestation": "C", "ShakenStirValidated": "false"}, "failed"),
        ("telnyx", {"ShakenStirAttestation": "", "ShakenStirValidated": "false"}, None),
        ("telnyx", {"StirVerstat": "TN-Validation-Passed"}, "A"),
        ("telnyx", {"StirVerstat": "TN-Validation-Passed-B"}, "B"),
        ("telnyx", {}, None),
        ("plivo", {"STIRAttestation": "A", "STIRVerification": "Verified"}, "A"),
        ("plivo", {"STIRVerification": "Verified"}, "A"),
        ("plivo", {"STIRAttestation": "B", "STIRVerification": "Not Verified"}, "B"),
        ("plivo", {"STIRVerification": "Not Verified"}, None),
        ("plivo", {"STIRAttestation": "Not Applicable", "STIRVerification": "Not Applicable"}, None),
        ("exotel", {}, None),
    ],
)
def test_stir(carrier: str, fields: dict[str, str], stir: str | None) -> None:
    assert parse(carrier, **fields).stir == stir


@pytest.mark.parametrize(
    ("carrier", "field", "name"),
    [
        ("twilio", "SipHeader_X-Campaign", "X-Campaign"),
        ("telnyx", "SipHeader_X-Campaign", "X-Campaign"),
        ("plivo", "SIP-H-To", "To"),
        ("plivo", "X-PH-Campaign", "X-PH-Campaign"),
    ],
)
def test_sip_headers(carrier: str, field: str, name: str) -> None:
    assert parse(carrier, **{field: "spring"}).sip_headers == {name: "spring"}


@pytest.mark.parametrize(
    ("carrier", "word"),
    [
        ("twilio", "outbound-api"),
        ("twilio", "outbound-dial"),
        ("telnyx", "outbound"),
        ("telnyx", "outgoing"),
        ("plivo", "outbound"),
        ("exotel", "outbound-dial"),
        ("exotel", "outbound-api"),
    ],
)
def test_direction(carrier: str, word: str) -> None:
    assert parse(carrier, Direction=word).direction == "outbound"
    assert parse(carrier).direction == "inbound"
