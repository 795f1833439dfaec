"""Media put in order: nothing waits while they are, a gap waits 60 ms, and no numbering stops the audio."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serializers.base import MediaFormat, Silence
from serializers.jitter_buffer import MAX_GAP, MAX_HELD, MAX_REMEMBERED, MAX_STRAYS, MAX_WAIT, JitterBuffer
from serializers.lost_media import MAX_CHUNKS
from tests.serializers.support import payloads, reasons

FRAME = 160
SILENCE = b"\xff" * FRAME


def frame(n: int) -> bytes:
    return n.to_bytes(4, "big") * (FRAME // 4)


def reorder(*, started_until: int = 0) -> JitterBuffer:
    """One that has given out chunks 1 to `started_until`."""
    r = JitterBuffer(MediaFormat("mulaw", 8000))
    for n in range(1, started_until + 1):
        assert payloads(r.push(n, frame(n), 0.0)) == [frame(n)]
    return r


def test_in_order_nothing_waits():
    reorder(started_until=500)


def test_two_that_changed_places_are_put_right():
    r = reorder(started_until=4)
    assert payloads(r.push(6, frame(6), 0.0)) == []
    assert payloads(r.push(5, frame(5), 0.02)) == [frame(5), frame(6)]
    assert payloads(r.push(7, frame(7), 0.04)) == [frame(7)]


def test_a_gap_waits_60_ms_and_is_then_silence():
    r = reorder(started_until=4)
    r.push(6, frame(6), 1.0)
    assert r.tick(1.0 + MAX_WAIT - 0.001) == []
    assert payloads(r.tick(1.0 + MAX_WAIT)) == [SILENCE, frame(6)]
    assert r.tick(9.0) == ()


def test_a_gap_is_closed_by_the_next_media_too_when_nothing_ticks():
    r = reorder(started_until=4)
    r.push(7, frame(7), 1.0)
    assert payloads(r.push(8, frame(8), 1.07)) == [SILENCE, SILENCE, frame(7), frame(8)]


def test_of_two_gaps_the_second_waits_for_its_own_60_ms():
    r = reorder(started_until=4)
    r.push(6, frame(6), 1.00)
    r.push(8, frame(8), 1.04)
    assert payloads(r.tick(1.06)) == [SILENCE, frame(6)]
    assert payloads(r.tick(1.10)) == [SILENCE, frame(8)]


def test_what_comes_after_its_gap_was_closed_is_late_and_then_a_duplicate():
    r = reorder(started_until=4)
    r.push(6, frame(6), 1.0)
    r.tick(1.1)
    assert reasons(r.push(5, frame(5), 1.2)) == ["late"]
    assert reasons(r.push(5, frame(5), 1.2)) == ["duplicate"]


def test_duplicates_of_the_given_and_of_the_held():
    r = reorder(started_until=4)
    assert reasons(r.push(4, frame(4), 0.0)) == ["duplicate"]
    r.push(6, frame(6), 0.0)
    assert reasons(r.push(6, frame(6), 0.0)) == ["duplicate"]
    assert payloads(r.push(5, frame(5), 0.0)) == [frame(5), frame(6)]


@pytest.mark.parametrize("first", [0, 1, 5, 500])
def test_a_stream_may_begin_with_any_number(first):
    r = reorder()
    assert payloads(r.push(first, frame(first), 0.0)) == [frame(first)]
    assert payloads(r.push(first + 1, frame(1), 0.0)) == [frame(1)]


def test_the_first_ones_may_come_in_any_order():
    r = reorder()
    assert payloads(r.push(3, frame(3), 0.0)) == []
    assert payloads(r.push(1, frame(1), 0.0)) == [frame(1)]
    assert payloads(r.push(2, frame(2), 0.0)) == [frame(2), frame(3)]


def test_a_stream_that_begins_with_two_waits_once_without_silence():
    r = reorder()
    assert payloads(r.push(2, frame(2), 0.0)) == []
    assert payloads(r.push(3, frame(3), 0.02)) == []
    assert payloads(r.tick(0.06)) == [frame(2), frame(3)]
    assert payloads(r.push(4, frame(4), 0.06)) == [frame(4)]


def test_after_a_stall_many_come_in_one_instant_and_still_find_their_order():
    r = reorder(started_until=4)
    burst = [*range(6, 6 + MAX_HELD - 2), 5]
    given_out = [p for n in burst for p in payloads(r.push(n, frame(n), 1.0))]
    assert given_out == [frame(n) for n in sorted(burst)]


def test_more_than_can_be_held_closes_the_gap_at_once():
    r = reorder(started_until=4)
    for n in range(6, 6 + MAX_HELD):
        assert payloads(r.push(n, frame(n), 1.0)) == []
    assert payloads(r.push(6 + MAX_HELD, frame(0), 1.0))[:2] == [SILENCE, frame(6)]


def test_media_without_a_number_pass():
    r = reorder(started_until=4)
    assert payloads(r.push(None, b"x", 0.0)) == [b"x"]
    assert payloads(r.push(5, frame(5), 0.0)) == [frame(5)]


def test_a_lone_outlier_changes_nothing():
    r = reorder(started_until=4)
    assert reasons(r.push(10**17, frame(0), 0.0)) == ["bad_media"]
    assert payloads(r.push(5, frame(5), 0.0)) == [frame(5)]


@pytest.mark.parametrize("restart", [1, 400, 10**17])
def test_a_numbering_that_restarts_costs_four_frames_and_no_silence(restart):
    r = reorder(started_until=100)
    heard = [p for n in range(20) for p in payloads(r.push(restart + n, frame(n), 1.0))]
    assert heard == [frame(n) for n in range(MAX_STRAYS - 1, 20)]


def test_when_the_numbering_restarts_what_was_held_comes_first():
    r = reorder(started_until=100)
    r.push(102, frame(102), 1.0)
    heard = [p for n in range(MAX_STRAYS) for p in payloads(r.push(1000 + n, frame(n), 1.0))]
    assert heard == [SILENCE, frame(102), frame(MAX_STRAYS - 1)]


def test_the_largest_gap_is_five_seconds_of_silence_at_most():
    r = reorder(started_until=4)
    r.push(5 + MAX_GAP, frame(0), 0.0)
    assert payloads(r.tick(1.0)) == [SILENCE] * MAX_GAP + [frame(0)]

    r = JitterBuffer(MediaFormat("l16", 4000))
    r.push(1, b"\x01" * 4000, 0.0)
    r.push(2 + MAX_GAP, b"\x02", 0.0)
    assert payloads(r.tick(1.0)) == [b"\x00" * 4000] * 10 + [b"\x02"]


def test_a_jump_of_some_seconds_is_lost_media():
    r = reorder(started_until=100)
    heard = [event for n in range(MAX_STRAYS) for event in r.push(251 + n, frame(n), 1.0)]
    assert payloads(heard) == [SILENCE] * (150 + MAX_STRAYS - 1) + [frame(MAX_STRAYS - 1)]
    silence = [event for event in heard if payloads([event]) == [SILENCE]]
    assert all(isinstance(event, Silence) and event.after == frame(MAX_STRAYS - 1) for event in silence)


def test_silence_is_no_longer_than_what_was_heard_and_some_seconds():
    r = reorder(started_until=10)
    events = []
    for n in range(1, 200):
        events += r.push(10 + n * MAX_GAP, frame(0), float(n))
        events += r.tick(n + MAX_WAIT)
    assert len(payloads(events)) <= 2 * 209 + 250


def test_flush_gives_out_all_that_is_held():
    r = reorder(started_until=4)
    assert r.flush() == ()
    r.push(6, frame(6), 0.0)
    r.push(9, frame(9), 0.0)
    assert payloads(r.flush()) == [SILENCE, frame(6), SILENCE, SILENCE, frame(9)]


def test_given_up_the_order_is_that_of_arrival():
    r = reorder(started_until=4)
    r.push(6, frame(6), 0.0)
    assert payloads(r.give_up()) == [SILENCE, frame(6)]
    assert [payloads(r.push(n, frame(n), 0.0)) for n in (9, 8, 8)] == [[frame(9)], [frame(8)], [frame(8)]]
    assert r.tick(9.0) == ()


def test_the_memory_of_late_ones_is_bounded():
    r = reorder(started_until=1)
    now = 0.0
    for n in range(1, 40):
        now += 1.0
        r.push(1 + n * MAX_GAP, frame(0), now)
        r.tick(now + MAX_WAIT)
    assert len(r._replaced) == MAX_REMEMBERED
    assert reasons(r.push(2, frame(2), now)) == ["duplicate"]


@given(st.randoms(use_true_random=False), st.integers(2, 80), st.integers(0, 2))
def test_any_shuffle_within_60_ms_gives_the_timeline_in_order(rng: random.Random, count, reach):
    # Each frame arrives up to `reach` frames after its time: at most 40 ms behind the one that overtook it.
    arrivals = sorted((n + rng.uniform(0, reach), n) for n in range(1, count + 1))
    r, heard = reorder(), []
    for at, n in arrivals:
        events = r.push(n, frame(n), at * 0.02)
        assert reasons(events) == []
        heard += payloads(events)
    heard += payloads(r.flush())
    assert heard == [frame(n) for n in range(1, count + 1)]


@given(st.randoms(use_true_random=False), st.sets(st.integers(2, 60)))
def test_lost_ones_are_silence_in_their_places(rng: random.Random, lost):
    arrivals = sorted((n + rng.uniform(0, 2), n) for n in range(1, 62) if n not in lost)
    r, heard = reorder(), []
    for at, n in arrivals:
        heard += payloads(r.tick(at * 0.02))
        heard += payloads(r.push(n, frame(n), at * 0.02))
    heard += payloads(r.flush())
    whole = [SILENCE if n in lost else frame(n) for n in range(1, 62)]
    # Silence for a lost one may come before a late one is told from it; then the late one is lost as well.
    assert len(heard) >= len(whole) - 3
    assert all(p in (SILENCE, *whole) for p in heard)
    if not lost & {2, 3, 4}:
        assert len(heard) == len(whole)


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 200), st.integers(0)), st.floats(0, 1e6))))
def test_no_numbering_raises_stalls_or_grows(pushes):
    r = reorder()
    for chunk, now in pushes:
        events = r.push(chunk, b"x", now)
        assert len(events) <= MAX_CHUNKS + MAX_GAP + MAX_HELD + 2
        assert len(r._held) <= MAX_HELD
        assert len(r._replaced) <= MAX_REMEMBERED
    # Whatever came before: in order for 100 ms and a wait later, audio flows.
    for n in range(1000, 1000 + MAX_STRAYS):
        r.push(10**30 + n, b"x", 2e6)
    r.tick(2e6 + 1)
    assert payloads(r.push(10**30 + 1000 + MAX_STRAYS, b"y", 2e6 + 1)) == [b"y"]
