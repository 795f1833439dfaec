"""The one tick of the process."""

from __future__ import annotations

import asyncio

import pytest

from gateway.media.ticker import MAX_FAILURES, TICK, Ticker
from tests.kit.waiting import until


class Member:
    """Counts its ticks, and stops the clock at one of them."""

    def __init__(self, ticker: Ticker, stop_at: int) -> None:
        self.ticks = 0
        self.ticker = ticker
        self.stop_at = stop_at

    def tick(self, now: float) -> None:
        self.ticks += 1
        if self.ticks == self.stop_at:
            self.ticker.stop()


async def test_a_clock_that_a_member_stops_stands_still():
    ticker = Ticker()
    member = Member(ticker, stop_at=3)
    ticker.add(member)
    ticker.start()
    await until(lambda: member.ticks == 3)
    await asyncio.sleep(5 * TICK)
    ticker.stop()
    assert member.ticks == 3


class Failing:
    """Its ticks of these numbers raise, from 1."""

    def __init__(self, raising: range) -> None:
        self.ticks = 0
        self.raising = raising

    def tick(self, now: float) -> None:
        self.ticks += 1
        if self.ticks in self.raising:
            raise KeyError("a bug")


async def test_a_member_that_fails_once_goes_on_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    ticker, member, told = Ticker(), Failing(range(2, 3)), list[str]()
    ticker.add(member, lambda: told.append("failing"))
    ticker.start()
    await until(lambda: member.ticks >= MAX_FAILURES + 3)
    ticker.stop()
    assert told == []
    assert [record.getMessage() for record in caplog.records] == [
        "a tick raised: a bug; 0 more since the last such line"
    ]


async def test_who_added_a_member_that_only_fails_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    ticker, member, told = Ticker(), Failing(range(1, 10_000)), list[int]()
    ticker.add(member, lambda: told.append(member.ticks))
    ticker.start()
    await until(lambda: member.ticks >= 2 * MAX_FAILURES)
    ticker.stop()
    assert told == [MAX_FAILURES]
    assert 1 < len(caplog.records) < MAX_FAILURES


async def test_a_member_that_leaves_and_then_raises_is_forgotten() -> None:
    class Leaving:
        def tick(self, now: float) -> None:
            ticker.discard(self)
            raise KeyError("a bug")

    ticker = Ticker()
    ticker.add(Leaving())
    ticker.start()
    await until(lambda: not len(ticker))
    ticker.stop()
    assert not ticker._failing
