"""What all carriers' streams share: the ways a handshake comes, the ways it should not, and totality."""

from __future__ import annotations

import copy
import json
from typing import get_args

import pytest

from serializers.base import Connected, Dtmf, Event, Failure, Mark, Rejected, Start, Stop
from serializers.stream import MAX_EARLY, MAX_EARLY_BYTES, MAX_MESSAGE
from tests.serializers.support import CARRIERS, SERIALIZERS, STARTS, media, members, message, opened, payloads, reasons

CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
EVENTS = get_args(Event)

every_carrier = pytest.mark.parametrize("carrier", CARRIERS)


def kinds(serializer, *messages):
    return [type(event) for m in messages for event in serializer.decode(m)]


# Handshakes


@every_carrier
@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], []),
        ([CONNECTED], [Connected]),
        ([CONNECTED, CONNECTED], [Connected, Connected]),
        ([CONNECTED, '{"event":"hello"}', "not json"], [Connected, Rejected, Rejected]),
    ],
    ids=["start first", "start second", "connected twice", "start fourth"],
)
def test_start_may_come_at_any_place(carrier, before, expected):
    serializer = SERIALIZERS[carrier]()
    assert kinds(serializer, *before, message(STARTS[carrier])) == [*expected, Start]
    assert serializer.started is not None


@every_carrier
@pytest.mark.parametrize("rename", [str.lower, str.upper], ids=["lower", "upper"])
def test_the_case_of_names_is_not_looked_at(carrier, rename):
    start = copy.deepcopy(STARTS[carrier])
    start["start"] = {rename(name): value for name, value in start["start"].items()}
    (event,) = SERIALIZERS[carrier]().decode(message(start))
    assert event == opened(carrier).started


def snake(name):
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


@every_carrier
@pytest.mark.parametrize("rename", [snake, camel])
def test_snake_and_camel_case_are_read_at_every_level(carrier, rename):
    def renamed(value):
        if isinstance(value, dict):
            return {rename(k): renamed(v) for k, v in value.items()}
        return value

    (event,) = SERIALIZERS[carrier]().decode(message(renamed(STARTS[carrier])))
    assert event == opened(carrier).started


@every_carrier
def test_numbers_and_text_are_one(carrier):
    def as_text(value):
        if isinstance(value, dict):
            return {k: as_text(v) for k, v in value.items()}
        return str(value) if isinstance(value, int) else value

    (event,) = SERIALIZERS[carrier]().decode(message(as_text(STARTS[carrier])))
    assert event == opened(carrier).started


@pytest.mark.parametrize("carrier", [name for name in CARRIERS if name != "twilio"])  # whose ids begin with CA
def test_ids_may_be_numbers(carrier):
    start = copy.deepcopy(STARTS[carrier])
    for name in ("call_control_id", "callId", "call_sid"):
        if name in start["start"]:
            start["start"][name] = 12345
    (event,) = SERIALIZERS[carrier]().decode(message(start))
    assert (event.call_id, event.call.call_id) == ("12345", "12345")


@every_carrier
def test_bytes_are_read_as_text_is(carrier):
    (event,) = SERIALIZERS[carrier]().decode(message(STARTS[carrier]).encode())
    assert event == opened(carrier).started


@pytest.mark.parametrize(
    ("carrier", "path"), [(c, p) for c in CARRIERS for p in members(STARTS[c])], ids=lambda x: str(x)
)
@pytest.mark.parametrize("value", [None, [], {}, [{}], "", 0, True, 1.5, "missing"], ids=repr)
def test_any_member_may_be_missing_null_or_of_another_type(carrier, path, value):
    start = copy.deepcopy(STARTS[carrier])
    owner = start
    for name in path[:-1]:
        owner = owner[name]
    if value == "missing":
        del owner[path[-1]]
    else:
        owner[path[-1]] = value
    serializer = SERIALIZERS[carrier]()
    (event,) = serializer.decode(message(start))
    assert isinstance(event, (Start, Rejected))
    if isinstance(event, Start):
        json.dumps(event.call.wire())
        assert serializer.media(b"\x00" * 320)
    # A second, sound one is understood, or refused because the first was.
    (again,) = serializer.decode(message(STARTS[carrier]))
    assert isinstance(again, Start) != isinstance(event, Start)


@every_carrier
@pytest.mark.parametrize("start", [None, {}, [], "start", 5])
def test_without_ids_there_is_no_start(carrier, start):
    serializer = SERIALIZERS[carrier]()
    assert reasons(serializer.decode(message({"event": "start", "start": start}))) == ["bad_start"]
    assert serializer.started is None


@every_carrier
def test_a_second_start_is_rejected_and_changes_nothing(carrier):
    serializer = opened(carrier)
    first = serializer.started
    other = json.loads(message(STARTS[carrier]).replace("00", "99"))
    for again in (STARTS[carrier], other):
        assert reasons(serializer.decode(message(again))) == ["second_start"]
    assert serializer.started is first


@every_carrier
def test_an_announced_codec_wins_over_what_was_asked_for_what_we_receive(carrier):
    start = message(STARTS[carrier]).replace("audio/x-mulaw", "PCMA").replace("PCMU", "PCMA")
    (event,) = SERIALIZERS[carrier]().decode(start.replace('"raw"', '"PCMA"'))
    assert (event.inbound.encoding, event.call.encoding) == ("alaw", "alaw")


@every_carrier
def test_odd_audio_of_16_bit_is_rejected(carrier):
    start = message(STARTS[carrier]).replace("audio/x-mulaw", "L16").replace("PCMU", "L16")
    serializer = SERIALIZERS[carrier]()
    serializer.decode(start)
    assert reasons(serializer.decode(media(b"\x00" * 321, chunk=1))) == ["bad_media"]
    assert payloads(serializer.decode(media(b"\x00" * 320, chunk=1))) == [b"\x00" * 320]


# Media before start (clones of Plivo send it)


@every_carrier
def test_media_before_start_are_kept_and_lose_nothing(carrier):
    serializer = SERIALIZERS[carrier]()
    frames = [bytes([n]) * 160 for n in range(1, 6)]
    for n, frame in enumerate(frames, 1):
        assert serializer.decode(media(frame, chunk=n)) == ()
    start, *heard = serializer.decode(message(STARTS[carrier]))
    assert isinstance(start, Start)
    assert payloads(heard) == frames
    assert payloads(serializer.decode(media(b"xx", chunk=6))) == [b"xx"]


@every_carrier
def test_media_before_start_are_bounded(carrier):
    many = SERIALIZERS[carrier]()
    for n in range(1, MAX_EARLY + 1):
        assert many.decode(media(b"\x01\x01", chunk=n)) == ()
    assert reasons(many.decode(media(b"\x01\x01", chunk=MAX_EARLY + 1))) == ["early_media"]
    assert len(payloads(many.decode(message(STARTS[carrier])))) == MAX_EARLY

    large = SERIALIZERS[carrier]()
    assert large.decode(media(bytes(MAX_EARLY_BYTES), chunk=1)) == ()
    assert reasons(large.decode(media(b"\x01\x01", chunk=2))) == ["early_media"]


def test_media_before_start_that_end_within_a_sample_are_left_out():
    serializer = SERIALIZERS["exotel"]()
    assert serializer.decode(media(b"odd")) == ()
    assert payloads(serializer.decode(message(STARTS["exotel"]))) == []


# What is no message of the carrier's


@every_carrier
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("", "not_json"),
        (b"", "not_json"),
        ("{", "not_json"),
        ("NaN", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b'{"event":"\xc3\x28"}', "not_json"),
        ('"\\ud800"', "not_json"),
        ("[" * 5000 + "]" * 5000, "not_json"),
        ("null", "not_object"),
        ("[]", "not_object"),
        ('[{"event":"media"}]', "not_object"),
        ('"media"', "not_object"),
        ("5", "not_object"),
        ("{}", "unknown_event"),
        ('{"event":null}', "unknown_event"),
        ('{"event":{"event":"media"}}', "unknown_event"),
        ('{"event":["media"]}', "unknown_event"),
        ('{"event":5}', "unknown_event"),
        ('{"event":""}', "unknown_event"),
        ('{"event":"Media"}', "unknown_event"),
        ('{"event":"hello"}', "unknown_event"),
        ('{"event":"media"}', "bad_media"),
        ('{"event":"media","media":null}', "bad_media"),
        ('{"event":"media","media":[]}', "bad_media"),
        ('{"event":"media","media":"x"}', "bad_media"),
        ('{"event":"media","media":{}}', "bad_media"),
        ('{"event":"media","media":{"payload":null}}', "bad_media"),
        ('{"event":"media","media":{"payload":5}}', "bad_media"),
        ('{"event":"media","media":{"payload":[]}}', "bad_media"),
        ('{"event":"media","media":{"payload":""}}', "bad_media"),
        ('{"event":"media","media":{"payload":"<base64>"}}', "bad_base64"),
        ('{"event":"media","media":{"payload":"AAA"}}', "bad_base64"),
        ('{"event":"media","media":{"payload":"AA A"}}', "bad_base64"),
        ('{"event":"media","media":{"payload":"AAA=AAAA"}}', "bad_base64"),
        ('{"event":"media","media":{"payload":"-_-_"}}', "bad_base64"),
        ('{"event":"media","media":{"payload":"é"}}', "bad_base64"),
        ('{"event":"media","media":{"track":"outbound","payload":"AAAA"}}', "foreign_track"),
        ('{"event":"media","media":{"track":"outbound_track","payload":"AAAA"}}', "foreign_track"),
        ('{"event":"dtmf"}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":null}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":[]}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":{"digit":null}}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":{"digit":""}}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":{"digit":"12"}}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":{"digit":"E"}}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":{"digit":12}}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":{"digit":true}}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":{"digit":"٣"}}', "bad_dtmf"),
        ('{"event":"dtmf","dtmf":{"track":"outbound_track","digit":"1"}}', "foreign_track"),
        ('{"event":"mark"}', "bad_mark"),
        ('{"event":"mark","mark":null}', "bad_mark"),
        ('{"event":"mark","mark":{"name":"never sent"}}', "bad_mark"),
        ('{"event":"start"}', "second_start"),
    ],
)
def test_a_bad_message_is_rejected_with_its_reason_and_the_call_goes_on(carrier, sent, reason):
    serializer = opened(carrier)
    assert reasons(serializer.decode(sent)) == [reason]
    assert payloads(serializer.decode(media(b"good", chunk=1))) == [b"good"]


@every_carrier
@pytest.mark.parametrize("sent", [b"\x00\x01", message(STARTS["twilio"]).encode(), b"", "text"])
def test_binary_messages_are_rejected(carrier, sent):
    serializer = SERIALIZERS[carrier]()
    assert reasons(serializer.decode(sent, text=False)) == ["binary"]
    assert serializer.started is None


@every_carrier
@pytest.mark.parametrize("sent", ["x" * 10_000_000, b"[" * 10_000_000])
def test_10_mb_are_not_even_parsed(carrier, sent):
    assert reasons(opened(carrier).decode(sent)) == ["oversized"]
    assert reasons(opened(carrier).decode(" " * (MAX_MESSAGE - 2) + "{}")) == ["unknown_event"]


# Sound messages that all understand


@every_carrier
@pytest.mark.parametrize("track", ["inbound", "inbound_track", "Inbound", "", None, 5, [], "caller"])
def test_any_track_but_outbound_is_the_callers(carrier, track):
    assert payloads(opened(carrier).decode(media(b"good", chunk=1, track=track))) == [b"good"]


@every_carrier
@pytest.mark.parametrize(
    ("dtmf", "digit"),
    [
        ({"digit": "1"}, "1"),
        ({"digit": 0}, "0"),
        ({"digit": "*", "track": "inbound_track"}, "*"),
        ({"digit": "#", "duration": "100"}, "#"),
        ({"Digit": "d"}, "D"),
    ],
)
def test_dtmf(carrier, dtmf, digit):
    assert opened(carrier).decode(message({"event": "dtmf", "dtmf": dtmf})) == (Dtmf(digit),)


@every_carrier
@pytest.mark.parametrize("where", [{"mark": {"name": "a"}}, {"mark": {"Name": "a"}}, {"name": "a"}])
def test_a_mark_comes_back(carrier, where):
    serializer = opened(carrier)
    serializer.mark("a")
    assert serializer.decode(message({"event": "mark", **where})) == (Mark("a", True),)


@every_carrier
def test_after_a_clear_an_echo_means_nothing(carrier):
    serializer = opened(carrier)
    serializer.mark("a")
    serializer.clear()
    assert serializer.flush_marks() == [Mark("a", False)]
    assert serializer.decode('{"event":"mark","mark":{"name":"a"}}') == ()


@every_carrier
@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ({}, ""),
        ({"stop": None}, ""),
        ({"stop": []}, ""),
        ({"stop": {"reason": "callended"}}, "callended"),
        ({"reason": "hangup"}, "hangup"),
        ({"stop": {"reason": "x" * 5000}}, ""),
    ],
)
def test_stop_brings_its_reason(carrier, stop, reason):
    assert opened(carrier).decode(message({"event": "stop", **stop}))[-1] == Stop(reason)


@every_carrier
@pytest.mark.parametrize(
    ("members", "failure"),
    [
        (
            {"payload": {"code": 100003, "title": "malformed_frame", "detail": "bad"}},
            Failure("100003", "malformed_frame: bad"),
        ),
        ({"error": {"reason": "buffer_overflow"}}, Failure("error", "buffer_overflow")),
        ({"error": "boom"}, Failure("error", "boom")),
        ({"code": "7", "message": "boom"}, Failure("7", "boom")),
        ({"payload": None, "error": []}, Failure("error", "")),
    ],
)
def test_errors_are_failures_and_do_not_end_the_stream(carrier, members, failure):
    serializer = opened(carrier)
    assert serializer.decode(message({"event": "error", **members})) == (failure,)
    assert payloads(serializer.decode(media(b"good", chunk=1))) == [b"good"]


@every_carrier
def test_time_alone_brings_nothing_on_a_whole_stream(carrier):
    assert list(opened(carrier).tick(1e9)) == []
