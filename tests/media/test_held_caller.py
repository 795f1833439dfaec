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


SILENCE, WORD = b"\xff" * 160, b"\x20" * 160


def said_before_the_bot(bridge, stream_socket, link_socket, *frames: bytes) -> list[bool]:
    """Whether each frame that the bot hears then is a word."""
    attach_stream(bridge, stream_socket)
    for n, frame in enumerate(frames):
        bridge.stream_received(media(frame), True, n * 0.02)
    bridge.attach_link(link_socket, LINK_START, len(frames) * 0.02)
    return [any(frame) for frame in link_socket.sent if isinstance(frame, bytes)]


def test_the_first_bot_is_not_late_by_silence_before_the_first_word(listener, stream_socket, link_socket):
    bridge = Bridge(16000, BridgeLimits(), listener)
    frames = (SILENCE, SILENCE, WORD, WORD, WORD)
    assert said_before_the_bot(bridge, stream_socket, link_socket, *frames) == [True] * 3
    assert not bridge.counts.dropped["no_bot"]


def test_a_key_in_the_first_silence_is_kept(listener, stream_socket, link_socket):
    bridge = Bridge(16000, BridgeLimits(), listener)
    attach_stream(bridge, stream_socket)
    bridge.stream_received(media(SILENCE), True, 0.0)
    bridge.stream_received(b'{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"7"}}', True, 0.0)
    bridge.attach_link(link_socket, LINK_START, 0.02)
    assert (link_socket.audio, len(link_socket.of("dtmf"))) == (b"", 1)


def test_a_bot_whose_link_was_lost_hears_the_silence_meanwhile(listener, stream_socket, link_socket):
    """It tells time by what it hears, and has heard the call so far."""
    bridge = Bridge(16000, BridgeLimits(), listener)
    said_before_the_bot(bridge, stream_socket, link_socket, WORD)
    bridge.detach_link(0.02)
    link_socket.sent.clear()
    bridge.stream_received(media(SILENCE), True, 0.04)
    bridge.attach_link(link_socket, LINK_START, 0.06)
    assert len(link_socket.audio) == 640
