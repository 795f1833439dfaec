"""Who waits for the last word: each behind its own mark, in order, and none beyond its deadline."""

from __future__ import annotations

import pytest

from gateway.media.after_playback import DRAIN_MARK, PlaybackBarriers, is_ours


@pytest.fixture
def done():
    return []


@pytest.fixture
def drains():
    return PlaybackBarriers()


def add(drains, done, *names, deadline=2.0):
    return [drains.add(lambda name=name: done.append(name), deadline) for name in names]


def test_each_waits_for_its_own_mark(drains, done):
    first, second = add(drains, done, "first", "second")
    drains.reached(first)
    assert done == ["first"]
    drains.reached(second)
    assert done == ["first", "second"]
    assert len(drains) == 0


def test_a_mark_stands_for_those_before_it_too(drains, done):
    _, second, _ = add(drains, done, "first", "second", "third")
    drains.reached(second)
    assert done == ["first", "second"]


def test_a_mark_comes_once(drains, done):
    [mark] = add(drains, done, "first")
    drains.reached(mark)
    add(drains, done, "second")
    drains.reached(mark)
    drains.reached("anything")
    assert done == ["first"]


def test_nobody_waits_beyond_his_deadline(drains, done):
    add(drains, done, "first", deadline=2.0)
    add(drains, done, "second", deadline=3.0)
    drains.tick(1.99)
    assert done == []
    drains.tick(2.0)
    assert done == ["first"]
    drains.tick(3.0)
    assert done == ["first", "second"]


def test_all_at_once_is_in_order(drains, done):
    add(drains, done, "first", "second")
    drains.finish()
    assert done == ["first", "second"]


def test_an_action_that_flushes_the_rest_keeps_the_order(drains, done):
    [mark] = [drains.add(lambda: (done.append("first"), drains.finish()), 2.0)]
    add(drains, done, "second")
    drains.reached(mark)
    assert done == ["first", "second"]


def test_their_marks_are_known_as_ours(drains, done):
    marks = add(drains, done, "first", "second")
    assert all(is_ours(mark) for mark in marks)
    assert marks[0].startswith(DRAIN_MARK)
    assert not is_ours("m")
