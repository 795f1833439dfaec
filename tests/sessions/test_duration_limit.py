from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.protocol import pcm
from gateway.sessions.duration_limit import LAST_WORDS, DurationLimit
from tests.kit.node import SERVICE
from tests.kit.waiting import until


class FakeBridge:
    """Keeps what the bot is told, and what waits for its last words."""

    def __init__(self) -> None:
        self.told: list[pcm.Status] = []
        self.waiting: list[object] = []

    def tell(self, message) -> None:
        self.told.append(message)

    def after_playback(self, action, now: float) -> None:
        self.waiting.append(action)


def test_a_call_is_warned_of_ended_behind_the_last_words_and_cut() -> None:
    limit, bridge, ends = DurationLimit(100.0, 0.0, 1000.0), FakeBridge(), []
    assert limit.due == 1070.0
    assert not limit.advance(bridge, lambda: ends.append(1), 1070.0)
    assert bridge.told == [pcm.Status("ending", {"seconds": 30.0})]
    assert limit.due == 1100.0
    assert not limit.advance(bridge, lambda: ends.append(1), 1100.0)
    assert not ends and len(bridge.waiting) == 1
    assert limit.due == 1100.0 + LAST_WORDS
    assert not limit.advance(bridge, lambda: ends.append(1), 1101.0)
    assert limit.advance(bridge, lambda: ends.append(1), 1100.0 + LAST_WORDS)
    assert len(bridge.told) == len(bridge.waiting) == 1


def test_a_short_call_is_warned_of_in_its_middle() -> None:
    limit = DurationLimit(10.0, 0.0, 0.0)
    assert limit.due == limit.warns_at == 5.0


def test_a_bot_that_comes_late_is_told_too() -> None:
    limit = DurationLimit(100.0, 60.0, 0.0)
    assert limit.warns_at <= 38.0
    assert limit.warning(38.0) == pcm.Status("ending", {"seconds": 2.0})


async def test_the_bots_last_words_are_heard_behind_the_limit(gateway) -> None:
    services = gateway.node.services._by_host
    services[SERVICE] = replace(services[SERVICE], max_call=0.4)
    carrier = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    status = await bot.until("status")
    assert status["status"] == "ending" and 0 < status["seconds"] <= 0.4
    began = asyncio.get_running_loop().time()
    bot.socket.send(b"\1\0" * 16000)  # a second
    mark = await carrier.until("mark")  # ours, behind the last word
    await until(lambda: len([m for m in carrier.heard if m["event"] == "media"]) == 50)
    assert not bot.of("stop")
    carrier.send(mark)
    assert (await bot.until("stop"))["reason"] == "max_duration"
    assert asyncio.get_running_loop().time() - began > 0.5
