"""Hints: who waits is woken once, and leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from gateway.pool.memory.slot_notifier import SlotNotifier


async def test_a_hint_wakes_all_who_wait_for_its_service():
    hints = SlotNotifier()
    with hints.next("a") as one, hints.next("a") as two, hints.next("b") as other:
        hints.tell("a")
        await asyncio.gather(one.wait(), two.wait())
        assert not other.is_set()
    assert len(hints) == 0


async def test_who_comes_after_a_hint_waits_for_the_next():
    hints = SlotNotifier()
    hints.tell("a")
    with hints.next("a") as early:
        hints.tell("a")
        with hints.next("a") as late:
            assert early.is_set()
            assert not late.is_set()
            assert len(hints) == 1
        assert len(hints) == 0


async def test_the_first_who_gives_up_leaves_the_others_waiting():
    hints = SlotNotifier()
    with hints.next("a") as stays:
        with pytest.raises(TimeoutError), hints.next("a"):
            raise TimeoutError
        hints.tell("a")
        assert stays.is_set()
    assert len(hints) == 0
