"""Deadlines: each key is given once, when its last deadline has passed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.memory.expiry import MAX_VOID, ExpiryQueue


def test_a_key_is_due_once():
    ends = ExpiryQueue()
    ends.set("a", 5.0)
    assert list(ends.due(4.9)) == []
    assert list(ends.due(5.0)) == ["a"]
    assert list(ends.due(9.0)) == []


def test_putting_off_a_thousand_times_costs_nothing():
    ends = ExpiryQueue()
    for n in range(1000):
        ends.set("a", 5.0 + n)
    assert len(ends) == 1
    assert list(ends.due(1003.0)) == []
    assert list(ends.due(1004.0)) == ["a"]
    assert len(ends) == 0


def test_a_deadline_may_come_nearer():
    ends = ExpiryQueue()
    ends.set("a", 50.0)
    ends.set("a", 5.0)
    assert list(ends.due(5.0)) == ["a"]
    assert list(ends.due(50.0)) == []
    assert len(ends) == 0


def test_a_key_that_is_discarded_is_never_due():
    ends = ExpiryQueue()
    ends.set("a", 5.0)
    ends.discard("a")
    ends.discard("b")
    assert list(ends.due(9.0)) == []


def test_keys_that_are_discarded_leave_nothing_behind_for_long():
    ends = ExpiryQueue()
    for n in range(10_000):
        ends.set(n, 86_400.0 + n)
        if n >= 100:
            ends.discard(n - 100)
    assert len(ends) <= 2 * 100 + MAX_VOID + 1
    assert list(ends.due(200_000.0)) == list(range(9_900, 10_000))
    assert len(ends) == 0


def test_a_deadline_that_comes_nearer_each_time_leaves_little():
    ends = ExpiryQueue()
    for n in range(1000):
        ends.set("a", 5000.0 - n)
    assert len(ends) <= MAX_VOID + 3
    assert list(ends.due(4001.0)) == ["a"]


def test_others_may_be_discarded_while_some_are_due():
    ends = ExpiryQueue()
    for n in range(1000):
        ends.set(n, float(n))
    due = []
    for key in ends.due(500.0):
        due.append(key)
        for other in range(501, 1000):
            ends.discard(other)
    assert due == list(range(501))
    assert len(ends) == 0 or list(ends.due(1000.0)) == []


def test_a_key_may_be_set_again_while_it_is_due():
    ends = ExpiryQueue()
    ends.set("a", 5.0)
    seen = []
    for key in ends.due(9.0):
        seen.append(key)
        ends.set(key, 10.0)
    assert seen == ["a"]
    assert list(ends.due(10.0)) == ["a"]


steps = st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.floats(0, 20))), max_size=30)


@given(steps, st.lists(st.floats(0, 20), max_size=5))
def test_as_a_dict_would_say(steps, moments):
    ends, model = ExpiryQueue(), {}
    for key, when in steps:
        if when is None:
            ends.discard(key)
            model.pop(key, None)
        else:
            ends.set(key, when)
            model[key] = when
    for now in sorted(moments):
        due = sorted(key for key, when in model.items() if when <= now)
        assert sorted(ends.due(now)) == due
        for key in due:
            del model[key]
