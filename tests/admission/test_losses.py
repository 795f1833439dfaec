"""A caller who had a bot and lost it, while others are on hold: he is in the middle of a sentence, they are not."""

from __future__ import annotations

import asyncio

from gateway.node.services import Fallback
from tests.admission.crowd import SLOTS, WARM, Crowd

ON_HOLD = 10


async def fill(crowd: Crowd) -> list[str]:
    """Every slot talks and some are on hold; the calls that talk."""
    for n in range(SLOTS):
        await crowd.ring(f"CA-{n}")
    await crowd.until_full()
    for n in range(ON_HOLD):
        await crowd.ring(f"CA-held-{n}")
    await crowd.until_queued(ON_HOLD)
    return crowd.talking()


async def test_a_caller_whose_worker_dies_is_not_passed_by_those_on_hold(crowd: Crowd) -> None:
    victim = (await fill(crowd))[0]
    starts = len(crowd.host.started)
    crowd.kill(victim)
    await crowd.until("somebody gets the slot", lambda: len(crowd.host.started) > starts)
    assert crowd.host.started[starts][0] == victim
    assert (await crowd.slots()).queued == ON_HOLD


async def test_callers_whose_host_is_lost_are_held_until_there_is_another(crowd: Crowd) -> None:
    """Their old claims are gone from the registry: that is no sign that somebody else serves them."""
    victims = await fill(crowd)
    await crowd.host.close()
    await crowd.node.registry.drop_host("h", crowd.host.epoch)
    await crowd.until_queued(SLOTS + ON_HOLD)
    await asyncio.sleep(2 * crowd.node.leases.renew)
    assert {crowd.callers[call].code for call in victims} == {None}
    assert len(crowd.sessions) == SLOTS + ON_HOLD
    await crowd.host.register(crowd.gateway.port)
    await crowd.until_full()
    for call in crowd.talking()[:ON_HOLD]:
        crowd.hang_up(call)
    await crowd.until_full()
    assert (await crowd.slots()).queued == 0


async def test_an_unanswering_worker_is_not_tried_before_its_host_has_spoken(crowd: Crowd) -> None:
    """The registry offers a dead worker until a beat: three tries in three milliseconds would lose the caller."""
    crowd.set_policy(Fallback("busy"))
    crowd.host.warm = 1
    for n in range(WARM):
        await crowd.ring(f"CA-{n}")

    async def one_is_ready() -> bool:
        return len(crowd.talking()) == WARM and (await crowd.slots()).ready == 1

    await crowd.until("one is ready", one_is_ready)
    crowd.host.stale = crowd.host.states()
    [worker] = [w for w in crowd.host.workers.values() if w.state == "ready"]
    worker.kill()
    await crowd.ring("CA-late")
    for _ in range(50):
        crowd.host.changed()
        await asyncio.sleep(0.01)
    assert crowd.callers["CA-late"].code is None
    crowd.host.stale = None
    crowd.host.changed()
    await crowd.until("he is served", lambda: "CA-late" in crowd.talking())
    crowd.host.warm = WARM
    crowd.host.top_up()
