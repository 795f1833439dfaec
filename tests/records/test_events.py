"""Each change of a call is told once, in its order."""

from __future__ import annotations

import json
from dataclasses import replace

from gateway.pool.facts import FactEvent
from gateway.records.events import EVENT_TYPES, event_id, new_events
from gateway.records.row import CallRow, close, join, row_of
from tests.records.calls import CALL, INBOUND, STREAM, facts_of

NOTHING = CallRow(session_id="s1")


def kinds(before: CallRow, row: CallRow, told=(), wanted=EVENT_TYPES) -> list[str]:
    return [event.type for event in new_events(before, row, told, wanted, now=5.0)]


def test_a_call_that_is_heard_of_at_its_end_is_told_from_its_beginning():
    events = new_events(NOTHING, row_of(facts_of(*CALL, FactEvent(recording="/rec/a.flac"))), (), EVENT_TYPES, 5.0)
    assert [(event.seq, event.type) for event in events] == list(enumerate(EVENT_TYPES, 1))


def test_what_happened_before_is_not_told_again():
    before, row = row_of(facts_of(*CALL[:-1])), row_of(facts_of(*CALL))
    assert kinds(before, row) == ["call.ended"]
    assert kinds(row, replace(row, answered_by="human")) == []


def test_a_call_of_ours_that_was_refused_has_not_rung():
    queued = FactEvent(status="queued", direction="outbound", created=1.0)
    refused = FactEvent(status="ended", ended=2.0, call_ended=2.0, outcome="failed")
    assert kinds(NOTHING, row_of(facts_of(queued))) == []
    assert kinds(NOTHING, row_of(facts_of(queued, refused))) == ["call.ended"]
    assert kinds(NOTHING, row_of(facts_of(queued, replace(refused, outcome="busy")))) == ["call.ringing", "call.ended"]


def test_a_recording_is_told_of_when_its_call_is_over():
    recorded = facts_of(INBOUND, STREAM, FactEvent(recording="/rec/a.flac"))
    assert "call.recording" not in kinds(NOTHING, row_of(recorded))


def test_an_end_that_was_void_is_told_once():
    row = row_of(facts_of(INBOUND, STREAM))
    closed = join(row, close(row, 107.0))
    assert kinds(row, closed, {"call.ringing", "call.answered"}) == ["call.ended"]
    again = join(closed, row_of(facts_of(INBOUND, replace(STREAM, streams=2))))
    end = row_of(facts_of(*CALL, FactEvent(streams=2)))
    assert kinds(again, join(again, end), {"call.ringing", "call.answered", "call.ended"}) == []


def test_an_event_is_known_by_the_same_id_on_every_node():
    assert event_id("s1", "call.ended") == event_id("s1", "call.ended") != event_id("s1", "call.answered")


def test_a_payload_is_json_whatever_the_body_holds():
    row = row_of(facts_of(replace(INBOUND, body={"big": 2**70, "half": "\ud800"})))
    (event,) = new_events(NOTHING, row, (), EVENT_TYPES, now=5.0)
    told = json.loads(event.payload)
    assert (told["type"], told["timestamp"]) == ("call.ringing", "1970-01-01T00:00:05.000Z")
    assert told["data"]["body"] == {"big": 2**70, "half": "\ud800"}
