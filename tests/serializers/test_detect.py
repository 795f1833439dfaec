"""Which carrier a handshake is from."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.base import Start
from serializers.detect import EARLY
from serializers.detect import detect as detect_among
from serializers.stream import MAX_MESSAGE
from tests.kit.golden import golden_lines
from tests.serializers.support import CARRIERS, SERIALIZERS, STARTS, message


def detect(sent):
    """The carrier's name, EARLY or None."""
    found = detect_among(sent, SERIALIZERS.values())
    return found if found is None or found == EARLY else found.carrier


@pytest.mark.parametrize(
    ("file", "carrier"),
    [
        ("twilio-03-ws-start-noparams.json", "twilio"),
        ("telnyx-06-ws-start-doc.json", "telnyx"),
        ("plivo-07-ws-documented.jsonl", "plivo"),
        ("exotel-07-ws-doc-variants.jsonl", "exotel"),
    ],
)
def test_golden_starts_are_known_and_nothing_else_is(file, carrier):
    for m in golden_lines(file):
        is_start = '"event":"start"' in m
        assert detect(m) == detect(m.encode()) == (carrier if is_start else EARLY)
        if is_start:
            assert isinstance(SERIALIZERS[carrier]().decode(m)[0], Start)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_what_is_early_is_told_from_what_is_unintelligible(carrier):
    early = ['{"event":"connected"}', '{"event":"connected","protocol":"Call"}', '{"event":"media","media":{}}']
    noise = ["noise", b"\xff", "{}", '{"event":"start"}']
    answers = [detect(m) for m in [*early, *noise, message(STARTS[carrier])]]
    assert answers == [EARLY] * len(early) + [None] * len(noise) + [carrier]


@pytest.mark.parametrize("carrier", CARRIERS)
def test_each_carrier_is_told_from_the_others_in_any_order(carrier):
    for kinds in (list(SERIALIZERS.values()), list(SERIALIZERS.values())[::-1]):
        assert [kind.carrier for kind in kinds if kind.recognizes(STARTS[carrier])] == [carrier]


def test_a_carrier_that_is_not_served_is_not_detected():
    assert detect_among(message(STARTS["plivo"]), [SERIALIZERS["twilio"]]) is None


@pytest.mark.parametrize(
    ("start", "carrier"),
    [
        ({"streamSid": "s", "callSid": "c"}, "twilio"),
        ({"streamSid": "s", "callSid": "c", "accountSid": "AC1"}, "twilio"),
        ({"streamSid": "s", "callSid": "c", "accountSid": "AC1", "customParameters": {"from": "x"}}, "twilio"),
        ({"streamSid": "s", "callSid": "c", "accountSid": "acme1"}, "exotel"),
        ({"streamSid": "s", "callSid": "c", "accountSid": "AC1", "from": "0555", "to": "0555"}, "exotel"),
        ({"streamSid": "s", "callSid": "c", "media_format": {}}, "exotel"),
        ({"stream_sid": "s", "call_sid": "c"}, "exotel"),
        ({"call_sid": "c"}, None),
        ({"streamSid": "s"}, None),
        ({"call_control_id": "v3:1"}, "telnyx"),
        ({"callControlId": "v3:1"}, "telnyx"),
        ({"callId": "c", "streamId": "s"}, "plivo"),
        ({"callId": "c"}, "plivo"),
        ({"callSid": None, "streamSid": None}, None),
        ({"callSid": {}, "streamSid": []}, None),
        ({}, None),
        (None, None),
        ([], None),
        ("start", None),
    ],
)
def test_by_the_members_of_start(start, carrier):
    assert detect(message({"event": "start", "start": start})) == carrier


def test_the_stream_id_may_be_at_the_top():
    assert detect(message({"event": "start", "stream_sid": "s", "start": {"call_sid": "c"}})) == "exotel"


@pytest.mark.parametrize(("event", "found"), [("media", EARLY), (None, None), (5, None), ({}, None), ([], None)])
def test_no_other_event_decides(event, found):
    assert detect(message({**STARTS["twilio"], "event": event})) == found


def test_a_start_without_its_event_is_one():
    start = copy.deepcopy(STARTS["telnyx"])
    del start["event"]
    assert detect(message(start)) == "telnyx"


@pytest.mark.parametrize("sent", ["", b"", "[" * 5000, "null", "[]", "5", b"\xff", "x" * (MAX_MESSAGE + 1)])
def test_what_is_no_message_is_no_carriers(sent):
    assert detect(sent) is None


@given(st.binary() | st.text())
def test_total(sent):
    assert detect(sent) in (None, EARLY, *CARRIERS)
