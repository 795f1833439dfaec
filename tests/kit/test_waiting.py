from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.kit.waiting import until, wait_for


def thrice() -> Iterator[int]:
    """Twice nothing, then 7."""
    yield from (0, 0, 7)


async def test_what_is_found_is_returned_as_soon_as_it_is_there() -> None:
    seen = thrice()

    async def find() -> int:
        return next(later)

    later = thrice()
    assert await until(lambda: next(seen)) == 7
    assert await until(find) == 7
    waiting = thrice()
    assert wait_for(lambda: next(waiting)) == 7


async def test_what_never_is_is_said() -> None:
    with pytest.raises(AssertionError, match=r"not within .* s: await until\(lambda: 1 > 2, 0.01\)"):
        await until(lambda: 1 > 2, 0.01)
    with pytest.raises(AssertionError, match="no bread"):
        await until(lambda: None, 0.01, "no bread")
    with pytest.raises(AssertionError, match="no wine"):
        wait_for(lambda: None, 0.01, lambda: "no wine")


async def test_what_is_looked_at_and_never_answers_is_waited_for_no_longer() -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="async def hangs"):
        await until(hangs, 0.01)


async def test_an_error_in_what_is_looked_at_is_no_reason_to_wait() -> None:
    async def times_out() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await until(times_out)
