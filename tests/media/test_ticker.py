"""The one tick of the process."""

from __future__ import annotations

import asyncio

from gateway.media.ticker import TICK, Ticker
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
