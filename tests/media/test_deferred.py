"""Keys that the carrier presses outside of the stream: what stands behind them waits until it is back."""

from __future__ import annotations

import json

from gateway.media.deferred import MAX_MESSAGES, PORTION, AfterKeys, DeferredMessages
from gateway.protocol import pcm
from tests.media.conftest import FakeSocket
from tests.media.test_bridge import TRANSFER, attach_stream, bridge, echo, joined, tone  # noqa: F401 - fixtures

HANGUP = b'{"type":"hangup","reason":"bye"}'


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


def leave_behind(bridge, listener, *messages: bytes) -> None:  # noqa: F811
    """The bot presses keys, says this behind them, and closes its link."""
    bridge.link_received(keys("1"), True, 0.0)
    for message in messages:
        bridge.link_received(message, message.startswith(b"{"), 0.0)
    bridge.detach_link(0.0)
    bridge.after_playback(lambda: listener.finished(), 0.0)


def come_back(bridge, now: float) -> FakeSocket:  # noqa: F811
    """The carrier has pressed the keys, and opens a new stream."""
    bridge.detach_stream(0.1)
    back = FakeSocket()
    attach_stream(bridge, back, now)
    return back


def test_a_bot_that_leaves_behind_keys_and_a_transfer_has_left(joined, listener):  # noqa: F811
    leave_behind(joined, listener, TRANSFER)
    come_back(joined, 10.0)
    play_out(joined, 10.0, 3.0)
    assert listener.heard == [("bot_digits", "1"), ("bot_transfer", "+15550100009"), ("finished",)]


def test_a_bot_that_leaves_behind_many_commands_has_left(joined, listener):  # noqa: F811
    leave_behind(joined, listener, TRANSFER, tone(20), HANGUP, TRANSFER)
    come_back(joined, 10.0)
    play_out(joined, 10.0, 3.0)
    order = "bot_digits bot_transfer bot_hangup bot_transfer finished"
    assert " ".join(what for what, *_ in listener.heard) == order


def test_a_command_behind_keys_comes_before_the_speech_behind_it(joined, listener):  # noqa: F811
    leave_behind(joined, listener, tone(100), TRANSFER, *[tone(20)] * 100)
    back = come_back(joined, 10.0)
    play_out(joined, 10.0, 1.0)
    sent = [message["event"] for message in back.texts]
    assert sent.index("mark") == 5


def test_a_bot_that_floods_behind_keys_and_leaves_has_left(joined, listener):  # noqa: F811
    leave_behind(joined, listener, *[b'{"type":"mark","name":"m"}'] * (MAX_MESSAGES + 1))
    come_back(joined, 10.0)
    play_out(joined, 10.0, MAX_MESSAGES / PORTION * 0.02 + 3.0)
    assert listener.heard == [("bot_digits", "1"), ("finished",)]


def test_what_waits_behind_keys_has_its_time_from_when_they_are_pressed(joined, listener):  # noqa: F811
    leave_behind(joined, listener)
    back = come_back(joined, 10.0)
    now = play_out(joined, 10.0, 1.0)
    assert listener.heard == [("bot_digits", "1")], "nothing is to be heard, and the carrier has not said so yet"
    [mark] = back.of("mark")
    joined.stream_received(echo(mark), True, now)
    assert listener.heard == [("bot_digits", "1"), ("finished",)]


def test_a_flood_behind_keys_is_bounded_and_taken_in_portions():
    deferred = DeferredMessages(max_bytes=1000)
    deferred.pause()
    kept = sum(deferred.add(pcm.SendDtmf("1")) for _ in range(2 * MAX_MESSAGES))
    assert kept == MAX_MESSAGES - 1
    assert deferred.pop_due() is None, "paused"
    deferred.resume()
    assert sum(deferred.pop_due() is not None for _ in range(PORTION)) == PORTION
    assert deferred.must_defer


def test_an_action_of_ours_finds_its_place_in_a_full_queue():
    deferred = DeferredMessages(max_bytes=1000)
    deferred.pause()
    while deferred.add(pcm.SendDtmf("1")):
        pass
    deferred.add_action(AfterKeys(lambda now: None))
    deferred.resume()
    *messages, last = iter(deferred.pop_due, None)
    assert len(messages) == MAX_MESSAGES - 1
    assert type(last) is AfterKeys
    assert not deferred.must_defer


def test_audio_behind_keys_is_bounded_in_bytes():
    deferred = DeferredMessages(max_bytes=1000)
    deferred.pause()
    assert [deferred.add(bytes(400)) for _ in range(3)] == [True, True, False]
    deferred.add_action(AfterKeys(lambda now: None))
    deferred.resume()
    assert [type(deferred.pop_due()) for _ in range(4)] == [bytes, bytes, AfterKeys, type(None)]
