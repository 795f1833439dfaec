"""A carrier that stops sending, or loses what it has not numbered: on all carriers the bot's clock goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.media.bridge import Bridge
from gateway.media.relay import Relay
from gateway.media.types import BridgeLimits, Stream
from gateway.protocol import pcm
from serializers.lost_media import silent_byte
from tests.serializers.support import CARRIERS, SERIALIZERS, STARTS, media, message

every_carrier = pytest.mark.parametrize("carrier", CARRIERS)
numbered_or_not = pytest.mark.parametrize("numbered", [True, False])
LINK_START = pcm.Start("s1", "support.acme", "any", 7, {}, 16000)
LIMITS = BridgeLimits(link_slow=60, link_dead=60)
"""The link of these tests answers no pings."""
FRAME = 640
"""Bytes of 20 ms on the bot's link, 16 kHz in 16 bits."""


class Call:
    """One stream at a bridge or a relay, with frames of 20 ms at given times."""

    def __init__(self, bridge, carrier: str, socket) -> None:
        self.bridge = bridge
        serializer = SERIALIZERS[carrier]()
        [start] = serializer.decode(message(STARTS[carrier]))
        self.inbound = start.inbound
        width = 2 if start.inbound.encoding == "l16" else 1
        self.frame = bytes([1, 2] * (start.inbound.sample_rate // 50 * width // 2))
        bridge.attach_stream(Stream(socket, serializer, start, (message(STARTS[carrier]).encode(),)), 0.0)

    def run(self, arrivals: list[tuple[float, int | None]], until: float) -> None:
        """arrivals: when each frame comes, in order, and its number."""
        waiting = list(arrivals)
        for tick in range(round(until * 50)):
            now = tick / 50
            while waiting and waiting[0][0] <= now:
                _, chunk = waiting.pop(0)
                members = {} if chunk is None else {"chunk": str(chunk)}
                self.bridge.stream_received(media(self.frame, timestamp=str(tick * 20), **members).encode(), True, now)
            self.bridge.tick(now)


def frames(begin: float, end: float, first: int, numbered: bool) -> list[tuple[float, int | None]]:
    """Frames in real time between these seconds."""
    times = range(round(begin * 50), round(end * 50))
    return [(at / 50, first + n if numbered else None) for n, at in enumerate(times)]


@pytest.fixture
def bridge(listener, link_socket):
    bridge = Bridge(16000, LIMITS, listener)
    bridge.attach_link(link_socket, LINK_START, 0.0)
    link_socket.sent.clear()
    return bridge


@pytest.fixture
def relay(listener):
    return Relay(LIMITS, listener)


def silent_frames(socket) -> int:
    return sum(item == bytes(FRAME) for item in socket.sent if isinstance(item, bytes))


@every_carrier
@numbered_or_not
def test_three_seconds_without_media_are_three_of_silence(bridge, carrier, numbered, stream_socket, link_socket):
    call = Call(bridge, carrier, stream_socket)
    call.run(frames(0, 1, 1, numbered) + frames(4, 6, 51, numbered), 6)
    assert silent_frames(link_socket) == pytest.approx(150, abs=2)
    assert len(link_socket.audio) == pytest.approx(6 * 50 * FRAME, abs=2 * FRAME)


@every_carrier
def test_what_was_numbered_and_lost_meanwhile_is_silence_once(bridge, carrier, stream_socket, link_socket):
    call = Call(bridge, carrier, stream_socket)
    call.run(frames(0, 1, 1, True) + frames(4, 6, 201, True), 6)
    assert len(link_socket.audio) == pytest.approx(6 * 50 * FRAME, abs=4 * FRAME)


@every_carrier
@numbered_or_not
def test_media_that_come_after_all_do_not_make_the_bot_late(bridge, carrier, numbered, stream_socket, link_socket):
    call = Call(bridge, carrier, stream_socket)
    burst = [(4.0, 51 + n if numbered else None) for n in range(150)]
    call.run(frames(0, 1, 1, numbered) + burst + frames(4, 8, 201, numbered), 8)
    assert len(link_socket.audio) == pytest.approx(8 * 50 * FRAME, abs=3 * FRAME)
    assert bridge.counts.dropped["late"] == pytest.approx(150, abs=3)


@every_carrier
@numbered_or_not
def test_media_late_by_less_than_a_second_are_all_heard(bridge, carrier, numbered, stream_socket, link_socket):
    call = Call(bridge, carrier, stream_socket)
    burst = [(1.8, 51 + n if numbered else None) for n in range(40)]
    call.run(frames(0, 1, 1, numbered) + burst + frames(1.8, 5, 91, numbered), 5)
    assert (silent_frames(link_socket), bridge.counts.dropped["late"]) == (0, 0)


@every_carrier
def test_half_a_second_lost_without_numbers_is_made_up_for(bridge, carrier, stream_socket, link_socket):
    call = Call(bridge, carrier, stream_socket)
    call.run(frames(0, 1, 1, False) + frames(1.5, 5, 1, False), 5)
    assert silent_frames(link_socket) == pytest.approx(25, abs=1)


@every_carrier
def test_a_carrier_that_begins_late_brings_no_silence(bridge, carrier, stream_socket, link_socket):
    call = Call(bridge, carrier, stream_socket)
    call.run(frames(2, 4, 1, True), 4)
    assert silent_frames(link_socket) == 0


def test_the_clock_goes_on_while_the_stream_is_away(bridge, stream_socket, link_socket):
    call = Call(bridge, "twilio", stream_socket)
    call.run(frames(0, 1, 1, True), 1)
    bridge.detach_stream(1.0)
    for tick in range(50, 200):
        bridge.tick(tick / 50)
    assert silent_frames(link_socket) == pytest.approx(150, abs=2)


def test_a_caller_without_a_bot_loses_no_word_to_silence(listener, stream_socket, link_socket):
    bridge = Bridge(16000, replace(LIMITS, hold_after=60), listener)
    call = Call(bridge, "twilio", stream_socket)
    call.run(frames(0, 1, 1, True), 10)
    bridge.attach_link(link_socket, LINK_START, 10.0)
    bridge.tick(10.02)
    assert len(link_socket.audio) == pytest.approx(50 * FRAME, abs=FRAME)
    assert silent_frames(link_socket) <= 1  # that of now


def test_silence_is_no_sign_of_life_from_the_carrier(bridge, listener, stream_socket):
    call = Call(bridge, "twilio", stream_socket)
    call.run(frames(0, 1, 1, True), 17)
    assert stream_socket.pings == 1
    assert ("stream_dead",) in listener.heard


def test_silence_does_not_pile_up_in_front_of_a_slow_bot(bridge, stream_socket, link_socket):
    call = Call(bridge, "twilio", stream_socket)
    call.run(frames(0, 1, 1, True), 1)
    sent, link_socket.unsent = len(link_socket.sent), LIMITS.link_unsent + 1
    for tick in range(50, 200):
        bridge.tick(tick / 50)
    assert len(link_socket.sent) == sent
    assert bridge.counts.dropped["link_slow"] == pytest.approx(150, abs=2)


# In relay mode.


@every_carrier
@numbered_or_not
def test_a_relayed_bot_gets_silence_in_the_carriers_form(relay, carrier, numbered, stream_socket, link_socket):
    call = Call(relay, carrier, stream_socket)
    relay.attach_link(link_socket, LINK_START, 0.0)
    call.run(frames(0, 1, 1, numbered) + frames(4, 6, 51, numbered), 6)
    reader = SERIALIZERS[carrier]()
    reader.decode(link_socket.sent[0])
    heard = [m["media"] for m in link_socket.of("media")]
    silence = media(silent_byte(call.inbound.encoding) * len(call.frame))
    silent = [m for m in heard if m["payload"] == json.loads(silence)["media"]["payload"]]
    assert len(silent) == pytest.approx(150, abs=2)
    assert len(heard) == pytest.approx(300, abs=2)
    times = [int(m["timestamp"]) for m in heard]
    assert times == sorted(times)


@every_carrier
def test_a_relayed_bot_does_not_hear_late_media_on_top(relay, carrier, stream_socket, link_socket):
    call = Call(relay, carrier, stream_socket)
    relay.attach_link(link_socket, LINK_START, 0.0)
    call.run(frames(0, 1, 1, True) + [(4.0, 51 + n) for n in range(150)] + frames(4, 8, 201, True), 8)
    assert len(link_socket.of("media")) == pytest.approx(400, abs=3)
    assert relay.counts.dropped["late"] == pytest.approx(150, abs=3)


def test_a_relayed_bot_that_hangs_gets_no_silence(relay, stream_socket, link_socket):
    call = Call(relay, "twilio", stream_socket)
    relay.attach_link(link_socket, LINK_START, 0.0)
    call.run(frames(0, 1, 1, True), 1)
    sent, link_socket.unsent = len(link_socket.sent), LIMITS.link_unsent + 1
    for tick in range(50, 200):
        relay.tick(tick / 50)
    assert len(link_socket.sent) == sent
