"""Those on hold keep their order, however many they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.memory.hold_queue import HoldQueues

NONE: frozenset[str] = frozenset()


class Name(str):
    """A session that counts how often it is compared with another."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_a_position_is_found_without_asking_all_that_wait():
    queues, names = HoldQueues(), [Name(f"s{n}") for n in range(1000)]
    for name in names:
        queues.join("a", name, NONE, 5.0, first=False)
    Name.compared = 0
    assert [queues.ahead("a", name) for name in names] == list(range(1000))
    assert Name.compared < 10 * 1000


steps = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["join", "first", "leave"])), max_size=40)


@given(steps)
def test_as_a_list_would_say(steps):
    queues, model = HoldQueues(), []
    for session, what in steps:
        if what == "leave":
            assert queues.leave("s", session) is (session in model)
            model = [other for other in model if other != session]
        else:
            queues.join("s", session, NONE, 5.0, first=what == "first")
            if session not in model:
                model.insert(0 if what == "first" else len(model), session)
        assert queues.length("s") == len(model)
        assert [queues.ahead("s", each) for each in model] == list(range(len(model)))
        assert queues.ahead("s", "a newcomer") == len(model)


def test_those_who_avoid_all_that_is_free_leave_it_to_the_next():
    queues = HoldQueues()
    queues.join("s", "picky", frozenset({"w1"}), 5.0, first=False)
    queues.join("s", "next", NONE, 5.0, first=False)
    asked = []

    def could_serve(session: str, avoid: frozenset[str]) -> bool:
        asked.append((session, avoid))
        return False

    assert queues.leave_some("s", 1, 1, could_serve)
    assert not queues.leave_some("s", 2, 1, could_serve)
    assert asked == [("picky", frozenset({"w1"}))] * 2


def test_queues_of_two_services_know_nothing_of_each_other():
    queues = HoldQueues()
    queues.join("s", "one", NONE, 5.0, first=False)
    queues.join("t", "one", NONE, 6.0, first=False)
    assert queues.leave("s", "one") and queues.length("t") == 1
    assert list(queues.due(7.0)) == [("t", "one")]
    assert queues.leave("t", "one") and len(queues) == 0
