"""Exotel against the captured query and the documented messages."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.simulator.carrier import Clear, Mark, Play, StreamSpec
from gateway.simulator.exotel import ExotelOptions, ExotelWire, SimulatedExotel

from .plans import plan

QUERY = (
    "CallSid=15200678a1c07e20405361494018fbd0&CallFrom=05550100009&CallTo=05550100010&Direction=outbound-dial"
    "&Created=Tue%2C+07+Jan+2025+15%3A51%3A06&DialWhomNumber=&HangupLatencyStartTimeExocc=&HangupLatencyStartTime="
    "&From=05550100009&To=05550100011&CustomField=custom-field-value&CurrentTime=2025-01-07+15%3A51%3A06"
)
START = json.loads(
    '{"event":"start","sequence_number":"1","stream_sid":"MZXXXX","start":{"stream_sid":"MZXXXX","call_sid":"CAXXXX",'
    '"account_sid":"ACXXXX","from":"XXXXX","to":"XXXXX","custom_parameters":{"FirstName":"Jane"},'
    '"media_format":{"encoding":"base64","sample_rate":"8000","bit_rate":"128kbps"}}}'
)
MEDIA = (
    '{"event":"media","sequence_number":"3","stream_sid":"MZXXXX","media":{"chunk":"1","timestamp":"100",'
    '"payload":"AAAA"}}'
)
DTMF = (
    '{"event":"dtmf","sequence_number":"4","stream_sid":"MZXXXX","dtmf":{"digit":"5","duration":"100"}}',
    '{"event":"mark","sequence_number":"5","stream_sid":"MZXXXX","mark":{"name":"my-label"}}',
    '{"event":"stop","sequence_number":"6","stream_sid":"MZXXXX","stop":{"call_sid":"CAXXXX","account_sid":"ACXXXX",'
    '"reason":"callended"}}',
)


def carrier(**more: Any) -> SimulatedExotel:
    more.setdefault("from_number", "+915550100009")
    carrier = SimulatedExotel(plan("exotel", **more))
    carrier.call_id = "CAXXXX"
    return carrier


def wire(url: str = "wss://h/ws/exotel/t?FirstName=Jane", **more: Any) -> ExotelWire:
    return ExotelWire(carrier(**more), StreamSpec(url))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> ExotelWire:
    exotel = carrier()
    monkeypatch.setattr("gateway.simulator.exotel.secrets.token_hex", lambda _: "MZXXXX")
    return ExotelWire(exotel, StreamSpec("wss://h/ws/exotel/t?FirstName=Jane"))


def test_the_messages_are_the_documented_ones(named: ExotelWire) -> None:
    assert named.connected() == '{"event":"connected"}'
    start = json.loads(named.start())
    start["start"]["from"] = start["start"]["to"] = "XXXXX"
    assert start == START
    named.sequence = 2
    assert named.media(100, b"AAAA").decode() == MEDIA
    assert (named.dtmf("5"), named.mark("my-label"), named.stop("callended")) == DTMF


@pytest.mark.parametrize(("query", "rate"), [("", 8000), ("?sample-rate=16000", 16000), ("?sample_rate=24000", 24000)])
def test_the_url_chooses_the_rate_and_it_is_no_parameter(query: str, rate: int) -> None:
    w = wire(f"wss://h/ws{query}")
    assert (w.inbound.rate, w.outbound.rate, w.violations) == (rate, rate, [])
    assert json.loads(w.start())["start"]["custom_parameters"] == {}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("wss://h/ws?a=1&b=2&c=3&d=4", "3 at most"),
        ("wss://h/ws?a=" + "x" * 260, "256"),
        ("wss://h/" + "x" * 600, "600"),
        ("wss://h/ws?sample-rate=44100", "sample-rate"),
    ],
)
def test_a_url_that_exotel_would_not_keep_is_told(url: str, said: str) -> None:
    assert said in wire(url).violations[0]


def media(size: int, sid: str) -> str:
    payload = base64.b64encode(bytes(size)).decode()
    return json.dumps({"event": "media", "stream_sid": sid, "media": {"payload": payload}})


@pytest.mark.parametrize("size", [3200, 6400, 99840])
def test_whole_chunks_are_played(size: int) -> None:
    w = wire()
    assert w.read(media(size, w.stream_id)) == Play(bytes(size))
    assert w.violations == []


@pytest.mark.parametrize(("size", "said"), [(320, "without gaps"), (3201, "multiple"), (100160, "without gaps")])
def test_other_chunks_are_played_and_told(size: int, said: str) -> None:
    w = wire()
    assert isinstance(w.read(media(size, w.stream_id)), Play)
    assert said in w.violations[0]


def test_clear_and_mark_are_understood(named: ExotelWire) -> None:
    assert named.read('{"event":"clear","stream_sid":"MZXXXX"}') == Clear()
    assert named.read('{"event":"mark","stream_sid":"MZXXXX","mark":{"name":"m"}}') == Mark("m")


@pytest.mark.parametrize(
    "message",
    [
        '{"event":"media","media":{"payload":"AAAA"}}',
        '{"event":"media","stream_sid":"MZXXXX"}',
        '{"event":"mark","stream_sid":"MZXXXX"}',
        '{"event":"stop","stream_sid":"MZXXXX"}',
        "]",
    ],
)
def test_the_rest_is_told(named: ExotelWire, message: str) -> None:
    assert named.read(message) is None
    assert len(named.violations) == 1


# ------------------------------------------------------------------------------------------------------------ HTTP


def test_the_request_has_the_captured_query() -> None:
    request = carrier(direction="outbound").instructions("https://h/v", "GET", answered=False)
    captured = [name for name, _ in parse_qsl(QUERY, keep_blank_values=True) if name != "CustomField"]
    ours = [name for name, _ in request.fields]
    assert ours[: len(captured)] == captured
    assert dict(request.fields)["Direction"] == "outbound-dial"
    assert dict(parse_qsl(urlsplit(request.full_url).query, keep_blank_values=True)) == dict(request.fields)


@pytest.mark.parametrize(
    ("number", "national"),
    [("+919494865411", "09494865411"), ("+15550100001", "+15550100001"), ("anonymous", "anonymous")],
)
def test_indian_numbers_are_national(number: str, national: str) -> None:
    assert carrier(from_number=number).from_number == national


def test_the_secret_is_the_basic_password_or_the_key() -> None:
    request = carrier().instructions("https://h/v", "GET", answered=False)
    basic = carrier().headers(request, b"")["Authorization"]
    assert base64.b64decode(basic.removeprefix("Basic ")) == b"exotel:open sesame"
    keyed = carrier(options=ExotelOptions(key_in_query=True), query={"serviceHost": "a.b"})
    assert keyed.headers(request, b"") == {}
    assert keyed.voice_url.endswith("/webhooks/exotel/voice?serviceHost=a.b&key=open+sesame")
    assert carrier(credentials=None).headers(request, b"") == {}


def test_user_information_in_the_stream_url_is_sent_as_basic() -> None:
    assert carrier().upgrade_headers("wss://k:t@h/ws") == {"Authorization": "Basic azp0"}
    assert carrier().upgrade_headers("wss://h/ws") == {}


def test_the_passthru_is_told_how_the_stream_ended() -> None:
    w = wire()
    fields = dict(carrier().stream_fields(w, w.spec, "gateway", 12.7, ""))
    assert fields["Stream[DisconnectedBy]"] == "bot"
    assert fields["Stream[Duration]"] == "12"


def test_the_end_is_multipart() -> None:
    (request,) = carrier().ended("completed", 3)
    assert request.multipart
    assert dict(request.fields)["Status"] == "completed"
    assert dict(carrier().dial_fields("busy")) == {"DialCallStatus": "busy"}
