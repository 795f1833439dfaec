"""Keys that the carrier presses outside of the stream: what stands behind them waits until it is back."""

from __future__ import annotations

import json

from gateway.media.deferred import MAX_MESSAGES, PORTION, AfterKeys, DeferredMessages
from gateway.protocol import pcm
from tests.media.conftest import FakeSocket
from tests.media.test_bridge import attach_stream, bridge, joined, tone  # noqa: F401 - fixtures


def keys(digits: str) -> bytes:
    return json.dumps({"type": "dtmf", "digits": digits}).encode()


def play_out(bridge, since: float, seconds: float) -> float:  # noqa: F811
    """Let the ticks go by; the time then."""
    for n in range(round(seconds / 0.02)):
        bridge.tick(since + n * 0.02)
    return since + seconds


def test_speech_keys_speech_comes_in_that_order(joined, stream_socket, listener):  # noqa: F811
    joined.link_received(tone(400), False, 0.0)
    joined.link_received(keys("12#"), True, 0.0)
    joined.link_received(tone(600), False, 0.0)
    now = play_out(joined, 0.0, 1.0)
    assert len(stream_socket.of("media")) == 20, "what stands before the keys, and nothing behind them"
    assert listener.heard == [("bot_digits", "12#")]
    joined.detach_stream(now)  # the carrier leaves, presses them, and comes back
    back = FakeSocket()
    attach_stream(joined, back, now + 2.0)
    play_out(joined, now + 2.0, 1.0)
    assert len(back.of("media")) == 30, "all of what stands behind the keys"


def test_keys_that_are_refused_let_the_rest_be_played(joined, stream_socket, link_socket, listener):  # noqa: F811
    joined.link_received(keys("1"), True, 0.0)
    joined.link_received(tone(200), False, 0.0)
    assert stream_socket.of("media") == []
    joined.refuse_keys("this carrier cannot send keys")
    play_out(joined, 0.0, 0.5)
    assert len(stream_socket.of("media")) == 10
    [status] = link_socket.of("status")
    assert (status["status"], status["what"]) == ("refused", "dtmf")


def test_a_clear_drops_what_stands_behind_the_keys(joined, stream_socket, link_socket):  # noqa: F811
    joined.link_received(tone(400), False, 0.0)
    joined.link_received(keys("1"), True, 0.0)
    joined.link_received(tone(400), False, 0.0)
    joined.link_received(b'{"type":"mark","name":"m"}', True, 0.0)
    joined.link_received(b'{"type":"clear"}', True, 0.1)
    [mark] = link_socket.of("mark")
    assert (mark["name"], mark["played"]) == ("m", False)


def test_a_flood_behind_keys_is_bounded_and_taken_in_portions():
    deferred = DeferredMessages(max_bytes=1000)
    deferred.hold()
    kept = sum(deferred.add(pcm.SendDtmf("1")) for _ in range(2 * MAX_MESSAGES))
    assert kept == MAX_MESSAGES - 1
    assert deferred.next() is None, "held"
    deferred.release()
    assert sum(deferred.next() is not None for _ in range(PORTION)) == PORTION
    assert deferred.waiting


def test_audio_behind_keys_is_bounded_in_bytes():
    deferred = DeferredMessages(max_bytes=1000)
    deferred.hold()
    assert [deferred.add(bytes(400)) for _ in range(3)] == [True, True, False]
    done = []
    assert deferred.add(AfterKeys(lambda: done.append(1)))
    deferred.release()
    assert [type(deferred.next()) for _ in range(4)] == [bytes, bytes, AfterKeys, type(None)]
