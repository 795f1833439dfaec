"""Exotel's wire in the variants of its pages: everything may be text, and what goes out is numbered."""

from __future__ import annotations

import json

import pytest

from serializers.base import Cleared, Connected, Dtmf, Mark, Media, MediaFormat, Start, Stop
from serializers.call_data import ExotelCallData
from serializers.exotel import ExotelSerializer
from tests.kit.golden import golden_lines
from tests.serializers.support import message, opened, started, without

SLIN = MediaFormat("l16", 8000)


@pytest.mark.parametrize("variant", [1, 2, 3], ids=["audio/x-raw", "raw", "base64"])
def test_a_documented_call(variant):
    messages = golden_lines("exotel-07-ws-doc-variants.jsonl")
    serializer = ExotelSerializer()
    assert serializer.decode(messages[0]) == (Connected(),)
    (start,) = serializer.decode(messages[variant])
    call = ExotelCallData(
        stream_id="MZXXXX",
        call_id="CAXXXX",
        from_number="XXXXX",
        to_number="XXXXX",
        raw_from="XXXXX",
        raw_to="XXXXX",
        account_sid="ACXXXX",
        custom_parameters={"FirstName": "Jane"},
        body={"FirstName": "Jane"},
    )
    assert start == Start(call, "MZXXXX", "CAXXXX", "ACXXXX", SLIN, SLIN, {"FirstName": "Jane"})
    serializer.mark("my-label")
    heard, dtmf, mark, stop = (e for m in messages[4:] for e in serializer.decode(m.replace("AAAA", "AAA=")))
    assert (heard, dtmf, mark, stop) == (
        Media(b"\x00\x00"),
        Dtmf("5"),
        Mark("my-label", True),
        Stop("callended"),
    )


def test_commands_literally_and_numbered():
    serializer = opened("exotel")
    assert serializer.media(b"\x00" * 3) == (
        '{"event":"media","stream_sid":"e-00","sequence_number":"1",'
        '"media":{"chunk":"1","timestamp":"0","payload":"AAAA"}}'
    )
    assert serializer.mark("hello") == (
        '{"event":"mark","stream_sid":"e-00","sequence_number":"2","mark":{"name":"hello"}}'
    )
    assert serializer.clear() == '{"event":"clear","stream_sid":"e-00","sequence_number":"3"}'
    assert serializer.dtmf("1") is None


@pytest.mark.parametrize(("rate", "ms"), [("8000", 200), ("16000", 100), (24000, 66)])
def test_timestamps_are_milliseconds_of_audio_sent_before(rate, ms):
    serializer = ExotelSerializer()
    started(serializer, without("exotel", media_format={"encoding": "raw", "sample_rate": rate}))
    out = [json.loads(serializer.media(b"\x00" * 3200)) for _ in range(3)]
    assert [m["sequence_number"] for m in out] == ["1", "2", "3"]
    assert [m["media"]["chunk"] for m in out] == ["1", "2", "3"]
    assert [m["media"]["timestamp"] for m in out][:2] == ["0", str(ms)]


@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        ({"encoding": "base64", "sample_rate": "8000"}, SLIN),
        ({"encoding": "raw", "sample_rate": 16000}, MediaFormat("l16", 16000)),
        ({"encoding": "audio/x-raw", "sample_rate": "24000Hz"}, MediaFormat("l16", 24000)),
        ({"encoding": "slin"}, SLIN),
        ({"encoding": None, "sample_rate": None}, SLIN),
        ({}, SLIN),
        (None, SLIN),
        ({"encoding": "audio/x-mulaw", "sample_rate": "8000"}, MediaFormat("mulaw", 8000)),
        ({"encoding": "PCMA"}, MediaFormat("alaw", 8000)),
    ],
)
def test_the_word_for_the_encoding_says_little(announced, expected):
    start = started(ExotelSerializer(), without("exotel", media_format=announced))
    assert start.inbound == start.outbound == expected
    assert (start.call.encoding, start.call.sample_rate) == (expected.encoding, expected.sample_rate)


def test_without_a_rate_it_is_the_one_that_the_url_asked_for():
    asked = MediaFormat("l16", 16000)
    assert started(ExotelSerializer(negotiated=asked), without("exotel", "media_format")).inbound == asked


def test_national_numbers_are_indias_unless_said_otherwise():
    start = started(ExotelSerializer(), without("exotel"))
    assert (start.call["from"], start.call.raw_from) == ("+915550100009", "05550100009")
    assert (start.call["to"], start.call.raw_to) == ("+915550100010", "05550100010")
    value = without("exotel", **{"from": "020 7946 0000"})
    assert started(ExotelSerializer(region="GB"), value).call["from"] == "+442079460000"


def test_numbers_that_are_missing_are_empty_and_null_ones_none():
    start = started(ExotelSerializer(), without("exotel", "from", to=None))
    assert (start.call["from"], start.call["to"]) == ("", None)


@pytest.mark.parametrize(
    ("given", "kept", "body"),
    [
        ({"a": "b"}, {"a": "b"}, {"a": "b"}),
        ({"a": "b", "key": "secret", "gw_s": "x"}, {"a": "b"}, {"a": "b"}),
        ("a=b&c=d", "a=b&c=d", {"a": "b", "c": "d"}),
        ("a=b&key=secret", {"a": "b"}, {"a": "b"}),
        ("", "", {}),
        ("just text", "just text", {}),
        (None, None, {}),
        ([], {}, {}),
        (5, {}, {}),
        ([{"name": "a", "value": "b"}], {"a": "b"}, {"a": "b"}),
    ],
)
def test_custom_parameters_are_kept_without_ours(given, kept, body):
    start = started(ExotelSerializer(), without("exotel", custom_parameters=given))
    assert start.call["custom_parameters"] == kept
    assert start.call.body == body


def test_custom_parameters_that_are_missing_are_empty_text():
    start = started(ExotelSerializer(), without("exotel", "custom_parameters"))
    assert start.call["custom_parameters"] == ""
    assert start.custom == {}


@pytest.mark.parametrize("missing", ["stream_sid", "call_sid"])
def test_both_ids_are_needed(missing):
    (event,) = ExotelSerializer().decode(message(without("exotel", missing)))
    assert event.reason == "bad_start"


def test_the_account_may_be_missing():
    start = started(ExotelSerializer(), without("exotel", "account_sid"))
    assert (start.account_id, start.call["account_sid"]) == ("", None)


def test_clear_may_come_from_exotel():
    assert opened("exotel").decode('{"event":"clear","stream_sid":"e-00"}') == (Cleared(),)


def test_wire():
    wire = ExotelSerializer.wire
    assert (wire.chunk, wire.chunk_min) == (320, 3_200)
    assert wire.chunk_min % wire.chunk == 0
    assert wire.silence
