"""Small records in memory: they are bounded, and those that are in use stay."""

from __future__ import annotations

import pytest

from gateway.pool.memory import texts
from gateway.pool.memory.texts import Texts


@pytest.fixture
def kept(monkeypatch) -> Texts:
    monkeypatch.setattr(texts, "MAX_TEXTS", 100)
    return Texts()


def write(kept: Texts, key: str, text: str = "x") -> str:
    return kept.change(key, 60.0, lambda known, _: (text, known), 0.0, 0.0)


def test_of_very_many_those_that_were_not_changed_for_longest_go(kept):
    for n in range(1000):
        write(kept, f"key {n}")
        assert write(kept, "the queue") == ("x" if n else "")
    assert write(kept, "key 999") == "x" and write(kept, "key 0") == ""
    kept.purge(61.0)
    assert len(kept) == 0


def test_what_is_emptied_leaves_nothing(kept):
    write(kept, "key")
    write(kept, "key", "")
    kept.purge(61.0)
    assert len(kept) == 0
