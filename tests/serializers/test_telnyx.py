"""Telnyx' wire, as documented, and what is Telnyx' alone: order, tracks, two codecs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.base import Connected, Dtmf, Mark, MediaFormat, Start, Stop
from serializers.call_data import TelnyxCallData
from serializers.telnyx import TelnyxSerializer
from tests.kit.golden import golden_lines
from tests.serializers.support import (
    STARTS,
    media,
    message,
    opened,
    payloads,
    reasons,
    started,
    without,
)

CALL = "v2:ecebaaccbca5680e8a5c1816f7680917c9f94256-358eed2c26"
STREAM = "79e2d95b-1dda-364e-de91-d8f95a97f662"
MULAW = MediaFormat("mulaw", 8000)


def test_a_documented_call():
    serializer = TelnyxSerializer()
    connected, mark, dtmf, stop = golden_lines("telnyx-07-ws-control-doc.jsonl")
    (start_message,) = golden_lines("telnyx-06-ws-start-doc.json")
    assert serializer.decode(connected) == (Connected(),)
    (start,) = serializer.decode(start_message)
    call = TelnyxCallData(
        stream_id=STREAM,
        call_id=CALL,
        from_number="+15550100005",
        to_number="+15550100006",
        raw_from="+15550100005",
        raw_to="+15550100006",
        outbound_encoding="PCMU",
    )
    account = "b34166f2-7846-1262-7cde-760c40e59e92"
    assert start == Start(call, STREAM, CALL, account, inbound=MULAW, outbound=MULAW, custom={})
    serializer.mark("some_mark_name")
    assert serializer.decode(mark) == (Mark("some_mark_name", True),)
    assert serializer.decode(dtmf) == (Dtmf("1"),)
    assert list(serializer.decode(stop)) == [Stop("")]


def test_commands_literally_and_without_a_stream_id():
    serializer = opened("telnyx")
    assert serializer.media(b"\x7f\xff\xff") == '{"event":"media","media":{"payload":"f///"}}'
    assert serializer.clear() == '{"event":"clear"}'
    assert serializer.mark("hello") == '{"event":"mark","mark":{"name":"hello"}}'
    assert serializer.dtmf("1") is None


def announcing(encoding, rate=8000, **options):
    value = without("telnyx", media_format={"encoding": encoding, "sample_rate": rate, "channels": 1})
    serializer = TelnyxSerializer(**options)
    return serializer, started(serializer, value)


def test_the_leg_speaks_its_codec_and_we_the_one_that_was_asked():
    _, start = announcing("PCMA", negotiated=MediaFormat("l16", 16000))
    assert start.inbound == MediaFormat("alaw", 8000)
    assert start.outbound == MediaFormat("l16", 16000)
    assert (start.call.encoding, start.call.outbound_encoding) == ("alaw", "PCMA")


def test_where_nothing_of_ours_asked_we_speak_pcmu():
    _, start = announcing("PCMA")
    assert start.outbound == MULAW


def test_an_unknown_codec_keeps_its_name():
    _, start = announcing("AMR-WB", 16000)
    assert start.inbound == MediaFormat("amr-wb", 16000)


def test_without_a_format_there_is_no_outbound_encoding():
    start = started(TelnyxSerializer(), without("telnyx", "media_format"))
    assert start.inbound == MULAW
    assert start.call["outbound_encoding"] is None


@pytest.mark.parametrize("name", ["custom_parameters", "customParameters"])
@pytest.mark.parametrize(
    "value", [{"plan": "gold", "gw_s": "x"}, [{"name": "plan", "value": "gold"}, {"name": "gw_s", "value": "x"}]]
)
def test_parameters_as_object_and_as_list(name, value):
    start = started(TelnyxSerializer(), without("telnyx", **{name: value}))
    assert start.custom == {"plan": "gold", "gw_s": "x"}
    assert start.call.body == {"plan": "gold"}


def test_numbers_that_are_missing_are_empty_and_null_ones_none():
    start = started(TelnyxSerializer(), without("telnyx", "from", to=None))
    assert (start.call["from"], start.call["to"]) == ("", None)


def test_the_call_id_is_needed_and_the_stream_id_is_not():
    (event,) = TelnyxSerializer().decode(message(without("telnyx", "call_control_id")))
    assert event.reason == "bad_start"
    start = started(TelnyxSerializer(), without("telnyx", "stream_id"))
    assert (start.stream_id, start.call.stream_id) == ("", None)


# Order


def frame(n):
    return bytes([n]) * 160


def test_media_are_put_in_order_with_the_clock_that_is_passed_in():
    serializer = opened("telnyx")
    heard = []
    for at, n in ((0.00, "1"), (0.02, "3"), (0.03, 2), (0.06, "5")):
        heard += payloads(serializer.decode(media(frame(int(n)), chunk=n), now=at))
    assert heard == [frame(1), frame(2), frame(3)]
    assert list(serializer.tick(0.119)) == []
    assert payloads(serializer.tick(0.121)) == [b"\xff" * 160, frame(5)]
    assert reasons(serializer.decode(media(frame(4), chunk="4"), now=0.13)) == ["late"]
    assert reasons(serializer.decode(media(frame(3), chunk="3"), now=0.13)) == ["duplicate"]


@pytest.mark.parametrize(
    ("encoding", "rate", "silence"),
    [("PCMU", 8000, b"\xff"), ("PCMA", 8000, b"\xd5"), ("L16", 16000, b"\x00"), ("G722", 8000, b"\x00")],
)
def test_silence_is_that_of_the_encoding(encoding, rate, silence):
    serializer, _ = announcing(encoding, rate)
    serializer.decode(media(frame(1), chunk=1), now=0.0)
    serializer.decode(media(frame(3), chunk=3), now=0.0)
    assert payloads(serializer.tick(1.0)) == [silence * 160, frame(3)]


@pytest.mark.parametrize("chunk", [None, "", "one", -1, "-1", 1.5e300, [], {}, "9" * 5000])
def test_a_chunk_without_a_sound_number_passes(chunk):
    serializer = opened("telnyx")
    serializer.decode(media(frame(1), chunk=1))
    assert payloads(serializer.decode(media(frame(9), chunk=chunk))) == [frame(9)]
    assert payloads(serializer.decode(media(frame(2), chunk=2))) == [frame(2)]


def test_what_is_held_comes_out_before_stop():
    serializer = opened("telnyx")
    serializer.decode(media(frame(1), chunk=1))
    serializer.decode(media(frame(3), chunk=3))
    events = serializer.decode('{"event":"stop","stop":{}}')
    assert payloads(events) == [b"\xff" * 160, frame(3)]
    assert events[-1] == Stop("")


def test_our_own_audio_echoed_back_is_dropped_and_ends_the_ordering():
    serializer = opened("telnyx")
    assert payloads(serializer.decode(media(frame(1), chunk=1))) == [frame(1)]
    # With both tracks the numbers may be shared: waiting for 2 and 4 would be silence every other frame.
    assert reasons(serializer.decode(media(frame(2), chunk=2, track="outbound"))) == ["foreign_track"]
    assert payloads(serializer.decode(media(frame(3), chunk=3))) == [frame(3)]


@given(st.permutations(range(4)))
def test_any_permutation_within_60_ms_is_undone(order):
    serializer = opened("telnyx")
    heard = []
    for start in range(1, 41, 4):
        for n in order:
            chunk, now = start + n, (start + 3) * 0.02
            heard += payloads(serializer.decode(media(frame(chunk), chunk=str(chunk)), now=now))
    assert heard == [frame(n) for n in range(1, 41)]


# L16


def test_l16_is_little_endian():
    l16 = MediaFormat("l16", 16000)
    serializer, _ = announcing("L16", 16000, negotiated=l16)
    assert payloads(serializer.decode(media(b"\x01\x02", chunk=1))) == [b"\x01\x02"]
    assert json.loads(serializer.media(b"\x01\x02"))["media"]["payload"] == "AQI="


def test_telnyx_wants_silence():
    assert TelnyxSerializer.wire.silence


def test_a_reconnect_is_a_new_socket_with_a_new_serializer():
    assert started(TelnyxSerializer(), STARTS["telnyx"]) == opened("telnyx").started
