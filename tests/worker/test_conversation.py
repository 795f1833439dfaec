from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import pcm
from gateway.worker import conversation
from gateway.worker.conversation import Audio, Conversation, Dtmf, Event, Mark, Status

START = pcm.Start("s1", "support.acme", "twilio", 7, {"from": "+15550100"}, 16000)
FRAME = b"\x01\x02" * 320  # 20 ms at 16 kHz


def events(conversation: Conversation) -> list[Event]:
    return list(iter(conversation.next_event, None))


def test_each_message_becomes_its_event_in_order() -> None:
    c = Conversation(START)
    c.received(FRAME, text=False)
    c.received(b'{"type":"dtmf","digit":"5"}', text=True)
    c.received(b'{"type":"mark","name":"m","played":true}', text=True)
    c.received(b'{"type":"status","status":"refused","what":"dtmf","reason":"no"}', text=True)
    assert events(c) == [
        Audio(FRAME, 16000),
        Dtmf("5"),
        Mark("m", True),
        Status("refused", {"what": "dtmf", "reason": "no"}),
    ]
    assert not c.ended


def test_stop_ends_it_and_what_came_before_can_still_be_read() -> None:
    c = Conversation(START)
    c.received(FRAME, text=False)
    c.received(b'{"type":"stop","reason":"caller_hangup"}', text=True)
    c.received(FRAME, text=False)
    assert c.ended and c.end_reason == "caller_hangup"
    assert events(c) == [Audio(FRAME, 16000)]


def test_the_first_reason_counts_and_an_empty_one_is_unknown() -> None:
    c = Conversation(START)
    c.received(b'{"type":"stop"}', text=True)
    c.end("bot_hangup")
    assert c.end_reason == "unknown_end"


def test_half_samples_and_unknown_messages_are_ignored() -> None:
    c = Conversation(START)
    for data, text in ((b"\x01", False), (b"", False), (b"\xff", True), (b'{"type":"new"}', True), (b"[]", True)):
        c.received(data, text)
    c.received(b"\x01\x02\x03", text=False)
    assert events(c) == [Audio(b"\x01\x02", 16000)]


def test_a_bot_that_does_not_read_loses_the_oldest_audio_and_is_told() -> None:
    c = Conversation(START)
    c.received(b'{"type":"dtmf","digit":"1"}', text=True)
    for n in range(1600):  # 32 s
        c.received(n.to_bytes(2, "little") * 320, text=False)
    assert c.next_event() == Status("audio_dropped", {"ms": 2000})
    assert c.next_event() == Dtmf("1")
    assert c.next_event() == Audio((100).to_bytes(2, "little") * 320, 16000)
    assert len(events(c)) == 1499


def test_words_without_audio_are_bounded_too() -> None:
    c = Conversation(START)
    for _ in range(conversation.MAX_EVENTS + 5):
        c.received(b'{"type":"dtmf","digit":"1"}', text=True)
    assert len(events(c)) == conversation.MAX_EVENTS


def test_unplayed_is_what_was_sent_less_what_was_played_or_dropped() -> None:
    c = Conversation(START)
    c.sent(FRAME * 500)  # 10 s
    assert c.unplayed == 10.0
    c.received(b'{"type":"played","ms":4000}', text=True)
    assert c.unplayed == 6.0
    c.received(b'{"type":"played","ms":3000}', text=True)  # late: nothing is unplayed again
    assert c.unplayed == 6.0
    c.received(b'{"type":"cleared","played_ms":5000,"dropped_ms":4500}', text=True)
    assert c.unplayed == 0.5
    c.received(b'{"type":"played","ms":99000}', text=True)
    assert c.unplayed == 0.0
    assert c.reports == 4


def test_a_worker_that_resumes_takes_the_first_report_for_its_zero() -> None:
    c = Conversation(pcm.Start("s1", "a.b", "twilio", 9, {}, 8000, resumed=True, attempt=2))
    c.sent(b"\0\0" * 8000 * 3)
    c.received(b'{"type":"played","ms":600000}', text=True)
    assert c.unplayed == 3.0
    c.received(b'{"type":"played","ms":601000}', text=True)
    assert c.unplayed == 2.0


def test_another_link_means_that_nothing_is_unplayed_and_the_bot_is_told() -> None:
    c = Conversation(START)
    c.sent(FRAME * 500)
    c.attached()
    assert c.unplayed == 0.0
    assert events(c) == [Status("reattached")]
    c.sent(FRAME * 100)
    c.received(b'{"type":"played","ms":70000}', text=True)
    c.received(b'{"type":"played","ms":71000}', text=True)
    assert c.unplayed == 1.0


def test_another_stream_means_that_nothing_is_unplayed() -> None:
    c = Conversation(START)
    c.sent(FRAME * 500)
    c.received(b'{"type":"status","status":"reattached"}', text=True)
    assert c.unplayed == 0.0
    assert events(c) == [Status("reattached")]


@given(st.lists(st.tuples(st.binary(max_size=80), st.booleans()), max_size=30))
def test_nothing_that_a_gateway_says_raises(messages: list[tuple[bytes, bool]]) -> None:
    c = Conversation(START)
    for data, text in messages:
        c.received(data, text)
    events(c)
    assert c.unplayed >= 0


SILENT = bytes(640)


def test_a_bot_begins_to_listen_at_the_callers_first_word() -> None:
    c = Conversation(START)
    for said in (SILENT, SILENT, FRAME, SILENT):
        c.received(said, text=False)
    c.skip_first_silence()
    assert events(c) == [Audio(FRAME, 16000), Audio(SILENT, 16000)]


def test_keys_and_news_among_the_first_silence_are_kept_in_order() -> None:
    c = Conversation(START)
    c.received(SILENT, text=False)
    c.received(b'{"type":"status","status":"answered"}', text=True)
    c.received(SILENT, text=False)
    c.received(b'{"type":"dtmf","digit":"5"}', text=True)
    c.skip_first_silence()
    assert events(c) == [Status("answered"), Dtmf("5")]


@given(st.lists(st.sampled_from([SILENT, FRAME])))
def test_from_the_first_word_on_nothing_is_skipped(said: list[bytes]) -> None:
    c = Conversation(START)
    for frame in said:
        c.received(frame, text=False)
    c.skip_first_silence()
    first = said.index(FRAME) if FRAME in said else len(said)
    assert events(c) == [Audio(frame, 16000) for frame in said[first:]]
    for frame in [FRAME] * 1600:  # what was skipped takes no room of what waits
        c.received(frame, text=False)
    assert len([event for event in events(c) if isinstance(event, Audio)]) == 1500
