"""Twilio against captured messages, its signatures against Twilio's own validator."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from twilio.request_validator import RequestValidator

from gateway.simulator.carrier import Clear, Fatal, Mark, Play, StreamSpec
from gateway.simulator.twilio import SimulatedTwilio, TwilioWire

from .plans import TWILIO, plan

# Captured; every id is fictional.
WEBHOOK = (
    "Called=%2B15550100000&ToState=KS&CallerCountry=UG&Direction=inbound&CallerState=&ToZip="
    "&CallSid=CAe181f3910a272cf7106587776d9d4f6b&To=%2B15550100000&CallerZip=&ToCountry=US&ApiVersion=2010-04-01"
    "&CalledZip=&CalledCity=&CallStatus=ringing&From=%2B155501000010&AccountSid=AC753e92f9dcc815f84a51038047b6d39a"
    "&CalledCountry=US&CallerCity=&Caller=%2B155501000010&FromCountry=UG&ToCity=&FromCity=&CalledState=KS&FromZip="
    "&FromState="
)
START = (
    '{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC8607e137928e86ec5c2474be65cfeaf6",'
    '"streamSid":"MZacec7f8efbe3e3434b13cc42a3c25979","callSid":"CAe535bdfbcd421a5b7be86f24f7de49b2",'
    '"tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},'
    '"customParameters":{}},"streamSid":"MZacec7f8efbe3e3434b13cc42a3c25979"}'
)
MEDIA = (
    '{"event":"media","sequenceNumber":"2","media":{"track":"inbound","chunk":"1","timestamp":"155",'
    '"payload":"f39/"},"streamSid":"MZacec7f8efbe3e3434b13cc42a3c25979"}'
)
STOP = (
    '{"event":"stop","sequenceNumber":"378","streamSid":"MZacec7f8efbe3e3434b13cc42a3c25979",'
    '"stop":{"accountSid":"AC8607e137928e86ec5c2474be65cfeaf6","callSid":"CAe535bdfbcd421a5b7be86f24f7de49b2"}}'
)
STREAM_SID = "MZacec7f8efbe3e3434b13cc42a3c25979"


def carrier(**more: Any) -> SimulatedTwilio:
    carrier = SimulatedTwilio(plan("twilio", **more))
    carrier.call_id = "CAe535bdfbcd421a5b7be86f24f7de49b2"
    return carrier


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> TwilioWire:
    monkeypatch.setattr("gateway.simulator.twilio.secrets.token_hex", lambda _: STREAM_SID[2:])
    return TwilioWire(carrier(), StreamSpec("wss://voice.example.com/ws"))


def test_the_messages_are_the_captured_ones(wire: TwilioWire) -> None:
    assert wire.connected() == '{"event":"connected","protocol":"Call","version":"1.0.0"}'
    assert wire.start() == START
    assert wire.media(0, b"f39/").decode() == MEDIA
    wire.sequence = 377
    assert wire.stop("callended") == STOP


def test_dtmf_and_mark_are_the_documented_ones(wire: TwilioWire) -> None:
    assert json.loads(wire.dtmf("1")) == {
        "event": "dtmf",
        "streamSid": STREAM_SID,
        "sequenceNumber": "1",
        "dtmf": {"track": "inbound_track", "digit": "1"},
    }
    assert json.loads(wire.mark("m")) == {
        "event": "mark",
        "sequenceNumber": "2",
        "streamSid": STREAM_SID,
        "mark": {"name": "m"},
    }


def test_a_clear_returns_the_marks_it_overtook(wire: TwilioWire) -> None:
    assert [json.loads(message)["mark"]["name"] for message in wire.cleared(["a", "b"])] == ["a", "b"]


def test_the_sequence_counts_all_messages_and_the_chunk_only_media(wire: TwilioWire) -> None:
    wire.start()
    wire.media(0, b"AAAA")
    wire.mark("m")
    media = json.loads(wire.media(20, b"AAAA"))
    assert (media["sequenceNumber"], media["media"]["chunk"], media["media"]["timestamp"]) == ("4", "2", "175")


def test_numbers_become_ints_on_demand() -> None:
    wire = TwilioWire(carrier(faults={"numbers_as_ints": True}), StreamSpec("wss://h/ws"))
    assert json.loads(wire.start())["sequenceNumber"] == 1
    assert json.loads(wire.media(0, b""))["media"]["chunk"] == 1


def test_the_other_track_is_the_same_message(wire: TwilioWire) -> None:
    assert json.loads(wire.foreign_media(MEDIA.encode()))["media"]["track"] == "outbound"


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ({"event": "media", "streamSid": STREAM_SID, "media": {"payload": "AAAA"}}, Play(b"\0\0\0")),
        ({"event": "clear", "streamSid": STREAM_SID}, Clear()),
        ({"event": "mark", "streamSid": STREAM_SID, "mark": {"name": "m"}}, Mark("m")),
    ],
)
def test_media_clear_and_mark_are_understood(wire: TwilioWire, message: Any, meaning: object) -> None:
    assert wire.read(json.dumps(message)) == meaning
    assert wire.violations == []


@pytest.mark.parametrize(
    "message",
    [
        b"binary",
        "{",
        "[]",
        '{"event":"stop","streamSid":"%s"}',
        '{"event":"media","media":{"payload":"AAAA"}}',
        '{"event":"media","streamSid":"MZother","media":{"payload":"AAAA"}}',
        '{"event":"media","streamSid":"%s"}',
        '{"event":"media","streamSid":"%s","media":{"payload":"A"}}',
        '{"event":"media","streamSid":"%s","media":{"payload":7}}',
        '{"event":"mark","streamSid":"%s"}',
        '{"event":"mark","streamSid":"%s","mark":{"name":1}}',
    ],
)
def test_anything_else_is_31924_and_ends_the_stream(wire: TwilioWire, message: str | bytes) -> None:
    data = message.replace("%s", STREAM_SID) if isinstance(message, str) else message
    assert wire.read(data) == Fatal("31924")
    assert "31924" in wire.violations[0]


def test_a_wav_header_in_a_payload_is_told(wire: TwilioWire) -> None:
    payload = base64.b64encode(b"RIFF....WAVE").decode()
    wire.read(json.dumps({"event": "media", "streamSid": STREAM_SID, "media": {"payload": payload}}))
    assert "file header" in wire.violations[0]


# ------------------------------------------------------------------------------------------------------------ HTTP


def test_the_webhook_has_the_captured_fields_in_their_order() -> None:
    request = carrier().instructions("https://h/v", "POST", answered=False)
    captured = parse_qsl(WEBHOOK, keep_blank_values=True)
    assert [name for name, _ in request.fields] == [name for name, _ in captured]
    ours, theirs = dict(request.fields), dict(captured)
    empty = {name for name, value in theirs.items() if not value}
    assert {name for name, value in ours.items() if not value} == empty
    assert ours["CallStatus"] == theirs["CallStatus"]


def test_a_webhook_passes_twilios_own_validator() -> None:
    twilio = carrier(query={"serviceHost": "echo.demo"})
    request = twilio.instructions(twilio.voice_url, "POST", answered=False)
    signature = twilio.headers(request, b"")["X-Twilio-Signature"]
    assert request.url == "https://voice.example.com/webhooks/twilio/voice?serviceHost=echo.demo"
    assert RequestValidator("12345").validate(request.url, dict(request.fields), signature)
    assert not RequestValidator("12346").validate(request.url, dict(request.fields), signature)


def test_a_get_is_signed_with_its_whole_url() -> None:
    twilio = carrier()
    request = twilio.instructions("https://h/v?a=1", "GET", answered=True)
    signature = twilio.headers(request, b"")["X-Twilio-Signature"]
    assert RequestValidator("12345").validate(request.full_url, {}, signature)


def test_the_upgrade_is_signed_over_its_wss_url() -> None:
    # Derived with the SDK: wss, no parameters.
    headers = carrier().upgrade_headers("wss://mycompany.com/media")
    assert headers == {"x-twilio-signature": "okykUWKkAOgQseVjzERZh4soLeU="}


@pytest.mark.parametrize("more", [{"credentials": None}, {"faults": {"unsigned": True}}])
def test_unsigned_means_no_header(more: dict[str, Any]) -> None:
    twilio = carrier(**more)
    assert twilio.headers(twilio.instructions("https://h/v", "POST", answered=False), b"") == {}
    assert twilio.upgrade_headers("wss://h/ws") == {}


def test_a_bad_signature_is_of_another_secret_and_the_same_account() -> None:
    twilio = carrier(faults={"bad_signature": True})
    request = twilio.instructions("https://h/v", "POST", answered=False)
    signature = twilio.headers(request, b"")["X-Twilio-Signature"]
    assert dict(request.fields)["AccountSid"] == TWILIO.account_sid
    assert not RequestValidator("12345").validate(request.url, dict(request.fields), signature)


def test_an_outbound_call_is_in_progress_when_it_asks() -> None:
    fields = dict(carrier(direction="outbound").instructions("https://h/v", "POST", answered=False).fields)
    assert (fields["Direction"], fields["CallStatus"]) == ("outbound-api", "in-progress")


@pytest.mark.parametrize(
    ("outcome", "status"), [("completed", "completed"), ("busy", "busy"), ("failed: 12100", "failed")]
)
def test_the_end_is_told_to_the_status_callback(outcome: str, status: str) -> None:
    (request,) = carrier().ended(outcome, 61)
    fields = dict(request.fields)
    assert request.url == "https://voice.example.com/webhooks/twilio/status"
    assert (fields["CallStatus"], fields["CallDuration"], fields["Duration"]) == (status, "61", "2")


def test_stream_events_go_where_the_answer_said(wire: TwilioWire) -> None:
    spec = StreamSpec("wss://h/ws", {"statusCallback": "https://h/s", "name": "n"})
    request = carrier().stream_event(wire, spec, "error", "31924")
    assert request is not None
    fields = dict(request.fields)
    assert (fields["StreamEvent"], fields["StreamName"], fields["StreamError"]) == ("stream-error", "n", "31924")
    assert carrier().stream_event(wire, StreamSpec("wss://h/ws"), "started") is None


def test_a_dial_tells_its_result() -> None:
    assert dict(carrier().dial_fields("busy"))["DialCallStatus"] == "busy"
    assert dict(carrier(dial_seconds=3).dial_fields("completed"))["DialCallDuration"] == "3"
