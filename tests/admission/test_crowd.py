"""200 calls at once on 20 slots, while workers die: never more sessions than slots, in order, and exact at rest.

With scripted workers; `test_processes` has real ones.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from gateway.node.services import Fallback
from tests.admission.crowd import SLOTS, Crowd

CALLS = 200
APART = 0.003
"""Seconds. Callers, bots and gateway share one loop here: 200 in one tick would make it too late to hear Redis within
its 250 ms, and the breaker would take that for an outage.
"""


def everybody() -> list[str]:
    return [f"CA-{n}" for n in range(CALLS)]


async def all_ring(crowd: Crowd, calls: list[str]) -> list[str]:
    """The first verbs of their answers."""

    async def ring(n: int, call: str) -> str:
        await asyncio.sleep(n * APART)
        return await crowd.ring(call)

    return await asyncio.gather(*(ring(n, call) for n, call in enumerate(calls)))


@pytest.mark.parametrize("dying", [0, 3], ids=["nobody dies", "workers die"])
async def test_those_on_hold_enter_in_order(crowd: Crowd, dying: int) -> None:
    """dying: workers that die in their calls whenever some hang up."""
    chance = random.Random(20)
    answers = await all_ring(crowd, everybody())
    assert set(answers) == {"Connect"}
    await crowd.until_full()
    await crowd.until_queued(CALLS - SLOTS)
    first = set(crowd.started())
    session_of = {crowd.node.signer.session_id("twilio", "", call): call for call in everybody()}
    places = {session_of[session]: place for session, place in crowd.node.registry.registry.places.items()}
    line = sorted((call for call in everybody() if call not in first), key=places.__getitem__)
    assert sorted(places[call] for call in line) == list(range(1, CALLS - SLOTS + 1))

    for n in range(20):  # one by one: each freed slot goes to the first in line
        crowd.hang_up(crowd.talking()[0])
        await crowd.until_full()
        entered = [call for call in crowd.started() if call not in first]
        assert entered == line[: n + 1]

    while len(crowd.hung_up) + SLOTS < CALLS:  # then several at once, and at each turn workers die
        talking = crowd.talking()
        leaving = chance.sample(talking, min(15, CALLS - SLOTS - len(crowd.hung_up)))
        staying = [call for call in talking if call not in leaving]
        for call in chance.sample(staying, dying):
            if crowd.killed[call] < 2:  # a third start is the last
                crowd.kill(call)
        for call in leaving:
            crowd.hang_up(call)
        await crowd.until_full()
        entered = [call for call in crowd.started() if call not in first]
        assert sorted(entered, key=places.__getitem__) == line[: len(entered)], "somebody was passed in the queue"
    for call in crowd.talking():
        crowd.hang_up(call)
    await crowd.until("everybody has been served", lambda: set(crowd.started()) == set(everybody()))
    starts = Counter(call for call, _, _ in crowd.host.started)
    assert {call: n - 1 for call, n in starts.items() if n > 1} == dict(crowd.killed)
    assert sum(crowd.killed.values()) > 6 * dying or not dying
    assert crowd.most_used == crowd.most_talking == SLOTS


@pytest.mark.parametrize(
    ("fallback", "verb"),
    [(Fallback("busy"), "Reject"), (Fallback("forward", "+15550123456"), "Dial")],
    ids=["busy", "forward"],
)
async def test_a_full_pool_refuses_or_forwards_exactly_the_rest(crowd: Crowd, fallback: Fallback, verb: str) -> None:
    chance = random.Random(20)
    crowd.set_policy(fallback)
    for turn in range(5):
        calls = [f"CA-{turn}-{n}" for n in range(CALLS)]
        ringing = asyncio.create_task(all_ring(crowd, calls))
        for _ in range(2):  # both may be of one call; a third would be its last try
            await asyncio.sleep(chance.uniform(0.0, 0.06))
            ready = [w for w in crowd.host.workers.values() if w.state == "ready"]
            if ready:  # idle, promised, or about to be linked
                chance.choice(ready).kill()
        assert Counter(await ringing) == {"Connect": SLOTS, verb: CALLS - SLOTS}
        await crowd.until_full()
        victims = crowd.talking()[:5]
        for call in victims:
            crowd.kill(call)
        await crowd.until_full()
        assert set(victims) < set(crowd.talking()), "a call was lost with its worker"
        for call in crowd.talking():
            crowd.hang_up(call)
        await crowd.until_rest()
    assert crowd.most_used == crowd.most_talking == SLOTS
