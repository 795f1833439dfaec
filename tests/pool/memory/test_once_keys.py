"""Single-use keys that live for days: remembered as long as they should be, and never more than so many."""

from __future__ import annotations

from gateway.pool.memory import once_keys
from gateway.pool.memory.once_keys import LONG, LongKeys, OnceKeys

WEEK = 7 * 24 * 3600.0


def test_a_key_is_remembered_for_its_life_and_then_set_again():
    kept = OnceKeys()
    assert kept.set_if_absent("k", WEEK, "v", 0.0).first
    again = kept.set_if_absent("k", WEEK, "other", WEEK - 1)
    assert (again.first, again.value, again.age) == (False, "v", WEEK - 1)
    assert kept.set_if_absent("k", WEEK, "new", WEEK).first


def test_one_of_a_shorter_life_behind_it_ends_in_time():
    keys = LongKeys()
    keys.set_if_absent("week", WEEK, "", 0.0)
    keys.set_if_absent("day", WEEK / 7, "", 1.0)
    keys.purge(WEEK / 2)
    assert keys.set_if_absent("day", WEEK / 7, "", WEEK / 2).first
    assert not keys.set_if_absent("week", WEEK, "", WEEK / 2).first


def test_of_too_many_the_oldest_go(monkeypatch):
    monkeypatch.setattr(once_keys, "MAX_LONG_KEYS", 100)
    kept = OnceKeys()
    for n in range(1000):
        kept.set_if_absent(f"k{n}", WEEK, "", float(n))
    assert len(kept) <= 100
    assert not kept.set_if_absent("k999", WEEK, "", 1000.0).first
    assert kept.set_if_absent("k0", WEEK, "", 1000.0).first


def test_nothing_is_left_of_them_when_they_have_expired():
    kept = OnceKeys()
    for n in range(100):
        kept.set_if_absent(f"k{n}", LONG + 1 + n, "", 0.0)
    kept.purge(LONG + 200)
    assert len(kept) == 0
