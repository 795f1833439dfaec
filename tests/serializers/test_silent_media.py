"""Silence in a carrier's own words: the last message with silence for its audio, and its time moved on."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.base import MediaFormat
from serializers.lost_media import silent_byte
from serializers.silent_media import MAX_MESSAGE, SilentMedia
from tests.serializers.support import CARRIERS, media, opened, payloads

MULAW = MediaFormat("mulaw", 8000)
TWILIO = (
    b'{"event":"media","sequenceNumber":"4","media":{"track":"inbound","chunk":"3","timestamp":"60","payload":"%s"},'
    b'"streamSid":"MZ1"}' % base64.b64encode(b"\x01" * 160)
)


def test_it_is_the_last_message_with_silence_and_a_later_time():
    silent = SilentMedia.like(TWILIO, MULAW)
    assert silent.seconds == 0.02
    assert silent.next() == (
        '{"event":"media","sequenceNumber":"4","media":{"track":"inbound","chunk":"3","timestamp":"80","payload":"'
        + base64.b64encode(b"\xff" * 160).decode()
        + '"},"streamSid":"MZ1"}'
    )
    assert json.loads(silent.next())["media"]["timestamp"] == "100"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_carriers_serializer_reads_it_as_silence(carrier):
    serializer = opened(carrier)
    inbound = serializer.started.inbound
    frame = inbound.sample_rate // 50 * (2 if inbound.encoding == "l16" else 1)
    silent = SilentMedia.like(media(b"\x01\x02" * (frame // 2), chunk="1").encode(), inbound)
    assert payloads(serializer.decode(silent.next())) == [silent_byte(inbound.encoding) * frame]


@pytest.mark.parametrize(
    ("given", "then"), [(60, 80), ("60", "80"), ("x", "x"), (None, None), (1.5, 1.5), (2**60, 2**60)]
)
def test_a_timestamp_that_is_a_number_moves_on(given, then):
    message = json.dumps({"event": "media", "media": {"timestamp": given, "payload": "AAAA"}}).encode()
    assert json.loads(SilentMedia.like(message, MULAW).next())["media"]["timestamp"] == then


@pytest.mark.parametrize(
    ("size", "media_format", "seconds"),
    [
        (1, MULAW, 0.02),
        (800, MULAW, 0.1),
        (8000, MULAW, 0.5),
        (3200, MediaFormat("l16", 16000), 0.1),
        (333, MediaFormat("l16", 8000), 0.02),
    ],
)
def test_it_is_as_long_as_the_last_within_bounds(size, media_format, seconds):
    message = json.dumps({"media": {"payload": base64.b64encode(bytes(size)).decode()}}).encode()
    assert SilentMedia.like(message, media_format).seconds == pytest.approx(seconds, abs=0.001)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_what_is_no_media_gives_none(message):
    assert SilentMedia.like(message, MULAW) is None


@pytest.mark.parametrize("message", [b'{"media":1}', b'{"media":{"payload":5}}', b'{"media":{"payload":"A"}}', b"[1]"])
def test_broken_media_give_none(message):
    assert SilentMedia.like(message, MULAW) is None


def test_a_large_message_is_not_repeated():
    message = json.dumps({"media": {"payload": "AAAA", "more": "x" * MAX_MESSAGE}}).encode()
    assert SilentMedia.like(message, MULAW) is None
