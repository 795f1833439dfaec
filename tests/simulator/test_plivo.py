"""Plivo against captured and documented messages.

Its signatures against Plivo's own validator.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from plivo.utils.signature_v3 import validate_v3_signature

from gateway.errors import UnsupportedCodec
from gateway.simulator.carrier import Clear, Dtmf, Mark, Play, StreamSpec
from gateway.simulator.plivo import PlivoWire, SimulatedPlivo

from .plans import plan

WEBHOOK = (
    "ALegRequestUUID=2012cb47-ad3b-fff7-fbec-234a241d39fe&ALegUUID=2012cb47-ad3b-fff7-fbec-234a241d39fe"
    "&BillRate=0.005&CallStatus=in-progress&CallUUID=2012cb47-ad3b-fff7-fbec-234a241d39fe&CountryCode=IN"
    "&Direction=outbound&Event=StartApp&From=155501000070&ParentAuthID=MAD57ECB8CAC269549FE"
    "&RequestUUID=2012cb47-ad3b-fff7-fbec-234a241d39fe&RouteType=Domestic_Anchored&STIRAttestation=Not+Applicable"
    "&STIRVerification=Not+Applicable&SessionStart=2024-10-25+14%3A13%3A37.779297&To=155501000080"
)
CALL, STREAM = "af2aa167-43de-7645-55d5-a53ec32bf9dd", "d8df37bb-8491-8705-3abe-44fe6074fbfd"
START = (
    '{"event":"start","sequenceNumber":1,"start":{"callId":"af2aa167-43de-7645-55d5-a53ec32bf9dd",'
    '"streamId":"d8df37bb-8491-8705-3abe-44fe6074fbfd","accountId":"MAXXXXXXXXXXXXXXXXXX","tracks":["inbound"],'
    '"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000}},"extra_headers":"userId=12345;sessionId=abc-xyz"}'
)
DTMF = (
    '{"event":"dtmf","sequenceNumber":50,"streamId":"d8df37bb-8491-8705-3abe-44fe6074fbfd","dtmf":{"track":"inbound",'
    '"digit":"5","timestamp":"1705312250000"},"extra_headers":"userId=12345;sessionId=abc-xyz"}'
)
PLAYED = (
    '{"event":"playedStream","sequenceNumber":75,"streamId":"d8df37bb-8491-8705-3abe-44fe6074fbfd",'
    '"name":"greeting-complete"}'
)
CLEARED = '{"event":"clearedAudio","sequenceNumber":80,"streamId":"d8df37bb-8491-8705-3abe-44fe6074fbfd"}'

MULAW = {"contentType": "audio/x-mulaw;rate=8000", "extraHeaders": "userId=12345;sessionId=abc-xyz"}


def carrier(**more: Any) -> SimulatedPlivo:
    carrier = SimulatedPlivo(plan("plivo", **more))
    carrier.call_id = CALL
    return carrier


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> PlivoWire:
    plivo = carrier()
    monkeypatch.setattr("gateway.simulator.plivo.uuid.uuid4", lambda: STREAM)
    return PlivoWire(plivo, StreamSpec("wss://h/ws", MULAW))


def test_the_messages_are_the_documented_ones(wire: PlivoWire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.simulator.plivo.time.time", lambda: 1705312250.0)
    assert wire.connected() is None
    assert wire.start() == START
    wire.sequence = 49
    assert wire.dtmf("5") == DTMF
    wire.sequence = 74
    assert wire.mark("greeting-complete") == PLAYED
    wire.sequence = 79
    assert wire.cleared(["forgotten"]) == [CLEARED]
    assert wire.stop("callended") is None


def test_media_has_ints_and_the_wall_clock_as_text(wire: PlivoWire) -> None:
    wire.start()
    media = json.loads(wire.media(0, b"AAAA"))
    assert (media["sequenceNumber"], media["media"]["chunk"]) == (2, 1)
    assert media["media"]["timestamp"].isdigit()
    assert media["extra_headers"] == "userId=12345;sessionId=abc-xyz"


def test_the_older_form_has_strings() -> None:
    wire = PlivoWire(carrier(faults={"numbers_as_strings": True}), StreamSpec("wss://h/ws", MULAW))
    wire.start()
    assert json.loads(wire.media(0, b""))["sequenceNumber"] == "2"


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        (None, ("L16", 8000)),
        ("audio/x-l16;rate=16000", ("L16", 16000)),
        ("audio/x-mulaw;rate=8000", ("PCMU", 8000)),
    ],
)
def test_the_xml_chooses_the_codec(content_type: str | None, encoding: tuple[str, int]) -> None:
    attributes = {} if content_type is None else {"contentType": content_type}
    wire = PlivoWire(carrier(), StreamSpec("wss://h/ws", attributes))
    assert (wire.inbound.name, wire.inbound.rate) == encoding
    assert json.loads(wire.start())["start"]["mediaFormat"]["sampleRate"] == encoding[1]


def test_an_unknown_content_type_is_refused() -> None:
    with pytest.raises(UnsupportedCodec, match="invalid_content_type"):
        PlivoWire(carrier(), StreamSpec("wss://h/ws", {"contentType": "audio/mp3"}))


def audio(sound: bytes, **media: Any) -> str:
    content = {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": base64.b64encode(sound).decode()}
    return json.dumps({"event": "playAudio", "media": {**content, **media}})


def test_the_four_commands_are_understood(wire: PlivoWire) -> None:
    assert wire.read(audio(bytes(160))) == Play(bytes(160))
    assert wire.read(json.dumps({"event": "clearAudio", "streamId": STREAM})) == Clear()
    assert wire.read(json.dumps({"event": "checkpoint", "streamId": STREAM, "name": "c"})) == Mark("c")
    assert wire.read('{"event":"sendDTMF","dtmf":"12#"}') == Dtmf("12#")
    assert wire.violations == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (audio(bytes(160), contentType="audio/x-mulaw;rate=8000"), "contentType"),
        (audio(bytes(160), sampleRate="8000"), "sampleRate"),
        (audio(bytes(160), sampleRate=16000), "sampleRate"),
        (audio(bytes(160), payload="?"), "base64"),
        ('{"event":"playAudio"}', "base64"),
        (audio(bytes(60000)), "65536 at most"),
        ('{"event":"clearAudio","streamId":"other"}', "streamId"),
        ('{"event":"checkpoint"}', "checkpoint"),
        ('{"event":"sendDTMF"}', "sendDTMF"),
        ('{"event":"stop"}', "stop"),
        (b"", "binary"),
        ("nonsense", "JSON"),
    ],
)
def test_what_plivo_does_not_take_is_lost_and_told(wire: PlivoWire, message: str | bytes, said: str) -> None:
    assert wire.read(message) is None
    assert said in wire.violations[0]


def test_the_buffer_overflows_after_a_minute(wire: PlivoWire) -> None:
    for _ in range(12):
        wire.read(audio(bytes(40000)))
    assert wire.violations == []
    wire.read(audio(bytes(40000)))
    assert "buffer_overflow" in wire.violations[0]
    wire.read('{"event":"clearAudio"}')
    assert wire.read(audio(bytes(160))) == Play(bytes(160))


# ------------------------------------------------------------------------------------------------------------ HTTP


def test_an_answered_call_asks_with_the_captured_fields() -> None:
    request = carrier(direction="outbound").instructions("https://h/v", "POST", answered=False)
    captured = parse_qsl(WEBHOOK, keep_blank_values=True)
    assert [name for name, _ in request.fields] == [name for name, _ in captured]
    assert dict(request.fields)["CallStatus"] == "in-progress"


def test_an_inbound_call_rings_and_its_numbers_have_no_plus() -> None:
    fields = dict(carrier().instructions("https://h/v", "POST", answered=False).fields)
    assert (fields["CallStatus"], fields["Event"], fields["Direction"]) == ("ringing", "StartApp", "inbound")
    assert (fields["From"], fields["To"]) == ("15550100001", "15550100000")
    assert "ALegUUID" not in fields
    assert carrier(from_number="sip:a@b").from_number == "sip:a@b"


@pytest.mark.parametrize("url", ["https://h/v", "https://h:8443/v?b=2&a=1", "https://h/v?x="])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_webhook_passes_plivos_own_validator(url: str, method: str) -> None:
    plivo = carrier()
    request = plivo.instructions(url, method, answered=False)
    headers = plivo.headers(request, b"")
    form = dict(request.fields) if method == "POST" else {}
    nonce, signature = headers["X-Plivo-Signature-V3-Nonce"], headers["X-Plivo-Signature-V3"]
    assert validate_v3_signature(method, request.full_url, nonce, "ABCDE", signature, form)
    assert not validate_v3_signature(method, request.full_url, nonce, "ABCDF", signature, form)


def test_the_upgrade_is_signed_as_a_get_of_its_http_url() -> None:
    headers = carrier().upgrade_headers("wss://h/ws/plivo/t?a=1")
    nonce, signature = headers["X-Plivo-Signature-V3-Nonce"], headers["X-Plivo-Signature-V3"]
    assert validate_v3_signature("GET", "http://h/ws/plivo/t?a=1", nonce, "ABCDE", signature)


def test_unsigned_means_no_headers() -> None:
    plivo = carrier(credentials=None)
    assert plivo.headers(plivo.instructions("https://h/v", "POST", answered=True), b"") == {}


def test_the_hangup_url_is_told_the_cause() -> None:
    (request,) = carrier().ended("completed", 61)
    fields = dict(request.fields)
    assert (fields["Event"], fields["HangupCauseCode"], fields["BillDuration"]) == ("Hangup", "4000", "120")
    (refused,) = carrier().ended("busy", 0)
    assert dict(refused.fields)["AnswerTime"] == ""


def test_stream_events_and_dial_results_have_plivos_names(wire: PlivoWire) -> None:
    spec = StreamSpec("wss://h/ws", {"statusCallbackUrl": "https://h/s"})
    request = carrier().stream_event(wire, spec, "error", "connection_failed")
    assert request is not None
    fields = dict(request.fields)
    assert (fields["Event"], fields["StatusReason"]) == ("DroppedStream", "connection_failed")
    assert carrier().stream_event(wire, StreamSpec("wss://h/ws"), "started") is None
    assert dict(carrier().dial_fields("busy"))["DialStatus"] == "busy"
