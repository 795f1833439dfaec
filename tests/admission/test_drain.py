"""SIGTERM with 20 calls: a deploy drops nobody, and one that may not wait any longer ends the rest in good order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from pathlib import Path

from tests.acceptance.carriers import Call, Phone
from tests.admission.serving import Serving, config, obedient, serving
from tests.kit.bots import place_bot

CALLS = 20


async def talking(served: Serving, calls: contextlib.AsyncExitStack) -> list[tuple[Call, Phone]]:
    """So many calls, all of which hear their echo."""
    return list(await asyncio.gather(*(calls.enter_async_context(served.talking()) for _ in range(CALLS))))


async def test_20_calls_are_not_cut_and_the_exit_status_is_0(tmp_path: Path) -> None:
    bot = place_bot("echo", tmp_path)
    text = config(obedient(bot, min_warm=4, max=CALLS), server="drain_seconds = 60")
    async with serving(tmp_path, text, bot) as served, contextlib.AsyncExitStack() as calls:
        phones = await talking(served, calls)
        served.gateway.terminate()
        await served.until_log("draining")
        _, refused = await served.ring()
        assert not refused.stream, "a new call was taken"
        await asyncio.gather(*(phone.hears_echo("while it drains", 0.2) for _, phone in phones))
        assert {phone.close_code for _, phone in phones} == {None}
        assert (await served.slots())["used"] == CALLS
        await asyncio.gather(*(phone.hang_up() for _, phone in phones[1:]))
        _, last = phones[0]
        await last.hears_echo("as the last one", 0.2)
        assert served.gateway.alive()
        await last.hang_up()
        assert await asyncio.to_thread(served.gateway.wait) == 0
        reasons = Counter(one["reason"] for one in served.gateway.records() if one.get("event") == "session ended")
        assert reasons == {"caller_hangup": CALLS}
        assert Counter(one["call"] for one in served.notes("end")) == Counter({call.id: 1 for call, _ in phones})
        assert len(served.notes("start")) == CALLS


async def test_a_deadline_that_passes_ends_the_rest_in_good_order(tmp_path: Path) -> None:
    bot = place_bot("echo", tmp_path)
    text = config(obedient(bot, min_warm=4, max=CALLS), server="drain_seconds = 1.5")
    async with serving(tmp_path, text, bot) as served, contextlib.AsyncExitStack() as calls:
        phones = await talking(served, calls)
        served.gateway.terminate()
        began = time.monotonic()
        await asyncio.gather(*(phone.ends() for _, phone in phones))
        assert {phone.close_code for _, phone in phones} == {1000}
        assert time.monotonic() - began > 1.2, "it did not wait"
        assert await asyncio.to_thread(served.gateway.wait) == 0
        reasons = Counter(one["reason"] for one in served.gateway.records() if one.get("event") == "session ended")
        assert reasons == {"drained": CALLS}
        assert Counter(one["call"] for one in served.notes("end")) == Counter({call.id: 1 for call, _ in phones})
