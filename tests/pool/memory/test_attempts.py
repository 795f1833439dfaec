"""What outlives a claim: the count of attempts, and which bots are outdated."""

from __future__ import annotations

from gateway.pool.memory.attempts import Attempts

ENDED = 600.0


def confirmed(attempt: int, fence: int) -> Attempts:
    attempts = Attempts(ENDED)
    counts = attempts.of("s1", 0.0)
    counts.given = counts.confirmed = attempt
    counts.fence = fence
    return attempts


def test_an_attempt_is_spent_when_it_or_a_newer_one_was_confirmed():
    attempts = confirmed(2, fence=7)
    assert [attempts.is_spent("s1", n) for n in (-1, 0, 1, 2, 3)] == [False, False, True, True, False]
    assert not attempts.is_spent("s2", 1)


def test_older_fences_are_outdated():
    attempts = confirmed(1, fence=7)
    assert [attempts.rejects("s1", fence) for fence in (6, 7, 8)] == [True, False, False]
    assert not attempts.rejects("s2", 6)


def test_a_fence_that_is_over_is_outdated_until_a_newer_one_is_known():
    attempts = confirmed(1, fence=7)
    attempts.note_released("s1", 6)
    attempts.note_released("s1", 0)
    attempts.note_released("s2", 7)
    assert not attempts.rejects("s1", 7)
    attempts.note_released("s1", 7)
    assert attempts.rejects("s1", 7)
    assert not attempts.rejects("s1", 8)


def test_they_are_remembered_as_long_as_a_session_is_ended_and_no_longer():
    attempts = confirmed(1, fence=7)
    attempts.keep_longer("s1", 100.0)
    attempts.keep_longer("s2", 100.0)  # nothing is known of it
    attempts.purge(100.0 + ENDED - 1, ())
    assert attempts.is_spent("s1", 1)
    attempts.purge(100.0 + ENDED, ())
    assert not attempts.is_spent("s1", 1)
    assert len(attempts) == 0


def test_those_of_a_live_claim_are_kept():
    attempts = confirmed(1, fence=7)
    attempts.purge(ENDED, {"s1": None})
    assert attempts.is_spent("s1", 1)
    attempts.purge(2 * ENDED, {})
    assert len(attempts) == 0
