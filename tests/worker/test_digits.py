from __future__ import annotations

import asyncio

import pytest

from gateway.worker import Audio, Dtmf, Status
from tests.worker.test_api import RATE, SECOND, Scene, settle

LONG = 60.0  # seconds that no test waits for


def press(scene: Scene, keys: str) -> None:
    for key in keys:
        scene.hear({"type": "dtmf", "digit": key})


async def test_as_many_keys_as_asked_for_are_enough() -> None:
    scene = Scene()
    entry = asyncio.create_task(scene.call.digits(max=4, end="#", timeout=LONG))
    await settle()
    press(scene, "12")
    await settle()
    assert not entry.done()
    press(scene, "34")
    assert await entry == "1234"


async def test_an_end_key_ends_the_input_and_is_not_returned() -> None:
    scene = Scene()
    press(scene, "12#")
    assert await scene.call.digits(max=4, end="#", timeout=LONG) == "12"
    press(scene, "#")
    assert await scene.call.digits(max=4, end="#", timeout=LONG) == ""
    press(scene, "#1")
    assert await scene.call.digits(max=2, timeout=LONG) == "#1"


async def test_a_pause_between_two_keys_ends_the_input() -> None:
    scene = Scene()
    press(scene, "12")
    assert await scene.call.digits(max=4, end="#", timeout=0.01) == "12"
    assert await scene.call.digits(max=4, end="#", timeout=0.01) == ""


async def test_each_key_starts_the_pause_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, loop = Scene(), asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    entry = asyncio.create_task(scene.call.digits(max=3, timeout=1.0))
    await settle()
    for key in "12":
        now += 0.9
        press(scene, key)
        await settle()
    now += 0.9
    await settle()
    assert not entry.done()
    now += 0.2
    assert await entry == "12"


async def test_the_first_pause_begins_behind_what_was_played() -> None:
    scene, loop = Scene(), asyncio.get_running_loop()
    await scene.call.play(SECOND[: RATE * 2 // 10])
    began = loop.time()
    assert await scene.call.digits(timeout=0.01) == "" and loop.time() - began >= 0.1


async def test_other_events_still_reach_the_iteration() -> None:
    scene = Scene()
    entry = asyncio.create_task(scene.call.digits(max=2, timeout=LONG))
    reader = asyncio.create_task(anext(scene.call))
    await settle()
    press(scene, "1")
    scene.hear(b"\1\1")
    scene.hear({"type": "status", "status": "ending", "seconds": 30})
    press(scene, "2")
    assert await entry == "12"
    assert await reader == Audio(b"\1\1", RATE)
    assert await anext(scene.call) == Status(Status.ENDING, {"seconds": 30})


async def test_keys_of_the_iteration_that_were_not_read_count_first() -> None:
    scene = Scene()
    press(scene, "1")
    scene.hear(b"\1\1")
    press(scene, "234")
    assert await scene.call.digits(max=2, timeout=LONG) == "12"
    assert [await anext(scene.call) for _ in range(3)] == [Dtmf("3"), Dtmf("4"), Audio(b"\1\1", RATE)]


async def test_the_end_of_the_call_returns_what_came() -> None:
    scene = Scene()
    entry = asyncio.create_task(scene.call.digits(max=4, timeout=LONG))
    await settle()
    press(scene, "7")
    scene.hear({"type": "stop", "reason": "caller_hangup"})
    assert await entry == "7"
    assert [event async for event in scene.call] == []


async def test_only_one_task_collects_keys() -> None:
    scene = Scene()
    entry = asyncio.create_task(scene.call.digits(timeout=LONG))
    await settle()
    with pytest.raises(RuntimeError, match="only one"):
        await scene.call.digits()
    entry.cancel()
    await settle()
    press(scene, "5")
    assert await scene.call.digits(timeout=LONG) == "5"
    with pytest.raises(ValueError, match="at least 1"):
        await scene.call.digits(max=0)


async def test_a_flood_of_keys_is_bounded() -> None:
    scene = Scene()
    entry = asyncio.create_task(scene.call.digits(max=1000, timeout=0.05))
    await settle()
    press(scene, "1" * 500)
    assert len(await entry) == 256


async def test_a_paused_recording_is_paused_first_on_the_next_link() -> None:
    scene = Scene()
    scene.call.pause_recording()
    scene.writer.ready()
    scene.writer.detach()
    scene.wire.sent.clear()
    scene.writer.attach(scene.wire)
    assert scene.wire.sent == [{"type": "pause_recording"}, {"type": "ready"}]
    scene.call.resume_recording()
    assert scene.wire.sent[-1] == {"type": "resume_recording"}
