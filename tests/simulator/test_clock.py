"""What is measured is kept free of the measuring process's own garbage collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gateway.simulator.clock import undisturbed


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    """As in a command's own process; this one's tests are frozen."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.parametrize("collecting", [True, False])
def test_nothing_of_before_is_looked_at(collecting: bool) -> None:
    looked_at: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        looked_at.append(phase)

    frozen = gc.get_freeze_count()
    with undisturbed(collecting=collecting):
        assert gc.get_freeze_count() > frozen
        gc.callbacks.append(note)
        for _ in range(10_000):
            Cycle()
        gc.callbacks.remove(note)
    assert bool(looked_at) is collecting
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)


def test_an_error_leaves_the_collector_as_it_was() -> None:
    with pytest.raises(KeyError), undisturbed(collecting=False):
        raise KeyError
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)


def test_what_was_frozen_before_stays_so() -> None:
    gc.freeze()
    with undisturbed(collecting=False):
        pass
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
