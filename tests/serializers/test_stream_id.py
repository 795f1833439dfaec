"""Messages of a bot that speaks the wire, written for another stream of its call."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.exotel import ExotelSerializer
from serializers.plivo import PlivoSerializer
from serializers.telnyx import TelnyxSerializer
from serializers.twilio import TwilioSerializer

OF_BOTS = [
    (TwilioSerializer, '{"event": "media", "streamSid": "MZ1", "media": {"payload": "AAAA"}}', "streamSid"),
    (TwilioSerializer, '{"event":"clear","streamSid":"MZ1"}', "streamSid"),
    (TwilioSerializer, '{"event":"mark","streamSid":"MZ1","mark":{"name":"MZ1"}}', "streamSid"),
    (PlivoSerializer, '{"event":"clearAudio","streamId":"s-1"}', "streamId"),
    (PlivoSerializer, '{"event":"checkpoint","streamId":"s-1","name":"s-1"}', "streamId"),
    (ExotelSerializer, '{"event": "media", "streamSid": "s1", "media": {"payload": "AAAA"}}', "streamSid"),
    (ExotelSerializer, '{"event":"clear","stream_sid":"s1","sequence_number":"2"}', "stream_sid"),
    (TelnyxSerializer, '{"event":"media","stream_id":"t-1","media":{"payload":"AAAA"}}', "stream_id"),
]


@pytest.mark.parametrize(("serializer", "message", "key"), OF_BOTS)
def test_the_id_is_replaced_and_nothing_else(serializer, message, key):
    again = json.loads(serializer().with_stream_id(message, "the other"))
    assert again == json.loads(message) | {key: "the other"}


@pytest.mark.parametrize(
    ("serializer", "message"),
    [
        (TelnyxSerializer, '{"event":"media","media":{"payload":"AAAA"}}'),
        (TelnyxSerializer, '{"event":"clear"}'),
        (
            PlivoSerializer,
            '{"event":"playAudio","media":{"contentType":"audio/x-mulaw","sampleRate":8000,"payload":"AA"}}',
        ),
        (TwilioSerializer, "no JSON"),
    ],
)
def test_what_names_no_stream_stays(serializer, message):
    assert serializer().with_stream_id(message, "the other") == message


def test_both_places_of_a_start_are_replaced():
    start = '{"event":"start","streamSid":"MZ1","start":{"streamSid":"MZ1","callSid":"CA1"}}'
    assert TwilioSerializer().with_stream_id(start, "MZ2") == start.replace("MZ1", "MZ2")


@given(st.text(), st.text())
def test_words_of_others_stay_whatever_they_are(name, stream_id):
    message = json.dumps({"event": "mark", "streamSid": "MZ1", "mark": {"name": name + '"streamSid":"MZ1"'}})
    again = json.loads(TwilioSerializer().with_stream_id(message, stream_id))
    assert again == json.loads(message) | {"streamSid": stream_id}
