"""The bridge, with literal messages of Twilio's wire and time passed in."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from gateway.audio.format import AudioFormat
from gateway.audio.transcoder import Transcoder
from gateway.errors import UnsupportedCodec
from gateway.media.bridge import Bridge
from gateway.media.playback_barriers import BARRIER_MARK
from gateway.media.types import BridgeLimits, Stream
from gateway.protocol import pcm
from serializers.base import MediaFormat
from serializers.exotel import ExotelSerializer
from serializers.twilio import TwilioSerializer
from tests.media.conftest import FakeSocket

START = (
    '{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC1","streamSid":"MZ1","callSid":"CA1",'
    '"tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},'
    '"customParameters":{}},"streamSid":"MZ1"}'
)
LINK_START = pcm.Start("s1", "support.acme", "twilio", 7, {"call_id": "CA1"}, 16000)


def media(payload: bytes) -> bytes:
    return json.dumps(
        {
            "event": "media",
            "sequenceNumber": "2",
            "media": {
                "track": "inbound",
                "chunk": "1",
                "timestamp": "5",
                "payload": base64.b64encode(payload).decode(),
            },
            "streamSid": "MZ1",
        }
    ).encode()


def tone(ms: int, rate: int = 16000) -> bytes:
    t = np.arange(rate * ms // 1000) / rate
    return (np.sin(2 * np.pi * 440 * t) * 8000).astype("<i2").tobytes()


def echo(mark: dict) -> bytes:
    """The carrier returns a mark that it was sent."""
    return json.dumps({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]}).encode()


@pytest.fixture
def bridge(listener):
    return Bridge(16000, BridgeLimits(), listener)


@pytest.fixture
def joined(bridge, stream_socket, link_socket):
    attach_stream(bridge, stream_socket)
    bridge.attach_link(link_socket, LINK_START, 0.0)
    link_socket.sent.clear()
    return bridge


def attach_stream(bridge, socket, now=0.0):
    serializer = TwilioSerializer()
    [start] = serializer.decode(START)
    bridge.attach_stream(Stream(socket, serializer, start), now)


# Caller to bot


def test_the_callers_audio_reaches_the_bot_as_pcm(joined, link_socket):
    payload = bytes(range(160))
    joined.stream_received(media(payload), True, 0.0)
    expected = Transcoder(AudioFormat("mulaw", 8000), AudioFormat("l16", 16000)).feed(payload)
    assert link_socket.sent == [expected]


def test_audio_before_there_is_a_bot_waits_for_it_behind_start(bridge, stream_socket, link_socket):
    attach_stream(bridge, stream_socket)
    for _ in range(10):
        bridge.stream_received(media(b"\x20" * 160), True, 0.0)
    bridge.attach_link(link_socket, LINK_START, 0.2)
    assert link_socket.texts[0]["type"] == "start"
    assert isinstance(link_socket.sent[0], str)
    assert len(link_socket.audio) == 10 * 640


def test_only_three_seconds_wait_and_the_oldest_is_dropped(bridge, stream_socket, link_socket):
    attach_stream(bridge, stream_socket)
    for n in range(600):
        bridge.stream_received(media(bytes([n % 250]) * 160), True, n * 0.02)
    bridge.attach_link(link_socket, LINK_START, 12.0)
    assert len(link_socket.audio) == 150 * 640
    assert bridge.counts.dropped["no_bot"] == 450


def test_a_long_frame_reaches_the_bot_in_pieces_of_20_ms(joined, link_socket):
    joined.stream_received(media(b"\x20" * 800), True, 0.0)
    assert [len(item) for item in link_socket.sent] == [640] * 5


def test_a_bot_that_does_not_read_is_not_buried_in_audio(joined, link_socket):
    link_socket.unsent = 10**6
    joined.stream_received(media(b"\x20" * 160), True, 0.0)
    assert link_socket.sent == []
    assert joined.counts.dropped["link_slow"] == 1


def test_dtmf_reaches_the_bot(joined, link_socket):
    joined.stream_received(
        b'{"event":"dtmf","streamSid":"MZ1","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"#"}}',
        True,
        0.0,
    )
    assert link_socket.texts == [{"type": "dtmf", "digit": "#"}]


def test_a_bad_message_is_counted_and_the_call_goes_on(joined, link_socket):
    for junk in (b"{", b"\xff\xfe", b"[]", b'{"event":"surprise"}'):
        joined.stream_received(junk, True, 0.0)
    joined.stream_received(media(b"\x20" * 160), True, 0.0)
    assert sum(joined.counts.bad.values()) == 4
    assert len(link_socket.audio) == 640


def test_the_carriers_stop_is_told_to_the_session(joined, listener):
    joined.stream_received(
        b'{"event":"stop","sequenceNumber":"9","streamSid":"MZ1","stop":{"callSid":"CA1"}}', True, 0.0
    )
    assert ("stream_stopped", "") in listener.heard


def test_an_unknown_codec_is_refused_and_nothing_has_changed(bridge, stream_socket):
    serializer = TwilioSerializer()
    [start] = serializer.decode(START.replace("audio/x-mulaw", "audio/x-opus"))
    with pytest.raises(UnsupportedCodec):
        bridge.attach_stream(Stream(stream_socket, serializer, start), 0.0)
    assert not bridge.streaming


# Bot to caller


def test_the_bots_audio_reaches_the_caller_in_his_codec(joined, stream_socket):
    joined.link_received(tone(20), False, 0.0)
    [message] = stream_socket.of("media")
    expected = Transcoder(AudioFormat("l16", 16000), AudioFormat("mulaw", 8000)).feed(tone(20))
    assert base64.b64decode(message["media"]["payload"]) == expected
    assert message["streamSid"] == "MZ1"


def test_thirty_seconds_at_once_are_heard_whole(joined, stream_socket, link_socket):
    for _ in range(30):
        joined.link_received(tone(1000), False, 0.0)
    now = 0.0
    while now < 31.0:
        now += 0.02
        joined.tick(now)
        if round(now / 0.02) % 50 == 0:  # the bot lives
            link_socket.last_pong = now
    heard = b"".join(base64.b64decode(m["media"]["payload"]) for m in stream_socket.of("media"))
    assert len(heard) == 30 * 8000


def test_a_clear_silences_the_carrier_and_says_what_was_dropped(joined, stream_socket, link_socket):
    for _ in range(30):
        joined.link_received(tone(1000), False, 0.0)
    joined.link_received(b'{"type":"mark","name":"end"}', True, 0.0)
    for n in range(1, 51):
        joined.tick(n * 0.02)
    joined.link_received(b'{"type":"clear"}', True, 1.0)
    sent_before = len(stream_socket.of("media"))
    for n in range(51, 100):
        joined.tick(n * 0.02)
    assert len(stream_socket.of("media")) == sent_before
    assert len(stream_socket.of("clear")) == 1
    assert sent_before * 20 <= 1000 + 200 + 40  # heard until the clear, plus the target buffer
    assert link_socket.of("mark") == [{"type": "mark", "name": "end", "played": False}]
    [cleared] = link_socket.of("cleared")
    assert cleared["played_ms"] == pytest.approx(1000, abs=40)
    assert cleared["dropped_ms"] == pytest.approx(29000, abs=60)


def test_the_carriers_clear_is_sent_even_when_nothing_is_queued(joined, stream_socket):
    joined.link_received(b'{"type":"clear"}', True, 0.0)
    assert len(stream_socket.of("clear")) == 1


def test_a_mark_comes_back_played(joined, stream_socket, link_socket):
    joined.link_received(tone(20), False, 0.0)
    joined.link_received(b'{"type":"mark","name":"m"}', True, 0.0)
    assert [m["event"] for m in stream_socket.texts] == ["media", "mark"]
    joined.stream_received(b'{"event":"mark","sequenceNumber":"3","streamSid":"MZ1","mark":{"name":"m"}}', True, 0.1)
    assert link_socket.texts == [{"type": "mark", "name": "m", "played": True}]


def test_an_echo_after_the_clear_was_not_played_and_is_told_once(joined, link_socket):
    joined.link_received(tone(500), False, 0.0)
    joined.link_received(b'{"type":"mark","name":"m"}', True, 0.0)
    for n in range(1, 20):
        joined.tick(n * 0.02)
    joined.link_received(b'{"type":"clear"}', True, 0.4)
    joined.stream_received(b'{"event":"mark","streamSid":"MZ1","mark":{"name":"m"}}', True, 0.45)
    assert link_socket.of("mark") == [{"type": "mark", "name": "m", "played": False}]


def test_once_a_second_the_bot_learns_what_has_been_heard(joined, link_socket):
    for _ in range(3):
        joined.link_received(tone(1000), False, 0.0)
    for n in range(200):
        joined.tick(n * 0.02)
    told = [m["ms"] for m in link_socket.of("played")]
    assert told == sorted(told)
    assert told[1:3] == [pytest.approx(1000, abs=30), pytest.approx(2000, abs=30)]


def test_beyond_two_minutes_the_bot_is_told_of_the_overflow_once(joined, link_socket):
    for _ in range(125):
        joined.link_received(tone(1000), False, 0.0)
    assert [m["status"] for m in link_socket.of("status")] == ["playout_overflow"]
    assert joined.counts.dropped["playout_overflow"] >= 4


def test_messages_that_make_no_sense_are_counted(joined):
    for junk in (b"", b"nonsense", b'{"type":"surprise"}', b'{"type":"dtmf","digits":"xyz"}', b"[1]"):
        joined.link_received(junk, True, 0.0)
    assert joined.counts.bad["link_message"] == 5


# Behind the audio


def test_a_hangup_waits_until_the_last_word_is_heard(joined, stream_socket, listener):
    joined.link_received(tone(500), False, 0.0)
    joined.link_received(b'{"type":"hangup","reason":"bye"}', True, 0.0)
    for n in range(1, 25):
        joined.tick(n * 0.02)
    assert listener.heard == []
    [mark] = stream_socket.of("mark")
    joined.stream_received(echo(mark), True, 0.5)
    assert listener.heard == [("bot_hangup", "bye")]


def test_an_unanswered_mark_delays_the_hangup_by_two_seconds_at_most(joined, listener):
    joined.link_received(tone(500), False, 0.0)
    joined.link_received(b'{"type":"hangup","reason":""}', True, 0.0)
    joined.tick(2.48)
    assert listener.heard == []
    joined.tick(2.52)
    assert listener.heard == [("bot_hangup", "")]


def test_the_bot_never_hears_of_our_own_mark(joined, link_socket):
    joined.link_received(b'{"type":"hangup","reason":""}', True, 0.0)
    joined.link_received(b'{"type":"clear"}', True, 0.0)
    assert BARRIER_MARK not in json.dumps(link_socket.texts)


def test_keys_that_the_stream_cannot_send_are_the_sessions_affair(joined, listener):
    joined.link_received(tone(100), False, 0.0)
    joined.link_received(b'{"type":"dtmf","digits":"12#"}', True, 0.0)
    assert listener.heard == []
    joined.tick(0.12)
    assert listener.heard == [("bot_digits", "12#")]


def test_a_transfer_is_told_behind_the_audio(joined, listener, stream_socket):
    joined.link_received(b'{"type":"transfer","to":"+15550100009"}', True, 0.0)
    [mark] = stream_socket.of("mark")
    joined.stream_received(echo(mark), True, 0.1)
    assert listener.heard == [("bot_transfer", "+15550100009")]


TRANSFER = b'{"type":"transfer","to":"+15550100009"}'


def test_a_bot_that_ends_after_a_refused_transfer_has_hung_up(joined, stream_socket, listener):
    """The session refuses the transfer; the caller must not be left with hold music."""
    joined.link_received(TRANSFER, True, 0.0)
    joined.detach_link(0.0)
    joined.after_playback(lambda: listener.bot_hangup("done"), 0.0)
    for mark in stream_socket.of("mark"):
        joined.stream_received(echo(mark), True, 0.1)
    assert listener.heard == [("bot_transfer", "+15550100009"), ("bot_hangup", "done")]


def test_every_command_waits_for_the_words_before_it(joined, stream_socket, listener):
    joined.link_received(TRANSFER, True, 0.0)
    joined.link_received(tone(100), False, 0.0)
    joined.link_received(b'{"type":"hangup","reason":"bye"}', True, 0.0)
    first, second = stream_socket.of("mark")
    joined.stream_received(echo(first), True, 0.02)
    assert listener.heard == [("bot_transfer", "+15550100009")]
    joined.stream_received(echo(second), True, 0.1)
    assert listener.heard == [("bot_transfer", "+15550100009"), ("bot_hangup", "bye")]


def test_a_mark_that_is_lost_holds_up_nothing_behind_it(joined, stream_socket, listener):
    joined.link_received(TRANSFER, True, 0.0)
    joined.link_received(b'{"type":"hangup","reason":"bye"}', True, 0.0)
    joined.stream_received(echo(stream_socket.of("mark")[1]), True, 0.1)
    assert listener.heard == [("bot_transfer", "+15550100009"), ("bot_hangup", "bye")]


def test_a_mark_that_comes_after_its_deadline_is_no_others(joined, stream_socket, listener):
    joined.link_received(TRANSFER, True, 0.0)
    joined.tick(2.1)
    joined.link_received(tone(100), False, 2.2)
    joined.link_received(b'{"type":"hangup","reason":"bye"}', True, 2.2)
    joined.stream_received(echo(stream_socket.of("mark")[0]), True, 2.22)
    assert listener.heard == [("bot_transfer", "+15550100009")]


@pytest.mark.parametrize("how", ["clear", "lost"])
def test_without_audio_all_commands_are_carried_out_in_order(joined, listener, how):
    joined.link_received(tone(1000), False, 0.0)
    joined.link_received(TRANSFER, True, 0.0)
    joined.link_received(b'{"type":"hangup","reason":"bye"}', True, 0.0)
    joined.clear(0.1) if how == "clear" else joined.detach_stream(0.1)
    assert listener.heard == [("bot_transfer", "+15550100009"), ("bot_hangup", "bye")]


def test_a_bot_that_loops_on_its_commands_is_refused_but_its_end_is_not(joined, link_socket, listener):
    joined.link_received(tone(100), False, 0.0)
    for _ in range(1000):
        joined.link_received(TRANSFER, True, 0.0)
    joined.detach_link(0.0)
    joined.after_playback(lambda: listener.bot_hangup("done"), 0.0)
    joined.clear(0.1)
    assert len(listener.heard) <= 20
    assert listener.heard[-1] == ("bot_hangup", "done")
    assert {(m["what"], m["status"]) for m in link_socket.of("status")} == {("transfer", "refused")}
    assert joined.counts.dropped["playout_overflow"] == 1000 - (len(listener.heard) - 1)


def test_a_bot_that_loops_on_marks_is_told_that_they_are_lost(joined, link_socket):
    joined.link_received(tone(1000), False, 0.0)
    for n in range(7000):
        joined.link_received(b'{"type":"mark","name":"%d"}' % n, True, 0.0)
    assert joined.counts.dropped["playout_overflow"] == 1000  # 6000 frames are two minutes
    lost = link_socket.of("mark")
    assert (len(lost), lost[0]["name"]) == (1000, "6000")
    assert not any(mark["played"] for mark in lost)


def test_a_bot_that_loops_on_keys_is_refused(joined, link_socket, listener):
    joined.link_received(tone(1000), False, 0.0)
    for _ in range(6001):
        joined.link_received(b'{"type":"dtmf","digits":"1"}', True, 0.0)
    [refusal] = link_socket.of("status")
    assert (refusal["status"], refusal["what"]) == ("refused", "dtmf")
    assert joined.counts.dropped["playout_overflow"] == 1
    assert listener.heard == []


# Hold


def hold_bridge(listener, limits=None) -> Bridge:
    return Bridge(16000, limits or BridgeLimits(), listener, tone(100))


def test_a_caller_without_a_bot_hears_hold_audio_after_a_second(listener, stream_socket, link_socket):
    bridge = hold_bridge(listener)
    attach_stream(bridge, stream_socket)
    for n in range(150):
        bridge.tick(n * 0.02)
        if n * 0.02 < 0.99:
            assert stream_socket.of("media") == []
    assert 2000 <= len(stream_socket.of("media")) * 20 <= 2200
    bridge.attach_link(link_socket, LINK_START, 3.0)
    assert len(stream_socket.of("clear")) == 1
    before = len(stream_socket.of("media"))
    bridge.tick(3.02)
    assert len(stream_socket.of("media")) == before


def test_no_hold_audio_follows_the_last_words_of_the_last_bot(listener, stream_socket, link_socket):
    bridge = hold_bridge(listener)
    attach_stream(bridge, stream_socket)
    bridge.attach_link(link_socket, LINK_START, 0.0)
    bridge.link_received(tone(3000), False, 0.0)
    bridge.detach_link(0.0, final=True)
    for n in range(250):
        bridge.tick(n * 0.02)
    heard = b"".join(base64.b64decode(message["media"]["payload"]) for message in stream_socket.of("media"))
    assert len(heard) == 3.0 * 8000


def lose_the_bot_for_long(bridge, stream_socket, link_socket, *messages: bytes) -> None:
    """The bot says this and is lost; the caller hears hold audio, and then another bot is there."""
    attach_stream(bridge, stream_socket)
    bridge.attach_link(FakeSocket(), LINK_START, 0.0)
    bridge.link_received(tone(40), False, 0.0)
    for message in messages:
        bridge.link_received(message, True, 0.0)
    bridge.detach_link(0.0)
    for n in range(75):
        bridge.tick(n * 0.02)
    assert len(stream_socket.of("media")) > 2, "hold audio"
    bridge.attach_link(link_socket, LINK_START, 1.5)


def test_marks_of_a_lost_bot_are_told_when_hold_audio_ends(listener, stream_socket, link_socket):
    bridge = hold_bridge(listener)
    lose_the_bot_for_long(bridge, stream_socket, link_socket, b'{"type":"mark","name":"m"}')
    told = [message["type"] for message in link_socket.texts]
    assert told == ["start", "mark"]
    assert link_socket.of("mark") == [{"type": "mark", "name": "m", "played": False}]
    [mark] = stream_socket.of("mark")
    bridge.stream_received(echo(mark), True, 1.6)  # a carrier returns what a clear has dropped
    assert len(link_socket.of("mark")) == 1


def test_a_command_of_a_lost_bot_waits_no_longer_than_hold_audio(listener, stream_socket, link_socket):
    bridge = hold_bridge(listener)
    lose_the_bot_for_long(bridge, stream_socket, link_socket, TRANSFER)
    assert listener.heard == [("bot_transfer", "+15550100009")]


def test_hold_audio_that_is_silent_behind_a_late_bot_ends_the_tick(listener, stream_socket, link_socket):
    """Silence is left out while delay is worked off: there is no end to waiting until enough of it is there."""
    bridge = Bridge(16000, BridgeLimits(hold_after=0.0), listener, bytes(3200))
    attach_stream(bridge, stream_socket)
    bridge.attach_link(link_socket, LINK_START, 0.0)
    frames = [(n * 0.02, 1) for n in range(50)] + [(1.22, 11)] + [(1.24 + n * 0.02, 1) for n in range(300)]
    for now, count in frames:  # held up for 200 ms
        bridge.tick(now)
        for _ in range(count):
            bridge.link_received(tone(20), False, now)
    bridge.detach_link(now)
    assert bridge.unplayed(now) > 0.12
    for n in range(1, 50):
        bridge.tick(now + n * 0.02)
    assert bridge.unplayed(now + 0.98) > 0.0


# Loss


def test_a_lost_stream_flushes_the_marks(joined, link_socket):
    joined.link_received(tone(1000), False, 0.0)
    joined.link_received(b'{"type":"mark","name":"m"}', True, 0.0)
    joined.detach_stream(0.1)
    assert link_socket.of("mark") == [{"type": "mark", "name": "m", "played": False}]
    assert not joined.streaming


def test_audio_for_a_caller_who_is_away_is_dropped_with_its_marks(joined, link_socket):
    joined.detach_stream(0.0)
    joined.link_received(tone(20), False, 0.1)
    joined.link_received(b'{"type":"mark","name":"m"}', True, 0.1)
    assert joined.counts.dropped["no_stream"] == 1
    assert link_socket.of("mark") == [{"type": "mark", "name": "m", "played": False}]


def test_a_second_stream_takes_over(joined, listener):
    second = FakeSocket()
    attach_stream(joined, second, 1.0)
    joined.link_received(tone(20), False, 1.0)
    assert len(second.of("media")) == 1


def test_a_link_is_pinged_every_second_and_dead_after_ten(joined, link_socket, listener):
    for n in range(int(10 / 0.02)):
        joined.tick(n * 0.02)
    assert link_socket.pings == 9
    assert listener.heard == []
    joined.tick(10.1)
    assert listener.heard == [("link_dead",)]


def test_a_link_unheard_for_five_seconds_gets_no_more_audio(joined, link_socket):
    joined.tick(5.1)
    joined.stream_received(media(b"\x20" * 160), True, 5.1)
    assert joined.counts.dropped["link_slow"] == 1
    link_socket.last_pong = 5.2
    joined.tick(5.3)
    joined.stream_received(media(b"\x20" * 160), True, 5.3)
    assert len(link_socket.audio) == 640


def test_a_link_that_was_opened_long_before_its_stream_is_alive(bridge, stream_socket, link_socket, listener):
    """Opened at the webhook, 25 s ago, and not asked since: it has not failed to answer anything."""
    attach_stream(bridge, stream_socket, 25.0)
    bridge.attach_link(link_socket, LINK_START, 25.0)
    for n in range(50):
        bridge.tick(25.0 + n * 0.02)
        bridge.stream_received(media(b"\x20" * 160), True, 25.0 + n * 0.02)
    assert listener.heard == []
    assert len(link_socket.audio) == 50 * 640
    assert when_dead(bridge, listener) == pytest.approx(35.0, abs=0.03)


def when_dead(bridge, listener) -> float:
    now = 26.0
    while ("link_dead",) not in listener.heard and now < 60.0:
        now += 0.02
        bridge.tick(now)
        bridge.stream_received(media(b"\x20" * 160), True, now)
    return now


def test_a_silent_carrier_is_asked_and_lives_if_it_answers(joined, stream_socket, link_socket, listener):
    for n in range(1, 40):
        link_socket.last_pong = n
        stream_socket.last_pong = n
        joined.tick(float(n))
    assert stream_socket.pings >= 2
    assert listener.heard == []


def test_a_carrier_that_does_not_answer_is_dead(joined, stream_socket, link_socket, listener):
    for n in range(1, 20):
        link_socket.last_pong = n
        joined.tick(float(n))
    assert listener.heard == [("stream_dead",)]


def test_a_carrier_that_sends_media_is_not_asked(joined, stream_socket, link_socket):
    for n in range(1, 40):
        link_socket.last_pong = n
        joined.stream_received(media(b"\x20" * 160), True, float(n))
        joined.tick(float(n))
    assert stream_socket.pings == 0


def test_carriers_that_drop_silent_calls_are_sent_silence(bridge, stream_socket):
    serializer = ExotelSerializer()
    [start] = serializer.decode(
        '{"event":"start","sequence_number":"1","stream_sid":"S","start":{"stream_sid":"S","call_sid":"C",'
        '"account_sid":"A","media_format":{"encoding":"base64","sample_rate":"8000"}}}'
    )
    bridge.attach_stream(Stream(stream_socket, serializer, start), 0.0)
    for n in range(600):
        bridge.tick(n * 0.02)
    [message] = stream_socket.of("media")
    assert base64.b64decode(message["media"]["payload"]) == bytes(3200)


def test_a_carrier_that_does_not_read_is_not_buried_in_audio(joined, stream_socket):
    stream_socket.unsent = 10**6
    joined.link_received(tone(20), False, 0.0)
    assert stream_socket.sent == []
    assert joined.counts.dropped["stream_slow"] == 1


def test_wideband_stays_wide(bridge, stream_socket, link_socket):
    serializer = TwilioSerializer()
    [start] = serializer.decode(START.replace('"audio/x-mulaw","sampleRate":8000', '"audio/x-l16","sampleRate":16000'))
    assert start.inbound == MediaFormat("l16", 16000)
    bridge.attach_stream(Stream(stream_socket, serializer, start), 0.0)
    bridge.attach_link(link_socket, LINK_START, 0.0)
    bridge.stream_received(media(tone(20)), True, 0.0)
    assert link_socket.audio == tone(20)
