"""One peer's flood costs its own connection time, and not the calls beside it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest
from websockets.frames import Opcode

from gateway.sockets import Accept, connect
from gateway.sockets.budget import BURST, MAX_SECONDS_OVER, SMALL_READ, TURN_FRAMES, ReadBudget
from tests.kit.waiting import PATIENCE, until
from tests.sockets.test_sockets import Recorder, accept, masked, serving, shake

FLOODS = {
    "1.5 MB of {}": masked(Opcode.TEXT, b"{}") * 190_000,
    "1 MB of clear": masked(Opcode.TEXT, b'{"type":"clear"}') * 45_000,
    "1 MB of pings": masked(Opcode.PING, b"") * 170_000,
    "1 MB of empty messages": masked(Opcode.BINARY, b"") * 170_000,
}


class TurnCounter(Recorder):
    """Counts the messages that come in each turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0
        self.by_turn: Counter[int] = Counter()
        self._ticking = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    def received(self, data: bytes, text: bool) -> None:
        self.by_turn[self.turn] += 1

    def stop(self) -> None:
        self._ticking.cancel()


class Telling(Recorder):
    """Sets an event with each message, in the turn of the loop in which it comes."""

    def __init__(self, event: asyncio.Event) -> None:
        super().__init__()
        self.event = event

    def received(self, data: bytes, text: bool) -> None:
        self.event.set()


# The budget, by its own clock.


def spend_for(seconds: float, frames: int, size: int, every: float) -> tuple[ReadBudget, float]:
    """A peer that sends so much, so often; returns its budget and the longest it had to wait, in seconds."""
    budget, now, longest = ReadBudget(0.0), 0.0, 0.0
    while now < seconds:
        wait = budget.spend(frames, size, now)
        longest = max(longest, wait)
        now += max(every, wait)
    return budget, longest


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_real_time_audio_is_never_held_for_hours(rate: int) -> None:
    budget, longest = spend_for(2 * 3600, 1, rate * 2 // 50, 0.02)
    assert longest == 0.0
    assert not budget.exhausted(2 * 3600)


def test_two_minutes_of_speech_at_once_are_not_held() -> None:
    budget = ReadBudget(0.0)
    waits = [budget.spend(1, 48000 * 2 // 50, 0.0) for _ in range(120 * 50)]
    assert not any(waits)


def test_a_flood_is_held_to_the_rate_and_then_exhausts() -> None:
    budget, longest = spend_for(60, 16, 128, 0.0001)
    assert 0 < longest < 0.1
    assert budget.exhausted(60)


def test_a_flood_that_stops_in_time_is_forgotten() -> None:
    budget = ReadBudget(0.0)
    assert budget.spend(int(BURST) + 1000, 0, 0.0) > 0
    later = MAX_SECONDS_OVER - 1
    assert budget.spend(int(BURST), 0, later) > 0  # over it again, and not since the first time
    assert not budget.exhausted(MAX_SECONDS_OVER + 1)


# The connection.


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_a_flood_leaves_each_turn_of_the_loop_to_others(flood: bytes) -> None:
    handler, neighbour, answered = TurnCounter(), Recorder(echo=True), asyncio.Event()
    async with serving(lambda r: Accept(neighbour if r.path == "/n" else handler)) as port:
        _, writer, _ = await shake(port)
        honest = await connect(f"ws://127.0.0.1:{port}/n", Telling(answered), headers={}, timeout=PATIENCE)
        writer.write(flood)
        for _ in range(10):
            turn = handler.turn
            honest.send("hello")
            await asyncio.wait_for(answered.wait(), PATIENCE)
            answered.clear()
            assert handler.turn - turn < 20
        handler.stop()
        writer.transport.abort()
        honest.abort()
    assert not handler.by_turn or max(handler.by_turn.values()) <= TURN_FRAMES + SMALL_READ // 6


@pytest.mark.parametrize(("seconds", "rate"), [(5, 16000), (30, 16000), (30, 48000)])
async def test_speech_sent_at_once_arrives_whole_and_at_once(seconds: int, rate: int) -> None:
    handler, frame = Recorder(), bytes(rate * 2 // 50)
    async with serving(accept(handler)) as port:
        _, writer, _ = await shake(port)
        writer.write(masked(Opcode.BINARY, frame) * (seconds * 50))
        await until(lambda: len(handler.messages) == seconds * 50)  # sooner than it was spoken, where that is longest
        writer.close()
    assert handler.messages == [frame] * (seconds * 50)


async def test_a_flood_that_goes_on_is_closed_1008_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.sockets.budget.BURST", 500.0)
    monkeypatch.setattr("gateway.sockets.budget.RECOVERED", 100.0)
    monkeypatch.setattr("gateway.sockets.budget.MAX_SECONDS_OVER", 0.3)
    handler = Recorder()
    async with serving(accept(handler)) as port:
        reader, writer, _ = await shake(port)
        writer.write(masked(Opcode.TEXT, b"{}") * 100_000)
        assert await handler.end() == (1008, "more messages than anyone needs")
        assert (await asyncio.wait_for(reader.read(4), PATIENCE))[2:4] == (1008).to_bytes(2, "big")
        writer.transport.abort()
    assert len(handler.messages) < 3000
    assert [r.levelno for r in caplog.records if r.name == "gateway.sockets.connection"] == [logging.WARNING]


async def test_what_came_before_a_lost_connection_is_delivered_before_its_end() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        _, writer, _ = await shake(port)
        writer.write(masked(Opcode.TEXT, b"{}") * 5000)
        writer.close()
        assert await handler.end() == (1006, "")
    assert handler.messages == ["{}"] * 5000


async def test_our_abort_in_the_middle_of_a_flood_ends_it_once() -> None:
    handler = Recorder()
    async with serving(accept(handler)) as port:
        _, writer, _ = await shake(port)
        writer.write(masked(Opcode.TEXT, b"{}") * 5000)
        await until(lambda: handler.messages)
        handler.socket.abort()
        assert await handler.end() == (1006, "")
        writer.transport.abort()
    assert len(handler.messages) < 5000
