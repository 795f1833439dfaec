"""The relay: the carrier's own messages pass through untouched, handshake first."""

from __future__ import annotations

import pytest

from gateway.media.backlog import MAX_KEYS, MAX_MEDIA
from gateway.media.relay import Relay
from gateway.media.types import BridgeLimits, EarlyMedia, Stream
from gateway.protocol import pcm
from serializers.twilio import TwilioSerializer

CONNECTED = b'{"event":"connected","protocol":"Call","version":"1.0.0"}'
START = (
    b'{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC1","streamSid":"MZ1","callSid":"CA1",'
    b'"tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}},"streamSid":"MZ1"}'
)
MEDIA = b'{"event":"media","streamSid":"MZ1","media":{"track":"inbound","chunk":"1","payload":"////"}}'
STOP = b'{"event":"stop","streamSid":"MZ1","stop":{"callSid":"CA1"}}'
KEYS = [
    b'{"event":"dtmf","streamSid":"MZ1","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"5"}}',
    b'{"event":"dtmf","stream_id":"s1","occurred_at":"2026-01-01T00:00:00Z","sequence_number":"5","dtmf":{"digit":"5"}}',
    b'{"event":"dtmf","streamId":"s1","dtmf":{"track":"inbound","digit":"5","timestamp":"1700000000000"}}',
    b'{"event":"dtmf","stream_sid":"s1","sequence_number":"5","dtmf":{"digit":"5","duration":"100"}}',
]
"""On the four carriers: Twilio, Telnyx, Plivo, Exotel."""
LINK_START = pcm.Start("s1", "support.acme", "twilio", 7, {}, 16000)


@pytest.fixture
def relay(listener):
    return Relay(BridgeLimits(), listener)


@pytest.fixture
def joined(relay, stream_socket, link_socket):
    serializer = TwilioSerializer()
    [start] = serializer.decode(START)
    relay.attach_stream(Stream(stream_socket, serializer, start, (CONNECTED, START)), 0.0)
    relay.attach_link(link_socket, LINK_START, 0.0)
    return relay


def test_the_handshake_comes_first_and_unchanged(joined, link_socket):
    assert link_socket.sent == [CONNECTED.decode(), START.decode()]


def test_messages_before_there_is_a_worker_wait_for_it_in_order(relay, stream_socket, link_socket):
    serializer = TwilioSerializer()
    [start] = serializer.decode(START)
    relay.attach_stream(Stream(stream_socket, serializer, start, (CONNECTED, START)), 0.0)
    relay.stream_received(MEDIA, True, 0.0)
    relay.attach_link(link_socket, LINK_START, 0.1)
    assert link_socket.sent == [CONNECTED.decode(), START.decode(), MEDIA.decode()]


def test_media_that_came_before_start_follow_it(relay, stream_socket, link_socket):
    serializer = TwilioSerializer()
    serializer.decode(MEDIA)
    start, *events = serializer.decode(START)
    early = EarlyMedia((MEDIA,), tuple(events))
    relay.attach_stream(Stream(stream_socket, serializer, start, (CONNECTED, START), early), 0.0)
    relay.attach_link(link_socket, LINK_START, 0.1)
    assert link_socket.sent == [CONNECTED.decode(), START.decode(), MEDIA.decode()]


def test_not_more_than_three_seconds_wait(relay):
    for _ in range(MAX_MEDIA + 5):
        relay.stream_received(MEDIA, True, 0.0)
    assert relay.counts.dropped["no_bot"] == 5


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_was_pressed_long_before_there_is_a_worker_is_kept(relay, link_socket, key):
    relay.stream_received(MEDIA, True, 0.0)
    relay.stream_received(key, True, 0.0)
    for n in range(MAX_MEDIA + 5):
        relay.stream_received(MEDIA, True, n * 0.02)
    relay.attach_link(link_socket, LINK_START, 0.1)
    assert link_socket.sent == [key.decode()] + [MEDIA.decode()] * MAX_MEDIA
    assert relay.counts.dropped == {"no_bot": 6}


def test_a_flood_of_keys_is_bounded(relay, link_socket):
    for _ in range(10 * MAX_KEYS):
        relay.stream_received(KEYS[0], True, 0.0)
    relay.attach_link(link_socket, LINK_START, 0.1)
    assert len(link_socket.sent) == MAX_KEYS
    assert relay.counts.dropped == {"keys": 9 * MAX_KEYS}


def test_media_that_came_before_start_are_bounded_too(relay, stream_socket, link_socket):
    serializer = TwilioSerializer()
    [start] = serializer.decode(START)
    early = EarlyMedia((MEDIA,) * (MAX_MEDIA + 450))
    relay.attach_stream(Stream(stream_socket, serializer, start, (CONNECTED, START), early), 0.0)
    relay.attach_link(link_socket, LINK_START, 0.1)
    assert len(link_socket.sent) == 2 + MAX_MEDIA
    assert relay.counts.dropped == {"no_bot": 450}


def test_messages_pass_both_ways_untouched(joined, stream_socket, link_socket):
    joined.stream_received(MEDIA, True, 0.0)
    joined.link_received(b'{"event":"media","streamSid":"MZ1","media":{"payload":"AAAA"}}', True, 0.0)
    joined.link_received(b"\x00\x01", False, 0.0)
    assert link_socket.sent[-1] == MEDIA.decode()
    assert stream_socket.sent == ['{"event":"media","streamSid":"MZ1","media":{"payload":"AAAA"}}', b"\x00\x01"]


def test_the_carriers_stop_is_passed_on_and_told(joined, link_socket, listener):
    joined.stream_received(STOP, True, 0.0)
    assert link_socket.sent[-1] == STOP.decode()
    assert listener.heard == [("stream_stopped", "")]


def test_a_long_stop_is_read_too(joined, listener):
    """A reason or an id may be longer than those of today."""
    joined.stream_received(STOP.replace(b"CA1", b"C" * 1000), True, 1.0)
    assert listener.heard == [("stream_stopped", "")]


def test_the_end_of_the_session_closes_the_link(joined, link_socket):
    joined.tell(pcm.Status("anything", {}))
    assert link_socket.closed is None
    joined.tell(pcm.Stop("caller_hangup"))
    assert link_socket.closed == 1000


def test_who_does_not_read_is_not_buried(joined, stream_socket, link_socket):
    link_socket.unsent = stream_socket.unsent = 10**6
    joined.stream_received(MEDIA, True, 0.0)
    joined.link_received(MEDIA, True, 0.0)
    assert (joined.counts.dropped["link_slow"], joined.counts.dropped["stream_slow"]) == (1, 1)


def test_without_a_stream_what_the_bot_says_is_dropped(joined):
    joined.detach_stream(0.0)
    joined.link_received(MEDIA, True, 0.0)
    assert joined.counts.dropped["no_stream"] == 1
    assert not joined.streaming


def test_a_drain_has_nothing_to_wait_for(joined):
    done = []
    joined.after_playback(lambda: done.append(True), 0.0)
    joined.tick(1.0)
    joined.detach_link(1.0)
    assert done


# Liveness: the limits of the bridge.


def test_a_carrier_that_neither_sends_nor_answers_is_dead_after_15_seconds(
    joined, stream_socket, link_socket, listener
):
    for n in range(1, 751):
        joined.tick(n * 0.02)
        link_socket.last_pong = n * 0.02
    assert stream_socket.pings == 1
    assert listener.heard == []
    for n in range(751, 1000):
        joined.tick(n * 0.02)
        link_socket.last_pong = n * 0.02
    assert listener.heard == [("stream_dead",)]


def test_a_carrier_that_is_silent_but_answers_lives(joined, stream_socket, link_socket, listener):
    for n in range(1, 120):
        stream_socket.last_pong = link_socket.last_pong = float(n)
        joined.tick(float(n))
    assert stream_socket.pings >= 2
    assert listener.heard == []


def test_a_carrier_that_sends_is_not_asked(joined, stream_socket, link_socket):
    for n in range(1, 120):
        link_socket.last_pong = float(n)
        joined.stream_received(MEDIA, True, float(n))
        joined.tick(float(n))
    assert stream_socket.pings == 0


def test_a_worker_is_pinged_every_second_and_dead_after_ten(joined, stream_socket, link_socket, listener):
    for n in range(501):
        joined.stream_received(MEDIA, True, n * 0.02)
        joined.tick(n * 0.02)
    assert link_socket.pings == 10
    assert listener.heard == []
    joined.tick(10.1)
    assert listener.heard == [("link_dead",)]
    joined.tick(20.0)
    assert link_socket.pings == 10  # it is gone, and told once
    assert listener.heard == [("link_dead",)]


def test_a_worker_unheard_for_five_seconds_gets_no_more_audio_but_all_else(joined, link_socket):
    joined.tick(5.1)
    sent = len(link_socket.sent)
    joined.stream_received(MEDIA, True, 5.1)
    joined.stream_received(STOP, True, 5.1)
    assert [item.encode() for item in link_socket.sent[sent:]] == [STOP]
    assert joined.counts.dropped["link_slow"] == 1
    link_socket.last_pong = 5.2
    joined.tick(5.3)
    joined.stream_received(MEDIA, True, 5.3)
    assert link_socket.sent[-1].encode() == MEDIA


def test_a_worker_counts_from_when_it_came(relay, stream_socket, link_socket, listener):
    serializer = TwilioSerializer()
    [start] = serializer.decode(START)
    relay.attach_stream(Stream(stream_socket, serializer, start, (CONNECTED, START)), 25.0)
    relay.attach_link(link_socket, LINK_START, 25.0)
    relay.tick(25.02)
    assert listener.heard == []


def test_who_has_left_is_not_watched(joined, stream_socket, link_socket, listener):
    joined.detach_link(0.0)
    joined.detach_stream(0.0)
    for n in range(1, 60):
        joined.tick(float(n))
    assert (stream_socket.pings, link_socket.pings, listener.heard) == (0, 0, [])


# Back-pressure.


def test_a_bot_whose_carrier_reads_slowly_is_read_as_slowly(joined, stream_socket, link_socket):
    stream_socket.unsent = 65 * 1024
    joined.link_received(MEDIA, True, 1.0)
    assert link_socket.held
    assert stream_socket.sent[-1].encode() == MEDIA
    joined.tick(1.02)
    assert link_socket.held
    stream_socket.unsent = 32 * 1024
    joined.tick(1.04)
    assert not link_socket.held
    assert not joined.counts.dropped


def test_a_carrier_that_takes_nothing_keeps_no_bot_waiting_for_ever(joined, stream_socket, link_socket):
    stream_socket.unsent = 65 * 1024
    joined.link_received(MEDIA, True, 1.0)
    joined.tick(5.1)
    assert not link_socket.held
    joined.link_received(MEDIA, True, 5.2)
    assert not link_socket.held  # nor once more, before it has taken anything
    stream_socket.unsent = 0
    joined.tick(6.0)
    stream_socket.unsent = 65 * 1024
    joined.link_received(MEDIA, True, 6.1)
    assert link_socket.held


def test_a_bot_that_is_kept_waiting_is_not_taken_for_dead(joined, stream_socket, link_socket, listener):
    stream_socket.unsent = 65 * 1024
    for n in range(1, 1000):
        joined.link_received(MEDIA, True, n * 0.02)
        joined.tick(n * 0.02)
    assert ("link_dead",) not in listener.heard
    stream_socket.unsent = 0
    for n in range(1000, 2050):
        joined.tick(n * 0.02)
    assert ("link_dead",) in listener.heard  # it has had its time


def test_the_end_of_a_bot_that_is_kept_waiting_is_read(joined, stream_socket, link_socket):
    stream_socket.unsent = 65 * 1024
    joined.link_received(MEDIA, True, 1.0)
    joined.detach_link(1.0)
    assert not link_socket.held
