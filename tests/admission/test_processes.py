"""30 calls at once on 5 slots of real worker processes, some of which are killed: served in the end, exact at rest."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.admission.serving import Serving, config, kill, obedient, place_bot, serving

CALLS, SLOTS, WARM = 30, 5, 2


@pytest.mark.parametrize("registry", ["memory", "redis"])
async def test_30_calls_on_5_slots_while_workers_are_killed(
    tmp_path: Path, registry: str, request: pytest.FixtureRequest
) -> None:
    url = "memory" if registry == "memory" else request.getfixturevalue("redis_url")
    bot = place_bot(tmp_path)
    text = config(obedient(bot, min_warm=WARM, max=SLOTS, max_hold_seconds=60), top=f'registry = "{url}"')
    async with serving(tmp_path, text, bot) as served:
        talking: dict[str, int] = {}
        watch = asyncio.create_task(_watch(served))
        kills = asyncio.create_task(_kill_some(served, talking))
        await asyncio.gather(*(_call(served, talking) for _ in range(CALLS)))
        kills.cancel()
        killed = (await asyncio.gather(kills, return_exceptions=True))[0]
        assert isinstance(killed, asyncio.CancelledError), killed
        await served.until_whole(WARM)
        watch.cancel()
        [seen] = await asyncio.gather(watch, return_exceptions=True)
        assert isinstance(seen, asyncio.CancelledError), seen
        starts = served.notes("start")
        assert len({one["call"] for one in starts}) == CALLS
        assert len(starts) > CALLS, "nobody was killed in a call"
        assert len({one["pid"] for one in starts}) == len(starts), "a worker served twice"


async def _call(served: Serving, talking: dict[str, int]) -> None:
    call, answer = await served.ring()
    async with served.carrier.phone(call, answer) as phone:
        await phone.until(lambda: bool(served.notes("start", call)), 40, "never served")
        await phone.hears_echo("of its bot", 0.1, 20)
        talking[call.id] = served.pid_of(call)
        await asyncio.sleep(0.2)
        talking.pop(call.id, None)
        await phone.hears_echo("of its bot, or the next", 0.1, 20)
        await phone.hang_up()


async def _kill_some(served: Serving, talking: dict[str, int]) -> None:
    chance = random.Random(5)
    while True:
        await asyncio.sleep(0.4)
        if talking:
            kill(talking.pop(chance.choice(sorted(talking))))


async def _watch(served: Serving) -> None:
    while True:
        slots = await served.slots()
        assert slots["used"] <= slots["cap"] == SLOTS, slots
        assert slots["busy"] <= SLOTS, slots
        await asyncio.sleep(0.02)
