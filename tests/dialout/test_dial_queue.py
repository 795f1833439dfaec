"""The queue of calls: a pace, an order, and what becomes of a dead node's calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialout.dial_queue import DialQueue, MustWait, NothingDue, QueueFull, Taken
from gateway.dialout.limits import DialoutLimits

LIMITS = DialoutLimits(cps=2.0, max_concurrent=3)
NOW = 1_760_000_000.0


def enter(queue: DialQueue, session: str, now: float = NOW, limits: DialoutLimits = LIMITS):
    """Enter it, and promise it where it is to wait."""
    entered = queue.enter(session, "n1", {}, now, limits)
    assert not isinstance(entered, MustWait) or queue.promise(session, "n1")
    return entered


def test_the_first_has_its_turn_at_once_and_the_next_waits():
    queue = DialQueue()
    assert enter(queue, "a") == Taken("a", "asked", {})
    assert enter(queue, "b") == MustWait(0.5)
    assert queue.take("n2", NOW + 0.4, LIMITS) == NothingDue(pytest.approx(0.1))
    assert queue.take("n2", NOW + 0.5, LIMITS) == Taken("b", "turn", {})


def test_turns_come_in_order_and_never_faster_than_the_rate():
    queue, turns, now = DialQueue(), [], NOW
    limits = replace(LIMITS, max_concurrent=100, lease=1000.0)
    for n in range(50):
        enter(queue, f"s{n}", limits=limits)
    while len(turns) < 49:
        now += 0.05
        if isinstance(taken := queue.take("n", now, limits), Taken):
            turns.append((taken.session, now))
    assert [session for session, _ in turns] == [f"s{n}" for n in range(1, 50)]
    assert all(later - earlier >= 0.49 for (_, earlier), (_, later) in pairwise(turns))
    assert now - NOW < 49 * 0.5 + 49 * 0.06


def test_no_more_run_at_once_than_may():
    queue = DialQueue()
    for n in range(3):
        assert isinstance(enter(queue, f"s{n}", NOW + n), Taken)
    assert enter(queue, "s3", NOW + 5) == MustWait(0.0)
    assert queue.take("n1", NOW + 5, LIMITS) == NothingDue(0.0)
    queue.leave("s1")
    assert queue.take("n1", NOW + 5, LIMITS) == Taken("s3", "turn", {})


def test_a_full_queue_refuses_and_says_when_to_come_again():
    queue, limits = DialQueue(), replace(LIMITS, cps=100.0, queue_length=2)
    enter(queue, "a", limits=limits)
    enter(queue, "b", limits=limits)
    enter(queue, "c", limits=limits)
    assert enter(queue, "d", limits=limits) == QueueFull(1.0)


def test_who_would_wait_too_long_is_refused_at_once():
    queue, limits = DialQueue(), replace(LIMITS, cps=0.1)
    results = [enter(queue, f"s{n}", limits=limits) for n in range(9)]
    assert [type(result) for result in results] == [Taken] + [MustWait] * 6 + [QueueFull] * 2
    assert results[-1] == QueueFull(10)


def test_what_has_waited_too_long_is_reported_not_dialled():
    queue, limits = DialQueue(), replace(LIMITS, max_concurrent=1)
    enter(queue, "a", limits=limits)
    enter(queue, "b", limits=limits)
    queue.keep("n1", ["a"], NOW + 60.0, limits)
    assert queue.take("n1", NOW + 60.1, limits) == Taken("b", "late", {})
    assert queue.waiting() == []


def test_a_dead_nodes_turn_is_given_again_and_it_must_not_send_any_more():
    queue = DialQueue()
    enter(queue, "first")
    queue.keep("n1", ["first"], NOW + 15, LIMITS)
    enter(queue, "a")
    assert queue.take("n1", NOW + 1, LIMITS) == Taken("a", "turn", {})
    assert isinstance(queue.take("n2", NOW + 15.9, LIMITS), NothingDue)
    assert queue.take("n2", NOW + 16.0, LIMITS) == Taken("a", "turn", {})
    assert not queue.send("a", "n1", NOW + 16.1, LIMITS), "it was suspended, not dead"
    assert queue.send("a", "n2", NOW + 16.1, LIMITS)
    assert not queue.send("a", "n2", NOW + 16.2, LIMITS), "once"


def test_what_was_not_promised_is_reported_and_never_dialled():
    """Who asked for it may have been told that it is not dialled, as the registry did not answer."""
    queue = DialQueue()
    assert enter(queue, "at once") == Taken("at once", "asked", {})
    assert queue.enter("behind the rate", "n1", {}, NOW, LIMITS) == MustWait(0.5)
    assert queue.take("n2", NOW + 14.9, LIMITS) == NothingDue(None), "its turn has come, but it is not promised"
    for session in ("at once", "behind the rate"):
        assert queue.take("n2", NOW + 15.0, LIMITS) == Taken(session, "late", {}, lost=True)
        assert not queue.promise(session, "n1")
        assert not queue.send(session, "n1", NOW + 15.1, LIMITS)


def test_a_promise_may_be_asked_for_again():
    queue = DialQueue()
    enter(queue, "a")
    enter(queue, "b")
    assert queue.promise("b", "n1"), "its answer was lost"
    assert queue.take("n2", NOW + 0.5, LIMITS) == Taken("b", "turn", {})
    assert queue.promise("b", "n1"), "another node dials it already"
    assert queue.send("b", "n2", NOW + 0.6, LIMITS), "and goes on with it"


def test_calls_that_are_not_promised_yet_count_as_waiting():
    queue, limits = DialQueue(), replace(LIMITS, cps=100.0, queue_length=2)
    results = [queue.enter(session, "n1", {}, NOW, limits) for session in "abcd"]
    assert [type(result) for result in results] == [Taken, MustWait, MustWait, QueueFull]


@pytest.mark.parametrize("placed", [False, True])
def test_what_a_dead_node_has_sent_is_watched_and_never_dialled_again(placed):
    queue = DialQueue()
    enter(queue, "a")
    queue.send("a", "n1", NOW + 1, LIMITS)
    if placed:
        assert queue.place("a", "n1", NOW + 1, LIMITS)
    assert queue.take("n2", NOW + 16.1, LIMITS) == Taken("a", "placed" if placed else "sent", {}, lost=True)
    assert queue.keep("n1", ["a"], NOW + 17, LIMITS) == {"a"}
    assert queue.keep("n2", ["a"], NOW + 17, LIMITS) == set()
    assert isinstance(queue.take("n3", NOW + 20, LIMITS), NothingDue)


def test_a_call_for_which_nothing_can_be_done_goes_behind_the_others():
    queue = DialQueue()
    for session in "abcd":
        enter(queue, session)
    assert queue.take("n1", NOW + 0.5, LIMITS) == Taken("b", "turn", {})
    assert queue.put_back("b", "n1")
    assert queue.waiting() == ["c", "d", "b"]
    assert not queue.put_back("c", "n1"), "it has no turn"
    assert not queue.put_back("a", "n1"), "it was not promised"


def test_a_lane_that_was_forgotten_is_entered_again():
    queue = DialQueue()
    assert queue.keep("n1", ["a"], NOW, LIMITS) == set()
    assert queue.running() == 1


def test_a_lane_reads_back_as_it_was_written():
    queue = DialQueue()
    enter(queue, "a")
    queue.enter("b", "n1", {"key": "crm"}, NOW, LIMITS)
    again = DialQueue(queue.write())
    assert again.write() == queue.write()
    assert again.entries == queue.entries and list(again.entries) == ["a", "b"]
    assert DialQueue().write() == ""


@given(
    st.one_of(
        st.text(max_size=50), st.sampled_from(["[]", "1", '{"calls": 1}', '{"calls": {"a": [1]}}', '{"next": []}'])
    )
)
def test_what_cannot_be_read_is_an_empty_lane(text):
    assert DialQueue(text).entries == {}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "promise", "take", "send", "place", "put_back", "leave", "keep"]),
        st.sampled_from(["n1", "n2"]),
        st.floats(0.0, 20.0),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_order_of_steps_sends_a_call_twice(steps):
    """Each node acts on what it once took, however late: it may have been suspended meanwhile.

    What another node than the asked one dials was promised.
    """
    queue, now, entered = DialQueue(), NOW, 0
    asked: dict[str, str] = {}
    promised: set[str] = set()
    held: dict[str, list[str]] = {"n1": [], "n2": []}
    sent: Counter[str] = Counter()
    for what, node, seconds in steps:
        now += seconds
        queue = DialQueue(queue.write())
        session = held[node][-1] if held[node] else "none"
        match what:
            case "enter":
                entered += 1
                asked[f"s{entered}"] = node
                if isinstance(queue.enter(f"s{entered}", node, {}, now, LIMITS), Taken):
                    held[node].append(f"s{entered}")
            case "promise" if node == asked.get(f"s{entered}") and queue.promise(f"s{entered}", node):
                promised.add(f"s{entered}")
            case "take" if isinstance(taken := queue.take(node, now, LIMITS), Taken) and taken.state == "turn":
                held[node].append(taken.session)
            case "send":
                sends = queue.send(session, node, now, LIMITS)
                sent[session] += sends
                assert not sends or asked[session] == node or session in promised
            case "place":
                queue.place(session, node, now, LIMITS)
            case "put_back":
                queue.put_back(session, node)
            case "leave":
                queue.leave(session)
            case "keep":
                queue.keep(node, held[node][-1:], now, LIMITS)
        assert queue.running() <= LIMITS.max_concurrent + len(held["n1"]) + len(held["n2"])
    assert all(times <= 1 for times in sent.values())
