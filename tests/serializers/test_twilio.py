"""Twilio's wire, as captured, and what is Twilio's alone."""

from __future__ import annotations

import base64
import json

import pytest

from serializers.base import Connected, Mark, Media, MediaFormat, Start, Stop, Wire
from serializers.call_data import CallData
from serializers.twilio import TwilioSerializer
from tests.kit.golden import golden_lines
from tests.serializers.support import message, opened, started, without

CALL = "CAe535bdfbcd421a5b7be86f24f7de49b2"
STREAM = "MZacec7f8efbe3e3434b13cc42a3c25979"
ACCOUNT = "AC8607e137928e86ec5c2474be65cfeaf6"
MULAW = MediaFormat("mulaw", 8000)


def test_a_captured_call():
    serializer = TwilioSerializer()
    names = ("02-ws-connected", "03-ws-start-noparams", "06-ws-media-first", "08-ws-stop")
    events = [e for name in names for m in golden_lines(f"twilio-{name}.json") for e in serializer.decode(m)]
    connected, start, heard, stop = events
    assert connected == Connected()
    call = CallData(call_id=CALL, stream_id=STREAM, carrier="twilio")
    assert start == Start(call, STREAM, CALL, ACCOUNT, inbound=MULAW, outbound=MULAW, custom={})
    assert serializer.started is start
    assert isinstance(heard, Media)
    assert len(heard.payload) == 160
    assert heard.payload[:4] == b"\x7f\x7f\x7f\xff"
    assert stop == Stop("")


def test_commands_literally():
    serializer = opened("twilio")
    assert serializer.media(b"\x7f\xff\xff") == ('{"event":"media","streamSid":"MZ00","media":{"payload":"f///"}}')
    assert serializer.clear() == '{"event":"clear","streamSid":"MZ00"}'
    assert serializer.mark("hello") == '{"event":"mark","streamSid":"MZ00","mark":{"name":"hello"}}'
    assert serializer.dtmf("1") is None


def test_the_same_mark_again_comes_back_as_itself():
    serializer = opened("twilio")
    serializer.mark("a")
    assert json.loads(serializer.mark("a"))["mark"] == {"name": "a#2"}
    echo = '{"event":"mark","sequenceNumber":"4","streamSid":"MZ00","mark":{"name":"a#2"}}'
    assert serializer.decode(echo) == (Mark("a", True),)


def test_clear_echoes_all_marks_and_none_of_them_was_played():
    serializer = opened("twilio")
    for name in ("a", "b"):
        serializer.mark(name)
    serializer.clear()
    assert serializer.flush_marks() == [Mark("a", False), Mark("b", False)]
    serializer.mark("a")
    echoes = [serializer.decode(f'{{"event":"mark","mark":{{"name":"{n}"}}}}') for n in ("a", "b", "a#2")]
    assert echoes == [(), (), (Mark("a", True),)]


def test_parameters_become_the_body_and_numbers_are_read_from_them():
    custom = {"from_number": "+1 555 0100000", "to_number": "client:alice", "plan": "gold", "gw_s": "x", "key": "k"}
    start = started(TwilioSerializer(), without("twilio", customParameters=custom))
    body = {"from_number": "+1 555 0100000", "to_number": "client:alice", "plan": "gold"}
    assert start.custom == custom
    assert start.call.body == body
    assert (start.call["from"], start.call.raw_from) == ("+15550100000", "+1 555 0100000")
    assert (start.call["to"], start.call.raw_to) == ("client:alice", "client:alice")


@pytest.mark.parametrize("custom", ["absent", None, {}, [], "", 5])
def test_without_parameters_there_are_no_numbers(custom):
    value = without("twilio", "customParameters") if custom == "absent" else without("twilio", customParameters=custom)
    start = started(TwilioSerializer(), value)
    assert (start.call.body, start.custom) == ({}, {})
    assert start.call["from"] is None
    assert start.call.raw_from == ""
    assert "from" not in start.call


def test_another_format_is_taken_as_announced():
    # Undocumented attributes of Twilio's own SDK ask for them: audioFormat and sampleRate.
    value = without("twilio", mediaFormat={"encoding": "audio/x-l16", "sampleRate": 16000})
    start = started(TwilioSerializer(negotiated=MULAW), value)
    assert start.inbound == start.outbound == MediaFormat("l16", 16000)


def test_without_a_format_it_is_what_was_asked_or_mulaw():
    value = without("twilio", "mediaFormat")
    assert started(TwilioSerializer(negotiated=MediaFormat("l16", 16000)), value).inbound == MediaFormat("l16", 16000)
    assert started(TwilioSerializer(), value).inbound == MULAW


def test_the_stream_id_may_be_at_either_level():
    value = without("twilio", "streamSid")
    value["stream_sid"] = "MZ77"
    assert started(TwilioSerializer(), value).stream_id == "MZ77"


@pytest.mark.parametrize("missing", ["streamSid", "callSid"])
def test_both_ids_are_needed(missing):
    (event,) = TwilioSerializer().decode(message(without("twilio", missing)))
    assert event.reason == "bad_start"


def test_20_ms_go_out_as_160_bytes():
    out = json.loads(opened("twilio").media(b"\xff" * 160))
    assert base64.b64decode(out["media"]["payload"]) == b"\xff" * 160


def test_wire():
    assert TwilioSerializer.wire == Wire()
