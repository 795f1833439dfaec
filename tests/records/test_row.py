"""Whatever order a call's news come in, its row is the same, and says how the call was and how it ended."""

from __future__ import annotations

from itertools import permutations
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.facts import Continuation, ContinuationKind, FactEvent, Facts, Outcome, Status
from gateway.records.row import (
    FROM,
    MASK,
    CallRow,
    close,
    final,
    join,
    join_all,
    record_of,
    record_of_row,
    row_of,
    status_of,
)
from tests.records.calls import CALL, COMPLETED, HANGUP, INBOUND, STREAM, facts_of

words = st.sampled_from(["", "a", "b", "c"])
times = st.sampled_from([0.0, 1.0, 2.0, 3.0])
counts = st.integers(0, 3)
rows = st.builds(
    CallRow,
    session_id=st.just("s"),
    call_id=words,
    from_number=words,
    progress=st.sampled_from(get_args(Status)),
    end_reason=words,
    outcome=st.sampled_from(get_args(Outcome)),
    created=times,
    answered=times,
    ended=times,
    call_ended=times,
    ended_streams=counts,
    hold_ms=counts,
    bot_start_ms=counts,
    cold=st.booleans(),
    starts=counts,
    streams=counts,
    node=words,
    next_kind=st.sampled_from(get_args(ContinuationKind)),
    next_seq=counts,
    recording=words,
    body=words,
    closed_streams=counts,
    closed_at=times,
    forgotten=counts,
    updated=times,
)


@given(st.lists(rows, min_size=1, max_size=5), st.randoms())
def test_rows_are_joined_in_any_order(found, random):
    shuffled = random.sample(found, len(found))
    assert join_all(found) == join_all(shuffled)


@given(rows, rows, rows)
def test_rows_are_joined_in_any_groups(a, b, c):
    assert join(join(a, b), c) == join(a, join(b, c))


@given(rows, rows)
def test_a_row_that_is_written_twice_changes_nothing(a, b):
    assert join(join(a, b), b) == join(a, b)


def test_a_whole_call_in_the_names_of_the_contract():
    assert record_of(facts_of(*CALL)).to_dict() == {
        "session_id": "s1",
        "call_id": "CA1",
        "carrier": "twilio",
        "direction": "inbound",
        "from": "+15550100001",
        "to": "+15550100000",
        "service_host": "support.acme",
        "status": "ended",
        "end_reason": "caller_hangup",
        "created_at": "1970-01-01T00:01:40.000Z",
        "answered_at": "1970-01-01T00:01:41.000Z",
        "ended_at": "1970-01-01T00:01:52.000Z",
        "duration_s": 11.0,
        "hold_ms": 0,
        "bot_start_ms": 120,
        "cold": False,
        "attempts": 1,
        "streams": 1,
        "machine": None,
        "recording": None,
        "body": {"plan": "gold"},
    }


def test_any_order_of_events_gives_the_same_record():
    expected = record_of(facts_of(*CALL))
    assert {record_of(facts_of(*order)).to_dict().__repr__() for order in permutations(CALL)} == {
        expected.to_dict().__repr__()
    }


@given(rows)
def test_no_call_ends_before_its_answer(row):
    """A node that was killed has beaten last before it answered its last call, and clocks differ."""
    record = record_of_row(row)
    assert not record.answered_at or not record.ended_at or record.answered_at <= record.ended_at


@given(st.permutations(CALL), st.lists(st.integers(0, 4), max_size=4), st.randoms())
def test_any_order_of_upserts_gives_the_same_row(events, repeated, random):
    """Each node writes what it knows by then, and some of it late or twice."""
    known = [row_of(facts_of(*events[: n + 1])) for n in range(len(events))]
    known += [row_of(facts_of(events[n])) for n in repeated]
    random.shuffle(known)
    assert join_all(known) == row_of(facts_of(*CALL))


@pytest.mark.parametrize(
    "status, events",
    [
        ("queued", [FactEvent(status="queued", direction="outbound", created=1.0)]),
        ("ringing", [INBOUND]),
        ("answered", [INBOUND, FactEvent(answered=101.0)]),
        ("answered", [INBOUND, STREAM]),
        ("ending", [INBOUND, STREAM, HANGUP]),
        ("ended", [INBOUND, STREAM, COMPLETED]),
        ("ended", [INBOUND, COMPLETED]),
    ],
)
def test_the_status_of_a_call(status, events):
    assert status_of(row_of(facts_of(*events))) == status


TRANSFERRED = FactEvent(
    status="ended", end_reason="transferred", ended=110.0, ended_streams=1, continuation=Continuation("dial", "+1", 1)
)


def test_a_transferred_call_goes_on_until_its_carrier_says_that_it_ended():
    row = row_of(facts_of(INBOUND, STREAM, TRANSFERRED))
    assert (status_of(row), record_of_row(row).end_reason, final(row)) == ("ending", "transferred", False)
    record = record_of(facts_of(INBOUND, STREAM, TRANSFERRED, FactEvent(call_ended=170.0)))
    assert (record.status, record.end_reason, record.duration_s) == ("ended", "transferred", 69.0)


def test_a_transfer_in_vain_is_no_end():
    back = FactEvent(continuation=Continuation("attach", "transfer_failed", 2))
    again = FactEvent(status="streaming", streams=2, node="n1")
    for events in ([back], [back, again]):
        record = record_of(facts_of(INBOUND, STREAM, TRANSFERRED, *events))
        assert (record.status, record.ended_at) == ("answered", None)
    end = FactEvent(status="ended", end_reason="bot_hangup", ended=140.0, ended_streams=2)
    hangup = FactEvent(continuation=Continuation("hangup", "", 3))
    record = record_of(facts_of(INBOUND, STREAM, TRANSFERRED, back, again, end, hangup))
    assert (record.status, record.end_reason, record.ended_at) == ("ended", "bot_hangup", 140.0)


@pytest.mark.parametrize(
    "outcome, reason",
    [
        ("busy", "busy"),
        ("no-answer", "no_answer"),
        ("canceled", "canceled"),
        ("failed", "failed"),
        ("completed", "caller_hangup"),
    ],
)
def test_a_call_that_never_had_a_stream_ends_by_its_outcome(outcome, reason):
    ringing = FactEvent(status="ringing", direction="outbound", created=1.0)
    ended = FactEvent(status="ended", ended=9.0, call_ended=9.0, outcome=outcome)
    record = record_of(facts_of(ringing, ended))
    assert (record.status, record.end_reason, record.duration_s, record.bot_start_ms) == ("ended", reason, None, None)


def test_the_carriers_word_waits_for_the_sessions():
    """It may come first; what it does not say is why the session ended."""
    row = row_of(facts_of(INBOUND, STREAM, COMPLETED))
    assert (record_of_row(row).end_reason, final(row)) == ("", False)
    row = join(row, row_of(facts_of(INBOUND, STREAM, HANGUP)))
    assert (record_of_row(row).end_reason, final(row)) == ("caller_hangup", True)


def test_a_call_without_news_is_closed_as_of_unknown_end():
    row = row_of(facts_of(INBOUND, STREAM))
    record = record_of_row(join(row, close(row, 107.0)))
    assert (record.status, record.end_reason, record.ended_at) == ("ended", "unknown_end", 107.0)


@pytest.mark.parametrize(("outcome", "reason"), [("completed", "stream_lost"), ("", "stream_lost"), ("busy", "busy")])
def test_a_closed_call_ends_by_its_carriers_word(outcome, reason):
    row = row_of(facts_of(INBOUND, STREAM))
    end = CallRow(session_id="s1", call_ended=106.0, outcome=outcome)
    for order in permutations((row, close(row, 110.6), end)):
        record = record_of_row(join_all(order))
        assert (record.status, record.end_reason, record.ended_at) == ("ended", reason, 106.0)


def test_a_stream_voids_the_closing():
    row = row_of(facts_of(INBOUND, STREAM))
    again = row_of(facts_of(INBOUND, FactEvent(status="streaming", streams=2, node="n2")))
    for order in permutations((row, close(row, 107.0), again)):
        assert status_of(join_all(order)) == "answered"


def test_the_true_end_of_a_call_comes_before_a_closing():
    row = row_of(facts_of(INBOUND, STREAM))
    end = row_of(facts_of(INBOUND, STREAM, HANGUP, COMPLETED))
    for order in permutations((row, close(row, 107.0), end)):
        record = record_of_row(join_all(order))
        assert (record.end_reason, record.ended_at) == ("caller_hangup", 112.0)


def test_what_was_forgotten_does_not_come_back():
    row = row_of(facts_of(*CALL))
    forgotten = join(row, CallRow(session_id="s1", forgotten=FROM))
    for again in (forgotten, join(forgotten, row)):
        assert (again.from_number, again.to_number, again.body) == (MASK, "+15550100000", "")


def test_text_that_no_database_takes():
    facts = Facts(session="s1", from_number="a\0b\ud800" + "x" * 600, body={"deep": float("nan"), "half": "\ud800"})
    row = row_of(facts)
    assert row.from_number.startswith("ab?x") and len(row.from_number) < 600
    row.body.encode()


def test_a_body_that_is_too_large_is_left_out():
    assert row_of(Facts(session="s1", body={"a": "x" * 200_000})).body == ""
