"""A caller who was held is heard from the moment at which the bot is there."""

from __future__ import annotations

from gateway.media.backlog import MAX_KEYS
from gateway.media.bridge import Bridge
from gateway.media.relay import Relay
from gateway.media.types import BridgeLimits
from tests.media.test_bridge import LINK_START, attach_stream, media, tone


def held(bridge, stream_socket, link_socket, seconds: float) -> None:
    """The caller speaks, ticks go by, and then there is a worker."""
    attach_stream(bridge, stream_socket)
    for n in range(round(seconds / 0.02)):
        bridge.stream_received(media(bytes([n % 250]) * 160), True, n * 0.02)
        bridge.tick(n * 0.02)
    bridge.attach_link(link_socket, LINK_START, seconds)


def test_after_ten_seconds_of_hold_the_bot_hears_the_last_moment(listener, stream_socket, link_socket):
    held(Bridge(16000, BridgeLimits(), listener, tone(100)), stream_socket, link_socket, 10.0)
    assert len(link_socket.audio) == 15 * 640


def test_before_hold_audio_all_of_it_waits(listener, stream_socket, link_socket):
    held(Bridge(16000, BridgeLimits(), listener, tone(100)), stream_socket, link_socket, 0.8)
    assert len(link_socket.audio) == 40 * 640


def test_keys_that_were_pressed_on_hold_are_kept(listener, stream_socket, link_socket):
    bridge = Bridge(16000, BridgeLimits(), listener, tone(100))
    attach_stream(bridge, stream_socket)
    bridge.stream_received(b'{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"7"}}', True, 0.0)
    for n in range(500):
        bridge.stream_received(media(bytes([n % 250]) * 160), True, n * 0.02)
        bridge.tick(n * 0.02)
    bridge.attach_link(link_socket, LINK_START, 10.0)
    assert [key["digit"] for key in link_socket.of("dtmf")] == ["7"]


def test_keys_beyond_those_that_are_kept_are_counted(listener, stream_socket):
    bridge = Bridge(16000, BridgeLimits(), listener)
    attach_stream(bridge, stream_socket)
    for _ in range(MAX_KEYS + 3):
        bridge.stream_received(b'{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"7"}}', True, 0.0)
    assert bridge.counts.dropped == {"keys": 3}


def test_a_relayed_bot_hears_the_last_moment_behind_the_handshake(listener, stream_socket, link_socket):
    bridge = Relay(BridgeLimits(), listener)
    held(bridge, stream_socket, link_socket, 10.0)
    assert len(link_socket.sent) <= 16
    assert bridge.counts.dropped["no_bot"] >= 484
