"""What is sent to each carrier, and what no message of a stranger's may do."""

from __future__ import annotations

import base64
import copy
import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.base import Event, Mark, Media, Start
from tests.serializers.support import CARRIERS, SERIALIZERS, STARTS, media, members, message, opened, reasons

CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
EVENTS = get_args(Event)

every_carrier = pytest.mark.parametrize("carrier", CARRIERS)


def kinds(serializer, *messages):
    return [type(event) for m in messages for event in serializer.decode(m)]


# Commands


@every_carrier
@pytest.mark.parametrize("audio", [b"", b"\x00" * 320, bytes(range(256)) * 30])
def test_audio_goes_out_whole_in_one_line_of_json(carrier, audio):
    text = opened(carrier).media(audio)
    assert "\n" not in text
    assert base64.b64decode(json.loads(text)["media"]["payload"], validate=True) == audio


@every_carrier
@given(name=st.text())
def test_any_name_of_a_mark_is_json(carrier, name):
    serializer = opened(carrier)
    out = json.loads(serializer.mark(name))
    wire_name = out["mark"]["name"] if "mark" in out else out["name"]
    assert wire_name == name
    if 0 < len(name) <= 1024:
        assert serializer.decode(json.dumps({"event": "mark", "mark": {"name": name}})) == (Mark(name, True),)


CALL_IDS = {"twilio": "callSid", "telnyx": "call_control_id", "plivo": "callId", "exotel": "call_sid"}
STREAM_IDS = {"twilio": "streamSid", "telnyx": "stream_id", "plivo": "streamId", "exotel": "stream_sid"}
ACCOUNT_IDS = {"twilio": "accountSid", "telnyx": "user_id", "plivo": "accountId", "exotel": "account_sid"}


@every_carrier
@pytest.mark.parametrize("names", [CALL_IDS, STREAM_IDS, ACCOUNT_IDS], ids=["call", "stream", "account"])
@pytest.mark.parametrize(
    "bad", [".", "..", "CA1/../CA2", "CA1.json", "CA1\n", 'CA\\"}', "CA1?x=1", "CA%2f", "CA" * 200]
)
def test_what_can_be_no_id_opens_no_stream(carrier, names, bad):
    start = copy.deepcopy(STARTS[carrier])
    start.pop(names[carrier], None)
    start["start"][names[carrier]] = bad
    serializer = SERIALIZERS[carrier]()
    assert reasons(serializer.decode(message(start))) == ["bad_start"]
    assert serializer.started is None


@every_carrier
def test_commands_before_start_do_not_raise(carrier):
    serializer = SERIALIZERS[carrier]()
    for text in (serializer.media(b"\x00" * 320), serializer.clear(), serializer.mark("a")):
        json.loads(text)


# Totality


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
WORDS = ["connected", "start", "media", "dtmf", "mark", "stop", "error", "clear", "playedStream", "playFailed"]
OBJECTS = st.fixed_dictionaries({"event": st.sampled_from(WORDS) | JSON}, optional=dict.fromkeys(WORDS, JSON))


def is_total(serializer, sent, *, text=True):
    events = serializer.decode(sent, text=text, now=1.0)
    assert all(isinstance(event, EVENTS) for event in events)
    assert all(isinstance(event.payload, bytes) and event.payload for event in events if type(event) is Media)
    for event in events:
        if isinstance(event, Start):
            json.dumps(event.call.wire())
            assert event.call_id


@every_carrier
@given(sent=st.lists(st.binary(max_size=50) | st.text(max_size=50), max_size=3), text=st.booleans())
def test_no_bytes_raise(carrier, sent, text):
    for serializer in (SERIALIZERS[carrier](), opened(carrier)):
        for m in sent:
            is_total(serializer, m, text=text)


@every_carrier
@given(sent=st.lists(JSON | OBJECTS, max_size=3))
def test_no_json_raises(carrier, sent):
    for serializer in (SERIALIZERS[carrier](), opened(carrier)):
        for m in sent:
            is_total(serializer, message(m))


@every_carrier
@given(data=st.data())
def test_no_mutation_of_a_sound_message_raises(carrier, data):
    sound = [
        STARTS[carrier],
        json.loads(media(b"\x00" * 20, chunk="1", timestamp="5")),
        {"event": "dtmf", "dtmf": {"digit": "1", "track": "inbound"}},
        {"event": "stop", "stop": {"reason": "callended"}},
    ]
    value = copy.deepcopy(data.draw(st.sampled_from(sound)))
    for _ in range(data.draw(st.integers(1, 3))):
        owner = value
        *way, last = data.draw(st.sampled_from(list(members(value)) or [("event",)]))
        for name in way:
            owner = owner[name]
        owner[last] = data.draw(JSON)
    for serializer in (SERIALIZERS[carrier](), opened(carrier)):
        is_total(serializer, message(value))


@every_carrier
def test_a_flood_of_anything_leaves_nothing_behind(carrier):
    serializer = opened(carrier)
    for n in range(5_000):
        serializer.decode(media(b"xx", chunk=n * 7919 % 1000), now=n / 1000)
        serializer.decode(f'{{"event":"mark","mark":{{"name":"{n}"}}}}')
        serializer.mark(str(n % 3_000))
        if n % 1_000 == 0:
            serializer.flush_marks()
    book = serializer.marks
    assert max(len(book._out), len(book._flushed)) <= 1_000
    assert len(book._used) <= 4_096
