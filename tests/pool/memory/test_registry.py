"""What is particular to the registry in memory: it keeps nothing that has expired, and no wait lasts for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sized

import pytest

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import FactEvent
from gateway.pool.memory.registry import MemoryRegistry
from tests.kit.waiting import PATIENCE
from tests.pool.kit import LEASES, SERVICE, Clock, claimed, confirmed, host, worker


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry(clock):
    return MemoryRegistry(LEASES, clock=clock, unix_time=clock)


def kept(registry: MemoryRegistry) -> dict[str, int]:
    return {name: len(value) for name, value in vars(registry).items() if isinstance(value, Sized) and len(value)}


async def test_nothing_is_left_of_what_has_expired(registry, clock):
    for n in range(50):
        await registry.put_host(host(worker("w1"), worker("w2"), epoch=n + 1, static=n % 2 == 0))
        await registry.claim(SERVICE, f"s{n}", queue=True)
        await confirmed(registry, f"t{n}")
        await registry.claim(SERVICE, f"u{n}", queue=True)
        await registry.claim(SERVICE, f"v{n}", queue=True, avoid={"w1"})
        await registry.merge(f"s{n}", FactEvent(status="ended", aliases=(f"a{n}",)))
        await registry.set_if_absent(f"k{n}", 60.0)
        await registry.change(f"k{n}", 60.0, lambda _, __: ("text", None))
        await registry.send(f"n{n}", "message")
        await clock.advance(LEASES.reserved + 1)
        if n % 2 == 0:
            await registry.put_host(host(worker("w1"), worker("w2"), epoch=n + 1, static=True))
            await registry.beat("h1", n + 1, [worker("w1", "busy"), worker("w2", "busy")])
            await registry.beat("h1", n + 1, [worker("w1"), worker("w2")])
    await registry.wait_free(SERVICE, 0.01)
    await registry.find("anything")
    for _ in range(3):
        await clock.advance(LEASES.static + LEASES.facts)
        await registry.find("anything")
    assert kept(registry) == {}


async def test_what_is_renewed_again_and_again_takes_no_more_room(registry, clock):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await registry.merge("s1", FactEvent(starts=1))
    before = kept(registry)
    for n in range(1000):
        await clock.advance(LEASES.beat)
        await registry.beat("h1", 1, [worker("w1", "busy", "s1")])
        await registry.renew({"s1": claim.fence})
        await registry.merge("s1", FactEvent(state=b"x", state_seq=n))
    after = kept(registry)
    assert all(size <= before.get(name, 0) + 3 for name, size in after.items()), (before, after)


async def test_a_queue_that_is_joined_and_left_leaves_nothing(registry, clock):
    for n in range(100):
        await registry.claim(SERVICE, f"s{n}", queue=True)
        await registry.leave_queue(SERVICE, f"s{n}")
    await clock.advance(LEASES.queued + 1)
    await registry.find("anything")
    assert kept(registry) == {}


async def test_waiting_for_a_slot_leaves_nothing(registry):
    await asyncio.gather(*(registry.wait_free(SERVICE, 0.01) for _ in range(5)))
    waiting = asyncio.create_task(registry.wait_free(SERVICE, 30.0))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    registry.down = True
    with pytest.raises(RegistryUnavailable):
        await registry.wait_free(SERVICE, 0.01)
    assert kept(registry) == {}


async def test_a_slot_freed_just_before_waiting_began_is_not_missed(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s0")
    await registry.claim(SERVICE, "s1", queue=True)
    waiting = registry.wait_free(SERVICE, 30.0)
    releasing = asyncio.create_task(registry.release("s0", claim.fence))
    await asyncio.wait_for(waiting, PATIENCE)
    await releasing


async def test_a_beat_wakes_those_on_hold_only_if_its_host_has_room_for_them(registry):
    await registry.put_host(host(worker("w1"), cap=1, static=True))
    claim = await confirmed(registry, "s0")
    with registry._notifier.next(SERVICE) as hint:
        await registry.beat("h1", 1, [worker("w1", "busy")])
        assert not hint.is_set()
        await registry.release("s0", claim.fence)
        assert hint.is_set()
    with registry._notifier.next(SERVICE) as hint:
        await registry.beat("h1", 1, [worker("w1", "busy")])
        assert not hint.is_set()
        await registry.beat("h1", 1, [worker("w1")])
        assert hint.is_set()


async def test_one_waiters_timeout_does_not_wake_another(registry):
    long = asyncio.create_task(registry.wait_free(SERVICE, 30.0))
    await registry.wait_free(SERVICE, 0.01)
    await asyncio.sleep(0.01)
    assert not long.done()
    long.cancel()


async def test_a_short_failure_is_no_outage(registry, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    await claimed(registry, "s1")
    await clock.advance(LEASES.reserved)
    registry.down = True
    with pytest.raises(RegistryUnavailable):
        await registry.find("s1")
    registry.down = False
    await clock.advance(0.1)
    assert (await registry.slots(SERVICE)).cap == 0


async def test_closing_is_nothing(registry):
    await registry.close()


async def test_unix_time_that_is_set_ends_no_lease_and_is_what_a_claim_says(clock):
    """NTP sets it, or the machine was suspended: all hosts would be forgotten, and all claims lost."""
    wall = Clock()
    registry = MemoryRegistry(LEASES, clock=clock, unix_time=wall)
    await registry.put_host(host(worker("w1"), worker("w2")))
    claim = await confirmed(registry, "s1")
    await wall.advance(3600.0)
    assert await registry.renew({"s1": claim.fence}) == set()
    assert await registry.beat("h1", 1, (worker("w1"), worker("w2"))) == ()
    pending = await registry.claim(SERVICE, "s2")
    assert pending.expires == wall() + LEASES.reserved
    await wall.advance(0.002)  # the two clocks are not read at one moment
    assert (await registry.claim(SERVICE, "s2")).expires == pending.expires
    assert (await registry.confirm("s2", pending.attempt)).fence >= int(wall() * 1e6)
