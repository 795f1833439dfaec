"""The lane of calls: a pace, an order, and what becomes of a dead node's calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialout.lane import Idle, Lane, Refused, Taken
from gateway.dialout.limits import DialoutLimits

LIMITS = DialoutLimits(cps=2.0, max_concurrent=3)
NOW = 1_760_000_000.0


def enter(lane: Lane, session: str, now: float = NOW, limits: DialoutLimits = LIMITS):
    """Enter it, and promise it where it is to wait."""
    entered = lane.enter(session, "n1", {}, now, limits)
    assert not isinstance(entered, Idle) or lane.promise(session, "n1")
    return entered


def test_the_first_has_its_turn_at_once_and_the_next_waits():
    lane = Lane()
    assert enter(lane, "a") == Taken("a", "asked", {})
    assert enter(lane, "b") == Idle(0.5)
    assert lane.take("n2", NOW + 0.4, LIMITS) == Idle(pytest.approx(0.1))
    assert lane.take("n2", NOW + 0.5, LIMITS) == Taken("b", "turn", {})


def test_turns_come_in_order_and_never_faster_than_the_rate():
    lane, turns, now = Lane(), [], NOW
    limits = replace(LIMITS, max_concurrent=100, lease=1000.0)
    for n in range(50):
        enter(lane, f"s{n}", limits=limits)
    while len(turns) < 49:
        now += 0.05
        if isinstance(taken := lane.take("n", now, limits), Taken):
            turns.append((taken.session, now))
    assert [session for session, _ in turns] == [f"s{n}" for n in range(1, 50)]
    assert all(later - earlier >= 0.49 for (_, earlier), (_, later) in pairwise(turns))
    assert now - NOW < 49 * 0.5 + 49 * 0.06


def test_no_more_run_at_once_than_may():
    lane = Lane()
    for n in range(3):
        assert isinstance(enter(lane, f"s{n}", NOW + n), Taken)
    assert enter(lane, "s3", NOW + 5) == Idle(0.0)
    assert lane.take("n1", NOW + 5, LIMITS) == Idle(0.0)
    lane.leave("s1")
    assert lane.take("n1", NOW + 5, LIMITS) == Taken("s3", "turn", {})


def test_a_full_queue_refuses_and_says_when_to_come_again():
    lane, limits = Lane(), replace(LIMITS, cps=100.0, queue_length=2)
    enter(lane, "a", limits=limits)
    enter(lane, "b", limits=limits)
    enter(lane, "c", limits=limits)
    assert enter(lane, "d", limits=limits) == Refused(1.0)


def test_who_would_wait_too_long_is_refused_at_once():
    lane, limits = Lane(), replace(LIMITS, cps=0.1)
    results = [enter(lane, f"s{n}", limits=limits) for n in range(9)]
    assert [type(result) for result in results] == [Taken] + [Idle] * 6 + [Refused] * 2
    assert results[-1] == Refused(10)


def test_what_has_waited_too_long_is_reported_not_dialled():
    lane, limits = Lane(), replace(LIMITS, max_concurrent=1)
    enter(lane, "a", limits=limits)
    enter(lane, "b", limits=limits)
    lane.keep("n1", ["a"], NOW + 60.0, limits)
    assert lane.take("n1", NOW + 60.1, limits) == Taken("b", "late", {})
    assert lane.waiting() == []


def test_a_dead_nodes_turn_is_given_again_and_it_must_not_send_any_more():
    lane = Lane()
    enter(lane, "first")
    lane.keep("n1", ["first"], NOW + 15, LIMITS)
    enter(lane, "a")
    assert lane.take("n1", NOW + 1, LIMITS) == Taken("a", "turn", {})
    assert isinstance(lane.take("n2", NOW + 15.9, LIMITS), Idle)
    assert lane.take("n2", NOW + 16.0, LIMITS) == Taken("a", "turn", {})
    assert not lane.send("a", "n1", NOW + 16.1, LIMITS), "it was suspended, not dead"
    assert lane.send("a", "n2", NOW + 16.1, LIMITS)
    assert not lane.send("a", "n2", NOW + 16.2, LIMITS), "once"


def test_what_was_not_promised_is_reported_and_never_dialled():
    """Who asked for it may have been told that it is not dialled, as the registry did not answer."""
    lane = Lane()
    assert enter(lane, "at once") == Taken("at once", "asked", {})
    assert lane.enter("behind the rate", "n1", {}, NOW, LIMITS) == Idle(0.5)
    assert lane.take("n2", NOW + 14.9, LIMITS) == Idle(None), "its turn has come, but it is not promised"
    for session in ("at once", "behind the rate"):
        assert lane.take("n2", NOW + 15.0, LIMITS) == Taken(session, "late", {}, lost=True)
        assert not lane.promise(session, "n1")
        assert not lane.send(session, "n1", NOW + 15.1, LIMITS)


def test_a_promise_may_be_asked_for_again():
    lane = Lane()
    enter(lane, "a")
    enter(lane, "b")
    assert lane.promise("b", "n1"), "its answer was lost"
    assert lane.take("n2", NOW + 0.5, LIMITS) == Taken("b", "turn", {})
    assert lane.promise("b", "n1"), "another node dials it already"
    assert lane.send("b", "n2", NOW + 0.6, LIMITS), "and goes on with it"


def test_calls_that_are_not_promised_yet_count_as_waiting():
    lane, limits = Lane(), replace(LIMITS, cps=100.0, queue_length=2)
    results = [lane.enter(session, "n1", {}, NOW, limits) for session in "abcd"]
    assert [type(result) for result in results] == [Taken, Idle, Idle, Refused]


@pytest.mark.parametrize("placed", [False, True])
def test_what_a_dead_node_has_sent_is_watched_and_never_dialled_again(placed):
    lane = Lane()
    enter(lane, "a")
    lane.send("a", "n1", NOW + 1, LIMITS)
    if placed:
        assert lane.place("a", "n1", NOW + 1, LIMITS)
    assert lane.take("n2", NOW + 16.1, LIMITS) == Taken("a", "placed" if placed else "sent", {}, lost=True)
    assert lane.keep("n1", ["a"], NOW + 17, LIMITS) == {"a"}
    assert lane.keep("n2", ["a"], NOW + 17, LIMITS) == set()
    assert isinstance(lane.take("n3", NOW + 20, LIMITS), Idle)


def test_a_call_for_which_nothing_can_be_done_goes_behind_the_others():
    lane = Lane()
    for session in "abcd":
        enter(lane, session)
    assert lane.take("n1", NOW + 0.5, LIMITS) == Taken("b", "turn", {})
    assert lane.put_back("b", "n1")
    assert lane.waiting() == ["c", "d", "b"]
    assert not lane.put_back("c", "n1"), "it has no turn"
    assert not lane.put_back("a", "n1"), "it was not promised"


def test_a_lane_that_was_forgotten_is_entered_again():
    lane = Lane()
    assert lane.keep("n1", ["a"], NOW, LIMITS) == set()
    assert lane.running() == 1


def test_a_lane_reads_back_as_it_was_written():
    lane = Lane()
    enter(lane, "a")
    lane.enter("b", "n1", {"key": "crm"}, NOW, LIMITS)
    again = Lane(lane.write())
    assert again.write() == lane.write()
    assert again.entries == lane.entries and list(again.entries) == ["a", "b"]
    assert Lane().write() == ""


@given(
    st.one_of(
        st.text(max_size=50), st.sampled_from(["[]", "1", '{"calls": 1}', '{"calls": {"a": [1]}}', '{"next": []}'])
    )
)
def test_what_cannot_be_read_is_an_empty_lane(text):
    assert Lane(text).entries == {}


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
    lane, now, entered = Lane(), NOW, 0
    asked: dict[str, str] = {}
    promised: set[str] = set()
    held: dict[str, list[str]] = {"n1": [], "n2": []}
    sent: Counter[str] = Counter()
    for what, node, seconds in steps:
        now += seconds
        lane = Lane(lane.write())
        session = held[node][-1] if held[node] else "none"
        match what:
            case "enter":
                entered += 1
                asked[f"s{entered}"] = node
                if isinstance(lane.enter(f"s{entered}", node, {}, now, LIMITS), Taken):
                    held[node].append(f"s{entered}")
            case "promise" if node == asked.get(f"s{entered}") and lane.promise(f"s{entered}", node):
                promised.add(f"s{entered}")
            case "take" if isinstance(taken := lane.take(node, now, LIMITS), Taken) and taken.state == "turn":
                held[node].append(taken.session)
            case "send":
                sends = lane.send(session, node, now, LIMITS)
                sent[session] += sends
                assert not sends or asked[session] == node or session in promised
            case "place":
                lane.place(session, node, now, LIMITS)
            case "put_back":
                lane.put_back(session, node)
            case "leave":
                lane.leave(session)
            case "keep":
                lane.keep(node, held[node][-1:], now, LIMITS)
        assert lane.running() <= LIMITS.max_concurrent + len(held["n1"]) + len(held["n2"])
    assert all(times <= 1 for times in sent.values())
