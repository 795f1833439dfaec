"""A caller who had a bot and lost it, while others are on hold: he is in the middle of a sentence, they are not."""

from __future__ import annotations

import asyncio

from tests.admission.test_crowd import SLOTS, _is, crowd, registry  # noqa: F401 - fixtures

ON_HOLD = 10


async def fill(crowd) -> list[str]:  # noqa: F811
    """Every slot talks and some are on hold; the calls that talk."""
    for n in range(SLOTS):
        await crowd.ring(f"CA-{n}")
    await crowd.until_full()
    for n in range(ON_HOLD):
        await crowd.ring(f"CA-held-{n}")

    async def held() -> bool:
        return (await crowd.slots()).queued == ON_HOLD

    await crowd.until("the others are on hold", held)
    return crowd.talking()


async def test_a_caller_whose_worker_dies_is_not_passed_by_those_on_hold(crowd):  # noqa: F811
    victim = (await fill(crowd))[0]
    starts = len(crowd.host.started)
    crowd.kill(victim)
    await crowd.until("somebody gets the slot", lambda: _is(lambda: len(crowd.host.started) > starts))
    assert crowd.host.started[starts][0] == victim
    assert (await crowd.slots()).queued == ON_HOLD


async def test_a_caller_who_waits_for_another_worker_longer_than_a_renewal_is_held_on(crowd):  # noqa: F811
    """His old claim is gone from the registry: that is no sign that somebody else serves him."""
    await fill(crowd)
    crowd.host.frozen = True
    victims = crowd.talking()[:3]
    for call in victims:
        crowd.kill(call)
    await asyncio.sleep(crowd.node.leases.renew + 0.7)
    assert [crowd.callers[call].code for call in victims] == [None, None, None]
    crowd.host.frozen = False
    crowd.host.top_up()
    for call in [call for call in crowd.talking() if call not in victims]:
        crowd.hang_up(call)
    served = {call: sum(one == call for one, _, _ in crowd.host.started) for call in victims}
    await crowd.until("all victims talk again", lambda: _is(lambda: set(victims) <= set(crowd.talking())))
    assert set(served.values()) == {1}
