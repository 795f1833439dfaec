"""A caller of a relayed bot who waits for one: hold audio in the carrier's own wire, and no old words to the bot."""

from __future__ import annotations

import base64
import json

import pytest

from gateway.media.relay import Relay
from gateway.media.relay_hold import RelayHold
from gateway.media.types import BridgeLimits, Stream
from gateway.protocol import pcm
from serializers.exotel import ExotelSerializer
from serializers.plivo import PlivoSerializer
from serializers.telnyx import TelnyxSerializer
from serializers.twilio import TwilioSerializer
from tests.sessions.relay_wires import WIRES

LINK_START = pcm.Start("s1", "support.acme", "twilio", 7, {}, 16000)
TONE = b"\x00\x20" * 16000
SERIALIZERS = {s.carrier: s for s in (TwilioSerializer, TelnyxSerializer, PlivoSerializer, ExotelSerializer)}


class Call:
    """A relay with a stream of this carrier's, and time."""

    def __init__(self, carrier, listener, socket) -> None:
        self.wire, self.socket, self.now = WIRES[carrier], socket, 0.0
        self.relay = Relay(BridgeLimits(), listener, RelayHold(TONE, 16000, BridgeLimits()))
        self.attach("S-1")

    def attach(self, stream_id: str, start: str = "") -> None:
        serializer = SERIALIZERS[self.wire.carrier]()
        handshake = [start.encode()] if start else [m.encode() for m in self.wire.messages(stream_id)]
        [begun] = serializer.decode(handshake[-1])
        self.relay.attach_stream(Stream(self.socket, serializer, begun, tuple(handshake)), self.now)

    def wait(self, seconds: float, *, speak: bool = False) -> None:
        for _ in range(round(seconds / 0.02)):
            self.now += 0.02
            if speak:
                self.relay.stream_received(self.wire.of("media", "S-1").encode(), True, self.now)
            self.relay.tick(self.now)

    @property
    def played(self) -> bytes:
        sent = [json.loads(message) for message in self.socket.sent]
        return b"".join(base64.b64decode(m["media"]["payload"]) for m in sent if m["event"] in ("media", "playAudio"))


@pytest.fixture(params=WIRES)
def call(request, listener, stream_socket):
    return Call(request.param, listener, stream_socket)


def test_hold_audio_is_played_in_the_carriers_wire(call):
    call.wait(0.9)
    assert not call.socket.sent
    call.wait(5.1)
    rate = 16000 if call.wire.carrier == "exotel" else 8000  # bytes a second
    assert 4.9 * rate < len(call.played) < 5.6 * rate
    loud = call.played.replace(b"\xff", b"").replace(b"\x00", b"")
    assert len(loud) > len(call.played) / 3
    names = {json.loads(m).get(call.wire.stream_key or "none", "S-1") for m in call.socket.sent}
    assert names == {"S-1"}


def test_it_ends_with_a_clear_when_there_is_a_bot_and_not_a_frame_later(call, link_socket):
    call.wait(3.0)
    before = len(call.socket.sent)
    call.relay.attach_link(link_socket, LINK_START, call.now)
    assert [json.loads(m)["event"] for m in call.socket.sent[before:]] in (["clear"], ["clearAudio"])
    call.wait(3.0)
    assert len(call.socket.sent) == before + 1


def test_twelve_seconds_of_words_on_hold_do_not_reach_the_bot(call, link_socket):
    call.wait(12.0, speak=True)
    call.relay.stream_received(call.wire.of("dtmf", "S-1").encode(), True, call.now)
    call.relay.attach_link(link_socket, LINK_START, call.now)
    told = [json.loads(message)["event"] for message in link_socket.sent]
    assert told[: len(call.wire.handshake)] == [json.loads(m)["event"] for m in call.wire.handshake]
    assert told.count("media") <= 16  # of 0.3 s
    assert told[-1] == "dtmf"


def test_a_caller_without_a_bot_for_a_moment_hears_no_hold_audio(call, link_socket):
    call.wait(0.5)
    call.relay.attach_link(link_socket, LINK_START, call.now)
    call.wait(0.5)
    call.relay.detach_link(call.now)
    call.wait(0.5)
    call.relay.attach_link(link_socket, LINK_START, call.now)
    assert not call.socket.sent


def test_it_begins_again_where_a_bot_is_lost_and_not_where_one_is_done(call, link_socket):
    call.relay.attach_link(link_socket, LINK_START, 0.0)
    call.relay.detach_link(call.now)
    call.wait(2.0)
    assert call.played
    call.relay.attach_link(link_socket, LINK_START, call.now)
    call.socket.sent.clear()
    call.relay.detach_link(call.now, final=True)
    call.wait(2.0)
    assert not call.socket.sent


def test_a_codec_that_we_cannot_write_is_silence_on_hold(listener, stream_socket, link_socket):
    call = Call("telnyx", listener, stream_socket)
    call.attach("S-2", call.wire.messages("S-2")[-1].replace('"PCMU"', '"G722"'))
    call.wait(3.0)
    assert not stream_socket.sent
    call.relay.attach_link(link_socket, LINK_START, call.now)
    assert "G722" in link_socket.sent[0]


def test_long_messages_are_no_more_seconds_than_short_ones(listener, stream_socket, link_socket):
    """Exotel's are of 80 to 200 ms: 150 of them would be half a minute."""
    limits = BridgeLimits(hold_after=100.0)
    relay = Relay(limits, listener, None)
    for n in range(100):
        relay.stream_received(b'{"event":"media"}', True, n * 0.2)
    relay.attach_link(link_socket, LINK_START, 99 * 0.2)
    assert len(link_socket.sent) == 16  # of three seconds
    assert relay.counts.dropped["no_bot"] == 84
