"""The book of marks: every echo is unambiguous, whatever names the bot uses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serializers.base import Mark, Rejected
from serializers.marks import MAX_OUT, MAX_USED, MarkTracker

BAD = (Rejected("bad_mark"),)


def test_a_mark_goes_out_under_its_own_name_and_comes_back_played():
    book = MarkTracker()
    assert book.put("greeting") == "greeting"
    assert book.echoed("greeting") == (Mark("greeting", True),)


def test_an_echo_twice_is_rejected():
    book = MarkTracker()
    book.put("a")
    book.echoed("a")
    assert book.echoed("a") == BAD


def test_an_unknown_name_is_rejected():
    assert MarkTracker().echoed("never") == BAD


def test_a_name_used_again_is_numbered_on_the_wire_only():
    book = MarkTracker()
    assert [book.put("a") for _ in range(3)] == ["a", "a#2", "a#3"]
    assert book.echoed("a#2") == (Mark("a", True),)
    assert book.echoed("a") == (Mark("a", True),)


def test_a_name_used_again_after_its_echo_is_numbered_too():
    book = MarkTracker()
    book.put("a")
    book.echoed("a")
    assert book.put("a") == "a#2"


def test_a_bot_that_uses_our_numbering_itself_is_not_confused():
    book = MarkTracker()
    names = ["a#2", "a", "a", "a#2", "a#2", "a#3"]
    wire = [book.put(name) for name in names]
    assert wire[:2] == ["a#2", "a"]
    assert len(set(wire)) == len(wire)
    assert [book.echoed(w) for w in wire] == [(Mark(name, True),) for name in names]


def test_flush_reports_all_once_and_swallows_their_echoes_once():
    book = MarkTracker()
    for name in ("a", "b", "a"):
        book.put(name)
    assert book.flush() == [Mark("a", False), Mark("b", False), Mark("a", False)]
    assert book.flush() == []
    assert [book.echoed(w) for w in ("a", "b", "a#2")] == [(), (), ()]
    assert book.echoed("a") == BAD


def test_a_mark_after_a_flush_is_not_taken_for_the_flushed_one():
    book = MarkTracker()
    book.put("a")
    book.flush()
    assert book.put("a") == "a#2"
    assert book.echoed("a") == ()
    assert book.echoed("a#2") == (Mark("a", True),)


def test_the_oldest_beyond_the_limit_is_forgotten_as_if_flushed():
    book = MarkTracker()
    for n in range(MAX_OUT + 1):
        book.put(str(n))
    assert book.echoed("0") == ()
    assert book.echoed("1") == (Mark("1", True),)
    assert len(book.flush()) == MAX_OUT - 1


def test_flushed_names_are_bounded():
    book = MarkTracker()
    for n in range(MAX_OUT):
        book.put(str(n))
    book.flush()
    book.put("last")
    book.flush()
    assert book.echoed("0") == BAD  # forgotten altogether
    assert book.echoed("1") == ()
    assert book.echoed("last") == ()


def test_a_used_name_is_forgotten_after_thousands_unless_it_is_out():
    book = MarkTracker()
    book.put("a")
    book.echoed("a")
    for n in range(MAX_USED):
        book.put(str(n))
        book.echoed(str(n))
    assert book.put("a") == "a"

    waiting = MarkTracker()
    waiting.put("a")
    for n in range(MAX_USED):
        waiting.put(str(n))
        waiting.echoed(str(n))
    assert waiting.put("a") == "a#2"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "echo", "flush"]))))
def test_every_mark_is_reported_exactly_once(steps):
    book, wire, put, reported = MarkTracker(), [], [], []
    for name, step in steps:
        if step == "put":
            put.append(name)
            wire.append(book.put(name))
        elif step == "echo":
            for w in wire:
                reported += [e.name for e in book.echoed(w) if isinstance(e, Mark)]
        else:
            reported += [mark.name for mark in book.flush()]
    reported += [mark.name for mark in book.flush()]
    assert sorted(reported) == sorted(put)
    assert len(set(wire)) == len(wire)
