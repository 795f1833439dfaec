"""Plivo's wire, as documented and as captured, and what clones of it do."""

from __future__ import annotations

import json

import pytest

from serializers.base import Cleared, Dtmf, Failure, Mark, MediaFormat, Start, Stop
from serializers.call_data import CallData
from serializers.plivo import PlivoSerializer
from tests.kit.golden import golden_lines
from tests.serializers.support import media, message, opened, payloads, reasons, started, without

CALL = "af2aa167-43de-7645-55d5-a53ec32bf9dd"
STREAM = "d8df37bb-8491-8705-3abe-44fe6074fbfd"
MULAW = MediaFormat("mulaw", 8000)


def test_a_documented_call():
    serializer = PlivoSerializer()
    start_message, dtmf, played, cleared = golden_lines("plivo-07-ws-documented.jsonl")
    (start,) = serializer.decode(start_message)
    headers = {"userId": "12345", "sessionId": "abc-xyz"}
    call = CallData(stream_id=STREAM, call_id=CALL, carrier="plivo", body=headers)
    assert start == Start(call, STREAM, CALL, "MAXXXXXXXXXXXXXXXXXX", MULAW, MULAW, headers)
    assert serializer.decode(dtmf) == (Dtmf("5"),)
    serializer.mark("greeting-complete")
    assert serializer.decode(played) == (Mark("greeting-complete", True),)
    assert serializer.decode(cleared) == (Cleared(),)


def test_the_captured_older_form_with_strings_for_numbers():
    (older,) = golden_lines("plivo-08-ws-older-strings.jsonl")
    assert reasons(opened("plivo").decode(older)) == ["bad_base64"]  # the capture's payload was taken out
    assert payloads(opened("plivo").decode(older.replace("<base64>", "f///"))) == [b"\x7f\xff\xff"]


def test_commands_literally():
    serializer = opened("plivo")
    assert serializer.media(b"\x7f\xff\xff") == (
        '{"event":"playAudio","media":{"contentType":"audio/x-mulaw","sampleRate":8000,"payload":"f///"}}'
    )
    assert serializer.clear() == '{"event":"clearAudio","streamId":"p-00"}'
    assert serializer.mark("hello") == '{"event":"checkpoint","streamId":"p-00","name":"hello"}'
    assert serializer.dtmf("1234#") == '{"event":"sendDTMF","dtmf":"1234#"}'


@pytest.mark.parametrize(
    ("encoding", "rate", "content_type"),
    [
        ("audio/x-l16", 16000, "audio/x-l16"),
        ("audio/x-l16;rate=16000", 16000, "audio/x-l16"),
        ("audio/x-alaw", 8000, "audio/x-alaw"),
        ("audio/x-opus", 8000, "audio/x-opus"),
    ],
)
def test_what_we_play_is_in_the_streams_own_format(encoding, rate, content_type):
    serializer = PlivoSerializer(negotiated=MULAW)
    value = without("plivo", mediaFormat={"encoding": encoding, "sampleRate": rate})
    start = started(serializer, value)
    assert start.inbound == start.outbound
    out = json.loads(serializer.media(b"\x00" * 640))["media"]
    assert (out["contentType"], out["sampleRate"]) == (content_type, rate)


def test_without_a_format_it_is_what_was_asked():
    asked = MediaFormat("l16", 16000)
    assert started(PlivoSerializer(negotiated=asked), without("plivo", "mediaFormat")).inbound == asked
    assert started(PlivoSerializer(), without("plivo", "mediaFormat")).inbound == MULAW


@pytest.mark.parametrize(
    ("headers", "custom"),
    [
        ("userId=12345;sessionId=abc-xyz", {"userId": "12345", "sessionId": "abc-xyz"}),
        ("userId=12345,sessionId=abc-xyz", {"userId": "12345", "sessionId": "abc-xyz"}),
        ("{}", {}),
        ("", {}),
        (None, {}),
        ("{X-PH-key1: value1}", {"key1": "value1"}),
        ('{"X-PH-key1": "value1"}', {"key1": "value1"}),
        ({"key1": "value1"}, {"key1": "value1"}),
        ("no pairs at all", {}),
        (5, {}),
    ],
)
@pytest.mark.parametrize("level", ["top", "start"])
def test_extra_headers_in_every_shape(headers, custom, level):
    value = without("plivo", "extra_headers")
    (value if level == "top" else value["start"])["extra_headers"] = headers
    start = started(PlivoSerializer(), value)
    assert start.custom == custom
    assert start.call.body == custom


def test_extra_headers_of_ours_do_not_reach_the_body_and_numbers_do():
    value = without("plivo")
    value["extra_headers"] = "key=k;gw_s=x;from_number=15550100070;plan=gold"
    call = started(PlivoSerializer(), value).call
    assert call.body == {"from_number": "15550100070", "plan": "gold"}
    assert (call["from"], call.raw_from, call["to"]) == ("+15550100070", "15550100070", None)


# Clones


def test_a_clone_whose_messages_name_no_stream():
    serializer = PlivoSerializer()
    start = started(serializer, without("plivo", "streamId"))
    assert (start.stream_id, start.call.stream_id) == ("", None)
    serializer.mark("a")
    assert serializer.decode('{"event":"playedStream","name":"a"}') == (Mark("a", True),)


def test_a_clone_that_sends_media_before_start():
    serializer = PlivoSerializer()
    assert serializer.decode(media(b"first", chunk="1")) == ()
    start, *heard = serializer.decode(message(without("plivo")))
    assert isinstance(start, Start)
    assert payloads(heard) == [b"first"]


def test_a_clone_that_says_call_uuid():
    value = without("plivo", "callId", callUUID="c-77")
    assert started(PlivoSerializer(), value).call_id == "c-77"


def test_the_call_id_is_needed():
    (event,) = PlivoSerializer().decode(message(without("plivo", "callId")))
    assert event.reason == "bad_start"


# Marks, digits, ends


def test_checkpoints_dropped_by_a_clear_are_reported_by_us():
    serializer = opened("plivo")
    serializer.mark("a")
    serializer.clear()
    assert serializer.flush_marks() == [Mark("a", False)]
    assert json.loads(serializer.mark("a"))["name"] == "a#2"
    assert serializer.decode('{"event":"playedStream","streamId":"p-00","name":"a#2"}') == (Mark("a", True),)


def test_played_is_another_word_for_played_stream():
    serializer = opened("plivo")
    serializer.mark("a")
    assert serializer.decode('{"event":"played","name":"a"}') == (Mark("a", True),)
    assert reasons(serializer.decode('{"event":"playedStream"}')) == ["bad_mark"]


@pytest.mark.parametrize(
    ("digits", "sent"), [("12ab", "12AB"), ("1 2-3", "123"), ('1"}', "1"), ("*#", "*#"), ("", None), ("x", None)]
)
def test_digits_sent_are_keys_only(digits, sent):
    out = opened("plivo").dtmf(digits)
    assert (json.loads(out)["dtmf"] if out else None) == sent


@pytest.mark.parametrize(
    "members", [{"reason": "invalid_content_type"}, {"playFailed": {"reason": "invalid_content_type"}}]
)
def test_play_failed_is_a_failure(members):
    events = opened("plivo").decode(message({"event": "playFailed", **members}))
    assert events == (Failure("playFailed", "invalid_content_type"),)


@pytest.mark.parametrize("event", ["stop", "end"])
def test_both_words_for_the_end(event):
    assert opened("plivo").decode(message({"event": event, "streamId": "p-00"})) == (Stop(""),)


def test_numbers_that_our_answer_wrote_as_letters_and_digits_are_read():
    value = without("plivo", "extra_headers")
    value["extra_headers"] = "from=15550100070,to=15550100000,plan=gold"
    [start] = PlivoSerializer().decode(json.dumps(value))
    assert (start.call.from_number, start.call.to_number) == ("+15550100070", "+15550100000")
