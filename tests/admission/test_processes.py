"""30 calls at once on 5 slots of real worker processes, some of which are killed: served in the end, exact at rest."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest

from tests.admission.serving import Serving, config, obedient, serving
from tests.kit.bots import place_bot
from tests.kit.proc import kill

CALLS, SLOTS, WARM = 30, 5, 2
KILLED = 5
"""Every so many calls lose a worker."""


@pytest.mark.parametrize("registry", ["memory", pytest.param("redis", marks=pytest.mark.slow)])
async def test_30_calls_on_5_slots_while_workers_are_killed(
    tmp_path: Path, registry: str, request: pytest.FixtureRequest
) -> None:
    url = "memory" if registry == "memory" else request.getfixturevalue("redis_url")
    bot = place_bot("echo", tmp_path)
    text = config(obedient(bot, min_warm=WARM, max=SLOTS, max_hold_seconds=60), top=f'registry = "{url}"')
    async with serving(tmp_path, text, bot) as served:
        pids: dict[str, list[int]] = defaultdict(list)
        watches = [asyncio.create_task(_watch(served)), asyncio.create_task(_read_notes(served, pids))]
        await asyncio.gather(*(_call(served, pids, dies=n % KILLED == 0) for n in range(CALLS)))
        await served.until_whole(WARM)
        for watch in watches:
            watch.cancel()
        seen = await asyncio.gather(*watches, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in seen), seen
        starts = served.notes("start")
        assert len({one["call"] for one in starts}) == CALLS
        assert len(starts) == CALLS + CALLS // KILLED
        assert len({one["pid"] for one in starts}) == len(starts), "a worker served twice"


async def _call(served: Serving, pids: dict[str, list[int]], *, dies: bool) -> None:
    """One call; on hold until its bot has noted that it has started, as hold audio is no bot's."""
    call, answer = await served.ring()
    async with served.carrier.phone(call, answer) as phone:
        await phone.until(lambda: bool(pids[call.id]), 30, "never served")
        await phone.hears_echo("of its bot", 0.1)
        if dies:
            kill(pids[call.id][0])
            await phone.until(lambda: len(pids[call.id]) == 2, 30, "not served again")
            await phone.hears_echo("of its second bot", 0.1)
        await phone.hang_up()


async def _read_notes(served: Serving, pids: dict[str, list[int]]) -> None:
    while True:
        for one in served.notes("start"):
            if one["pid"] not in pids[one["call"]]:
                pids[one["call"]].append(one["pid"])
        await asyncio.sleep(0.03)


async def _watch(served: Serving) -> None:
    while True:
        slots = await served.slots()
        assert slots["used"] <= slots["cap"] == SLOTS, slots
        assert slots["busy"] <= SLOTS, slots
        await asyncio.sleep(0.03)
