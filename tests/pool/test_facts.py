"""Facts: late and repeated events change nothing, in whatever order they come."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import permutations
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.facts import (
    _FIRST_KEPT,
    Continuation,
    ContinuationKind,
    FactEvent,
    Facts,
    Outcome,
    Status,
    ToldStream,
    merge,
)

words = st.sampled_from(["", "a", "b"])
times = st.sampled_from([0.0, 1.0, 2.0])
events = st.builds(
    FactEvent,
    status=st.sampled_from(get_args(Status)),
    attempt=st.integers(0, 3),
    starts=st.integers(0, 3),
    state=st.sampled_from([b"", b"x", b"y"]),
    state_seq=st.integers(0, 3),
    told_stream=st.builds(ToldStream, worker=words, stream_id=words, seq=st.integers(0, 2)),
    continuation=st.builds(
        Continuation, kind=st.sampled_from(get_args(ContinuationKind)), value=words, seq=st.integers(0, 2)
    ),
    streams=st.integers(0, 3),
    node=words,
    unopened=st.integers(0, 2),
    unopened_since=st.integers(0, 2),
    created=times,
    answered=times,
    ended=times,
    ended_streams=st.integers(0, 2),
    began=times,
    began_after=st.integers(0, 2),
    call_ended=times,
    moves=st.integers(0, 2),
    outcome=st.sampled_from(get_args(Outcome)),
    hold_ms=st.integers(0, 2),
    cold=st.booleans(),
    recording_switches=st.integers(0, 3),
)


@given(st.lists(events, max_size=6), st.randoms())
def test_the_order_of_events_does_not_matter(found, random):
    """First-kept fields aside, which nodes never contradict each other about."""
    shuffled = list(found)
    random.shuffle(shuffled)
    one = other = Facts(session="s")
    for event in found:
        one = merge(one, event)
    for event in shuffled:
        other = merge(other, event)
    assert one == other


numbers = st.integers(0, 2)
first_kept = st.fixed_dictionaries(
    dict.fromkeys(_FIRST_KEPT, words)
    | {"body": st.dictionaries(words, words, max_size=2), "max_seconds": numbers, "bot_start_ms": numbers}
)


@given(st.lists(st.tuples(events, first_kept), max_size=4), st.randoms())
def test_of_values_that_differ_only_the_first_depends_on_the_order(found, random):
    """All but the fields of `_FIRST_KEPT`, which have what the first event with a value said."""
    rest = []
    for order in (found, random.sample(found, len(found))):
        facts = Facts()
        for event, values in order:
            facts = merge(facts, replace(event, **values))
        for name in _FIRST_KEPT:
            expected = next((values[name] for _, values in order if values[name]), getattr(Facts(), name))
            assert getattr(facts, name) == expected
        rest.append(replace(facts, **{name: getattr(Facts(), name) for name in _FIRST_KEPT}))
    assert rest[0] == rest[1]


@given(st.lists(events, max_size=6))
def test_an_event_that_comes_twice_changes_nothing(found):
    once = twice = Facts(session="s")
    for event in found:
        once = merge(once, event)
        twice = merge(merge(twice, event), event)
    assert once == twice


def test_first_values_are_kept():
    facts = merge(merge(Facts(), FactEvent(call_id="CA1", body={"a": 1})), FactEvent(call_id="CA2", body={"b": 2}))
    assert (facts.call_id, facts.body) == ("CA1", {"a": 1})


def test_what_several_webhooks_know_of_the_caller_is_kept_together():
    """Plivo's ring callback has the caller's name, its answer URL the attestation."""
    facts = merge(Facts(), FactEvent(caller={"stir": "A"}))
    assert merge(facts, FactEvent(caller={"stir": "B", "caller_name": "ACME"})).caller == {
        "stir": "A",
        "caller_name": "ACME",
    }


def test_the_newest_stream_says_which_node_has_the_call():
    facts = merge(Facts(), FactEvent(streams=2, node="n2"))
    assert merge(facts, FactEvent(streams=1, node="n1")).node == "n2"


def test_a_late_ringing_does_not_undo_an_answer():
    facts = merge(merge(Facts(), FactEvent(status="streaming")), FactEvent(status="ringing"))
    assert facts.status == "streaming"


def test_the_newest_continuation_wins():
    older, newer = Continuation("dial", "+15550123", 1), Continuation("hangup", "", 2)
    for order in ((older, newer), (newer, older)):
        facts = Facts()
        for continuation in order:
            facts = merge(facts, FactEvent(continuation=continuation))
        assert facts.continuation == newer


def test_a_hangup_outweighs_what_was_written_at_the_same_time():
    facts = merge(Facts(), FactEvent(continuation=Continuation("hangup", "", 1)))
    assert merge(facts, FactEvent(continuation=Continuation("attach", "", 1))).continuation.kind == "hangup"


def test_of_two_ends_the_one_behind_the_newer_stream_counts():
    """A transfer that failed brings the caller back to the bot, which then hangs up."""
    ends = (
        FactEvent(status="ended", end_reason="transferred", ended=10.0, ended_streams=1),
        FactEvent(status="ended", end_reason="bot_hangup", ended=30.0, ended_streams=2),
        FactEvent(status="ended", ended=29.0),  # the carrier's word, which knows no streams
    )
    for order in permutations(ends):
        facts = Facts()
        for event in order:
            facts = merge(facts, event)
        assert (facts.end_reason, facts.ended) == ("bot_hangup", 30.0)


def after_its_end(status: Status, kind: ContinuationKind, **later) -> Facts:
    """A session that has ended behind its first stream, and what was learned later."""
    end = FactEvent(status=status, streams=1, ended=10.0, ended_streams=1, continuation=Continuation(kind, seq=1))
    return merge(merge(Facts(), end), FactEvent(**later))


def test_an_end_lasts_until_a_stream_gives_the_call_a_bot_again():
    pressing = Continuation("digits", "12#", 2)
    ended, again = after_its_end("ended", "dial"), after_its_end("ended", "dial", streams=2, continuation=pressing)
    assert (ended.over, again.over, again.may_expire_early) == (True, False, False)
    assert merge(again, FactEvent(ended=20.0, ended_streams=2)).over
    parked, back = after_its_end("ending", ""), after_its_end("ending", "", streams=2)
    assert (parked.wraps_up, back.wraps_up) == (True, False)


def test_a_session_has_run_since_its_first_stream_on_whichever_node():
    streams = (
        FactEvent(streams=1, began=5.0),
        FactEvent(streams=2, began=30.0, began_after=1),
        FactEvent(streams=3, began=40.0, began_after=1),
    )
    for order in permutations(streams):
        facts = after_its_end("ended", "attach")
        assert facts.running_since == 0.0
        for event in order:
            facts = merge(facts, event)
        assert facts.running_since == 30.0
    assert merge(facts, FactEvent(ended=50.0, ended_streams=3)).running_since == 0.0


def test_of_an_older_nodes_facts_the_first_session_is_known():
    """It writes no `began`: a call that was never ended has run since it was answered."""
    facts = Facts(status="streaming", answered=5.0, streams=2)
    assert (facts.running_since, replace(facts, status="ended", ended_streams=1).running_since) == (5.0, 0.0)


def test_a_hangup_ends_the_call_though_its_writer_knew_of_no_newer_stream():
    assert after_its_end("ended", "hangup", streams=2).over


def test_the_last_state_is_kept():
    facts = merge(Facts(), FactEvent(state=b"two", state_seq=2))
    assert merge(facts, FactEvent(state=b"one", state_seq=1)).state == b"two"


def test_every_field_of_an_event_is_a_field_of_the_facts():
    known = {field.name for field in fields(Facts)} - {"session"}
    assert {field.name for field in fields(FactEvent)} - {"aliases"} == known
