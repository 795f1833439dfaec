"""The carrier's playback buffer, by passed-in time: 8000 bytes are a second."""

from __future__ import annotations

import pytest

from gateway.simulator.playout import Playout

FRAME = bytes(160)


def playout() -> Playout:
    return Playout(8000, 1)


def starts(p: Playout) -> list[float]:
    return [round(heard.start, 6) for heard in p.heard]


def test_payloads_are_played_back_to_back() -> None:
    p = playout()
    for now in (1.0, 1.001, 1.002):
        p.play(now, FRAME)
    assert starts(p) == [1.0, 1.02, 1.04]
    assert p.end == pytest.approx(1.06)
    assert p.buffered(1.01) == pytest.approx(0.05)


def test_a_late_payload_is_played_when_it_arrives() -> None:
    p = playout()
    p.play(1.0, FRAME)
    p.play(1.5, FRAME)
    assert starts(p) == [1.0, 1.5]


def test_played_counts_what_the_clock_has_passed() -> None:
    p = playout()
    p.play(1.0, FRAME)
    p.play(1.0, FRAME)
    assert p.played(1.03) == 240
    assert p.played(2.0) == p.total == 320


def test_a_mark_is_due_when_all_before_it_was_played() -> None:
    p = playout()
    p.play(1.0, FRAME)
    p.mark(1.0, "a")
    p.play(1.0, FRAME)
    p.mark(1.0, "b")
    assert p.due(1.01) == []
    assert p.next_due == pytest.approx(1.02)
    assert p.due(1.021) == ["a"]
    assert p.due(1.041) == ["b"]
    assert p.next_due is None


def test_a_mark_on_an_empty_buffer_is_due_at_once() -> None:
    p = playout()
    p.mark(3.0, "now")
    assert p.due(3.0) == ["now"]


def test_clear_cuts_the_payload_that_is_playing_and_drops_the_rest() -> None:
    p = playout()
    for _ in range(5):
        p.play(1.0, FRAME)
    p.mark(1.0, "end")
    assert p.clear(1.03) == ["end"]
    assert [len(heard.payload) for heard in p.heard] == [160, 80]
    assert p.total == 240
    assert p.due(9.0) == []


def test_clear_cuts_between_samples() -> None:
    p = Playout(16000, 2)
    p.play(1.0, bytes(320))
    p.clear(1.00003)
    assert p.total % 2 == 0


def test_what_follows_a_clear_is_played_at_once() -> None:
    p = playout()
    for _ in range(50):
        p.play(1.0, FRAME)
    p.clear(1.1)
    p.play(1.1, FRAME)
    assert starts(p)[-1] == 1.1


def test_clear_of_an_empty_buffer_changes_nothing() -> None:
    p = playout()
    assert p.clear(1.0) == []
    p.play(2.0, FRAME)
    p.clear(3.0)
    assert p.total == 160
