"""Who waits for the last word: each behind its own mark, in order, and none beyond its deadline."""

from __future__ import annotations

import pytest

from gateway.media.playback_barriers import BARRIER_MARK, PlaybackBarriers, is_ours


@pytest.fixture
def done():
    return []


@pytest.fixture
def barriers():
    return PlaybackBarriers()


def add(barriers, done, *names, deadline=2.0):
    return [barriers.add(lambda name=name: done.append(name), deadline) for name in names]


def test_each_waits_for_its_own_mark(barriers, done):
    first, second = add(barriers, done, "first", "second")
    barriers.reached(first)
    assert done == ["first"]
    barriers.reached(second)
    assert done == ["first", "second"]
    assert len(barriers) == 0


def test_a_mark_stands_for_those_before_it_too(barriers, done):
    _, second, _ = add(barriers, done, "first", "second", "third")
    barriers.reached(second)
    assert done == ["first", "second"]


def test_a_mark_comes_once(barriers, done):
    [mark] = add(barriers, done, "first")
    barriers.reached(mark)
    add(barriers, done, "second")
    barriers.reached(mark)
    barriers.reached("anything")
    assert done == ["first"]


def test_an_action_waits_no_longer_than_its_deadline(barriers, done):
    add(barriers, done, "first", deadline=2.0)
    add(barriers, done, "second", deadline=3.0)
    barriers.tick(1.99)
    assert done == []
    barriers.tick(2.0)
    assert done == ["first"]
    barriers.tick(3.0)
    assert done == ["first", "second"]


def test_all_at_once_is_in_order(barriers, done):
    add(barriers, done, "first", "second")
    barriers.finish()
    assert done == ["first", "second"]


def test_an_action_that_flushes_the_rest_keeps_the_order(barriers, done):
    [mark] = [barriers.add(lambda: (done.append("first"), barriers.finish()), 2.0)]
    add(barriers, done, "second")
    barriers.reached(mark)
    assert done == ["first", "second"]


def test_their_marks_are_known_as_ours(barriers, done):
    marks = add(barriers, done, "first", "second")
    assert all(is_ours(mark) for mark in marks)
    assert marks[0].startswith(BARRIER_MARK)
    assert not is_ours("m")
