"""Facts: any order of the same events gives the same facts."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.facts import Continuation, ContinuationKind, FactEvent, Facts, Status, merge

words = st.sampled_from(["", "a", "b"])
times = st.sampled_from([0.0, 1.0, 2.0])
events = st.builds(
    FactEvent,
    status=st.sampled_from(get_args(Status)),
    attempt=st.integers(0, 3),
    starts=st.integers(0, 3),
    state=st.sampled_from([b"", b"x", b"y"]),
    state_seq=st.integers(0, 3),
    continuation=st.builds(
        Continuation, kind=st.sampled_from(get_args(ContinuationKind)), value=words, seq=st.integers(0, 2)
    ),
    created=times,
    answered=times,
    ended=times,
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


def test_the_last_state_is_kept():
    facts = merge(Facts(), FactEvent(state=b"two", state_seq=2))
    assert merge(facts, FactEvent(state=b"one", state_seq=1)).state == b"two"


def test_every_field_of_an_event_is_a_field_of_the_facts():
    known = {field.name for field in fields(Facts)} - {"session"}
    assert {field.name for field in fields(FactEvent)} - {"aliases"} == known
