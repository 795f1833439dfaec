"""Marks that a relayed bot has set on a stream that is lost are answered on the next one, in the carrier's form."""

from __future__ import annotations

import json

import pytest

from gateway.media.relay import Relay
from gateway.media.relayed_marks import MAX_MARKS, RelayedMarks
from gateway.media.types import BridgeLimits, Stream
from serializers.exotel import ExotelSerializer
from serializers.plivo import PlivoSerializer
from serializers.telnyx import TelnyxSerializer
from serializers.twilio import TwilioSerializer
from tests.media.test_relay import LINK_START

WIRES = {
    "twilio": (
        TwilioSerializer,
        '{"event":"start","start":{"accountSid":"AC1","streamSid":"ID","callSid":"CA1"},"streamSid":"ID"}',
        '{"event":"mark","streamSid":"ID","mark":{"name":"said"}}',
        {"event": "mark", "streamSid": "S1", "mark": {"name": "said"}},
    ),
    "telnyx": (
        TelnyxSerializer,
        '{"event":"start","start":{"call_control_id":"v3:1","media_format":{"encoding":"PCMU"}},"stream_id":"ID"}',
        '{"event":"mark","mark":{"name":"said"}}',
        {"event": "mark", "stream_id": "S1", "mark": {"name": "said"}},
    ),
    "plivo": (
        PlivoSerializer,
        '{"event":"start","start":{"callId":"c1","streamId":"ID"}}',
        '{"event":"checkpoint","streamId":"ID","name":"said"}',
        {"event": "playedStream", "streamId": "S1", "name": "said"},
    ),
    "exotel": (
        ExotelSerializer,
        '{"event":"start","stream_sid":"ID","start":{"stream_sid":"ID","call_sid":"c1","account_sid":"a1"}}',
        '{"event":"mark","stream_sid":"ID","mark":{"name":"said"}}',
        {"event": "mark", "stream_sid": "S1", "mark": {"name": "said"}},
    ),
}
"""A serializer, a `start`, the bot's mark, and what the carrier answers."""


class Relayed:
    def __init__(self, carrier: str, listener, stream_socket, link_socket) -> None:
        self.serializer, self._start, self.mark, self.answer = WIRES[carrier]
        self.relay, self.stream, self.link = Relay(BridgeLimits(), listener), stream_socket, link_socket
        self.attach("S1")
        self.relay.attach_link(link_socket, LINK_START, 0.0)
        link_socket.sent.clear()

    def attach(self, stream_id: str) -> None:
        serializer = self.serializer()
        handshake = self._start.replace("ID", stream_id).encode()
        [start] = serializer.decode(handshake)
        self.relay.attach_stream(Stream(self.stream, serializer, start, (handshake,)), 0.0)

    def says(self, message: str) -> None:
        self.relay.link_received(message.replace("ID", "S1").encode(), True, 0.0)

    @property
    def heard(self) -> list[dict]:
        return [json.loads(message) for message in self.link.sent]


@pytest.fixture(params=WIRES)
def relayed(request, listener, stream_socket, link_socket):
    return Relayed(request.param, listener, stream_socket, link_socket)


def test_a_mark_on_a_stream_that_is_lost_is_answered_on_the_next(relayed):
    relayed.says(relayed.mark)
    relayed.relay.detach_stream(1.0)
    assert relayed.heard == []
    relayed.attach("S2")
    assert relayed.heard == [relayed.answer]
    relayed.relay.detach_stream(2.0)
    relayed.attach("S3")
    assert relayed.heard == [relayed.answer]


def test_so_is_one_that_is_set_while_there_is_no_stream(relayed):
    relayed.relay.detach_stream(1.0)
    relayed.says(relayed.mark)
    relayed.attach("S2")
    assert relayed.heard == [relayed.answer]


def test_one_that_a_second_stream_overtakes_is_answered_too(relayed):
    relayed.says(relayed.mark)
    relayed.attach("S2")
    assert relayed.heard == [relayed.answer]


def test_what_the_carrier_has_answered_is_not_answered_again(relayed):
    relayed.says(relayed.mark)
    relayed.relay.stream_received(json.dumps(relayed.answer).encode(), True, 0.5)
    relayed.relay.detach_stream(1.0)
    relayed.attach("S2")
    assert relayed.heard == [relayed.answer]


def test_a_bot_whose_link_is_lost_too_is_answered_when_it_is_back(relayed):
    relayed.says(relayed.mark)
    relayed.relay.detach_link(1.0)
    relayed.relay.detach_stream(1.0)
    relayed.attach("S2")
    relayed.relay.known_stream_id = "S1"
    relayed.relay.attach_link(relayed.link, LINK_START, 1.5)
    assert relayed.heard == [relayed.answer]


def test_another_bot_is_not_answered_what_it_has_not_set(relayed):
    relayed.says(relayed.mark)
    relayed.relay.detach_link(1.0)
    relayed.relay.detach_stream(1.0)
    relayed.attach("S2")
    relayed.relay.attach_link(relayed.link, LINK_START, 1.5)
    assert [message["event"] for message in relayed.heard] == ["start"]


@pytest.mark.parametrize(
    "message", ['{"event":"mark"', '["mark"]', '{"event":"media","mark":1}', '{"event":"mark","mark":null}', "mark", ""]
)
def test_what_is_no_mark_is_none(relayed, message):
    relayed.says(message)
    relayed.relay.detach_stream(1.0)
    relayed.attach("S2")
    assert relayed.heard == []


def test_no_more_than_so_many_are_kept():
    marks, serializer = RelayedMarks(), TwilioSerializer()
    for n in range(MAX_MARKS + 10):
        marks.set_by_bot(b'{"event":"mark","mark":{"name":"%d"}}' % n, serializer)
    marks.stream_lost()
    assert marks.take_lost() == [str(n) for n in range(10, MAX_MARKS + 10)]
