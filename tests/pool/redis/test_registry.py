"""What is particular to Redis: many nodes, a server that forgets, its keys."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from gateway.errors import BadAnswer, RegistryUnavailable
from gateway.pool.facts import FactEvent
from gateway.pool.redis.client import RedisClient, _is_of_one_key
from gateway.pool.redis.registry import RedisRegistry
from gateway.pool.redis.shared_state import MERGE_TRIES
from gateway.pool.registry import Claim, Full, Stale
from gateway.protocol.workers import Running
from tests.kit.waiting import PATIENCE, SCALE, until
from tests.pool.kit import LEASES, SERVICE, Redis, claimed, confirmed, host, insistently, worker


@pytest.fixture
async def world(redis_url):
    world = Redis(redis_url)
    yield world
    await world.close()


@pytest.fixture
async def other(world):
    """A second node."""
    other = world.node()
    yield other
    await other.close()


@pytest.fixture
def registry(world):
    return world.registry


@pytest.fixture
def clock(world):
    return world.clock


# Many nodes


async def test_one_node_claims_and_another_confirms_and_renews(registry, other):
    await registry.put_host(host(worker("w1")))
    first = await claimed(registry, "s1")
    claim = await other.confirm("s1", first.attempt)
    assert claim.worker == first.worker
    assert await other.renew({"s1": claim.fence}) == set()
    assert await registry.renew({"s1": claim.fence}) == set()
    await registry.release("s1", claim.fence)
    assert await other.renew({"s1": claim.fence}) == {"s1"}


async def test_one_of_two_nodes_confirms(registry, other):
    await registry.put_host(host(worker("w1")))
    await claimed(registry, "s1")
    results = await asyncio.gather(registry.confirm("s1", 1), other.confirm("s1", 1))
    assert sorted(isinstance(result, Claim) for result in results) == [False, True]


async def test_a_slot_freed_on_one_node_wakes_another(registry, other):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s0")
    looks, freed_now = [], other._next_freed_count

    async def look(service):
        looks.append(service)
        return await freed_now(service)

    other._next_freed_count = look
    waiting = [asyncio.create_task(other.wait_free(SERVICE, 60.0 * SCALE)) for _ in range(20)]
    await until(lambda: len(looks) >= 20)  # before that, one may have counted what is freed below
    await registry.release("s0", claim.fence)
    await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)


async def test_a_beat_wakes_those_on_hold_only_if_its_host_has_room_for_them(registry):
    async def wakes(*workers) -> bool:
        before = await registry._read_freed_count(SERVICE)
        await registry.beat("h1", 1, workers)
        return await registry._read_freed_count(SERVICE) > before

    await registry.put_host(host(worker("w1"), cap=1, static=True))
    claim = await confirmed(registry, "s0")
    await registry.claim(SERVICE, "s1", queue=True)
    assert not await wakes(worker("w1", "busy"))
    await registry.release("s0", claim.fence)
    assert not await wakes(worker("w1", "busy"))
    assert await wakes(worker("w1"))
    await registry.put_host(host(cap=1))
    assert await wakes()
    await claimed(registry, "s1", queue=True)
    await registry.claim(SERVICE, "s2", queue=True)
    assert not await wakes()


async def test_a_burst_from_two_nodes_gives_exactly_the_slots(registry, other):
    await registry.put_host(host(*(worker(f"w{n}") for n in range(50)), cap=50))
    nodes = (registry, other)
    asked = (partial(nodes[n % 2].claim, SERVICE, f"s{n // 2}") for n in range(400))
    results = await asyncio.gather(*map(insistently, asked))
    claims = [result for result in results if isinstance(result, Claim)]
    assert len({claim.session for claim in claims}) == len({claim.worker.id for claim in claims}) == 50


# A server that forgets


async def test_running_calls_are_known_again_with_their_next_renewal(world, registry):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await world.flush()
    assert await registry.renew({"s1": claim.fence}) == set()
    assert await registry.get_claim("s1", claim.fence) == Stale(spent=False)  # its host is not back yet
    assert await registry.beat("h1", 1, [worker("w1")]) is None
    await registry.put_host(host(worker("w1", "busy", "s1")))
    assert (await registry.get_claim("s1", claim.fence)).worker.id == "w1"
    again = await claimed(registry, "s1")
    assert (again.attempt, again.worker.id) == (2, "w1")


async def test_a_static_workers_call_is_known_again(world, registry, clock):
    await registry.put_host(host(worker("w1"), cap=1, static=True))
    claim = await confirmed(registry, "s1")
    await world.flush()
    await registry.put_host(host(worker("w1"), cap=1, static=True))
    assert await registry.renew({"s1": claim.fence}) == set()
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    await registry.release("s1", claim.fence)
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    await registry.beat("h1", 1, [worker("w1")])
    await claimed(registry, "s2")


async def test_what_was_never_renewed_before_is_not_lost_either(world, registry, other):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await world.flush()
    await other.put_host(host(worker("w2"), name="h2"))
    await confirmed(other, "s9")
    assert await registry.renew({"s1": claim.fence}) == set()


async def test_a_session_whose_place_is_unknown_is_forgiven_for_one_lease(world, registry, other, clock):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    assert await other.renew({"s1": claim.fence}) == set()
    await world.flush()
    assert await other.renew({"s1": claim.fence}) == set()
    await clock.advance(LEASES.confirmed + 1)
    assert await other.renew({"s1": claim.fence}) == {"s1"}


async def test_after_an_outage_a_claim_that_another_node_let_expire_comes_back(world, registry, other, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s1")
    await miss(world, clock, 20.0)
    await other.put_host(host(worker("w1", "busy", "s1"), cap=1))
    assert (await other.slots(SERVICE)).used == 0
    assert await registry.renew({"s1": claim.fence}) == set()
    assert (await other.slots(SERVICE)).used == 1
    assert (await other.get_claim("s1", claim.fence)).worker.id == "w1"


async def test_it_does_not_come_back_if_a_newer_claim_was_there(world, registry, other, clock):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await miss(world, clock, 20.0)
    await other.put_host(host(worker("w2"), name="h2"))
    newer = await confirmed(other, "s1")
    await other.release("s1", newer.fence)
    assert await registry.renew({"s1": claim.fence}) == {"s1"}


async def test_it_does_not_come_back_if_it_was_released(world, registry, other, clock):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await miss(world, clock, 20.0)
    await other.slots(SERVICE)  # expires it
    await other.release("s1", claim.fence)
    assert await registry.renew({"s1": claim.fence}) == {"s1"}


async def test_it_does_not_come_back_if_another_has_its_worker(world, registry, other, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s1")
    await miss(world, clock, 20.0)
    await other.put_host(host(worker("w1"), cap=1))
    await confirmed(other, "s2")
    assert await registry.renew({"s1": claim.fence}) == {"s1"}
    assert (await other.slots(SERVICE)).used == 1


async def test_a_call_that_waits_for_its_worker_returns_only_where_there_is_room(world, registry, other, clock):
    await registry.put_host(host(cap=1))
    claim = await confirmed(registry, "s1")
    await miss(world, clock, 20.0)
    await other.put_host(host(worker("w1"), cap=1))
    newer = await confirmed(other, "s2")
    assert await registry.renew({"s1": claim.fence}) == {"s1"}
    assert isinstance(await other.get_claim("s2", newer.fence), Claim)


async def test_a_call_that_waits_for_its_worker_returns_to_no_host_that_drains(world, registry, other, clock):
    await registry.put_host(host(cap=1))
    claim = await confirmed(registry, "s1")
    await miss(world, clock, 20.0)
    await other.put_host(host(cap=1))
    await other.drain_host("h1", 1)
    assert await registry.renew({"s1": claim.fence}) == {"s1"}
    assert (await other.slots(SERVICE)).used == 0


async def test_a_reservation_takes_nothing_from_a_call_that_comes_back(world, registry, other, clock):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await miss(world, clock, 20.0)
    await other.put_host(host(worker("w2"), name="h2"))
    await claimed(other, "s1")
    assert await registry.renew({"s1": claim.fence}) == set()
    newer = await other.confirm("s1", 2)
    assert await registry.renew({"s1": claim.fence}) == {"s1"}
    assert isinstance(await other.get_claim("s1", newer.fence), Claim)


async def test_whoever_talks_is_given_room_by_whoever_does_not(world, registry, other, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s1")
    await miss(world, clock, 20.0)
    await other.put_host(host(worker("w1", "busy", "s1"), cap=1))
    assert (await claimed(other, "s2")).worker is None
    assert await registry.renew({"s1": claim.fence}) == set()
    assert (await other.slots(SERVICE)).used == 1
    assert await other.confirm("s2", 1) == Stale(spent=False)


async def test_a_server_that_lost_its_last_seconds_believes_the_newer_fence(world, registry, other, clock):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await miss(world, clock, 2.0)
    assert await registry.renew({"s1": claim.fence + 5}) == set()
    assert isinstance(await other.get_claim("s1", claim.fence + 5), Claim)
    assert (await confirmed(other, "s1")).fence > claim.fence + 5


async def test_a_replica_that_lags_is_told_where_the_call_is_now(world, registry, other, clock):
    await registry.put_host(host(worker("a1"), name="A", cap=1))
    await confirmed(registry, "s1")
    await registry.put_host(host(worker("b1"), name="B", cap=1))
    lagging = await world.dump()
    moved = await confirmed(registry, "s1", avoid=["a1"])
    await miss(world, clock, 2.0)
    await world.fail_over(lagging)
    assert await registry.renew({"s1": moved.fence}) == set()
    now = await other.get_claim("s1", moved.fence)
    assert isinstance(now, Claim)
    assert (now.host, now.worker_id, now.attempt) == ("B", "b1", moved.attempt)
    assert (await claimed(other, "s2")).worker_id == "a1", "what it left is free, and nothing else"
    assert not isinstance(await other.claim(SERVICE, "s3"), Claim)


async def test_a_replica_that_lags_takes_no_workers_of_newer_calls(world, registry, other, clock):
    await registry.put_host(host(worker("a1"), name="A", cap=1))
    await confirmed(registry, "s1")
    await registry.put_host(host(worker("b1"), name="B", cap=1))
    lagging = await world.dump()
    moved = await confirmed(registry, "s1", avoid=["a1"])
    await miss(world, clock, 2.0)
    await world.fail_over(lagging)
    newer = await confirmed(other, "s2")
    assert await registry.renew({"s1": moved.fence}) == {"s1"}
    assert isinstance(await other.get_claim("s2", newer.fence), Claim)


async def test_a_replica_that_lags_confirms_no_attempt_once_more(world, registry, other, clock):
    await registry.put_host(host(worker("w1")))
    await confirmed(registry, "s1")
    second = await claimed(registry, "s1")
    lagging = await world.dump()
    claim = await registry.confirm("s1", second.attempt)
    await miss(world, clock, 2.0)
    await world.fail_over(lagging)
    assert await registry.renew({"s1": claim.fence}) == set()
    assert await other.confirm("s1", second.attempt) == Stale(spent=True)
    assert (await other.get_claim("s1", claim.fence)).attempt == second.attempt


async def miss(world: Redis, clock, seconds: float) -> None:
    """The first node, and it alone, does not reach the server for so long."""
    await world.cut()
    with pytest.raises(RegistryUnavailable):
        await world.registry.find("s")
    await clock.advance(seconds)
    await world.mend()


# The server


async def test_scripts_that_the_server_does_not_have_are_sent(registry, world):
    await registry.put_host(host(worker("w1")))
    await registry._client.command("SCRIPT", "FLUSH")
    await claimed(registry, "s1")
    await registry._client.command("SCRIPT", "FLUSH")
    assert isinstance(await registry.confirm("s1", 1), Claim)


async def test_an_error_of_the_server_is_unavailability(registry, world):
    await registry._client.command("SET", registry._key("facts", "s1"), "x")
    await registry._client.command("DEL", registry._key("facts", "s1"))
    await registry._client.command("LPUSH", registry._key("facts", "s1"), "x")
    with pytest.raises(RegistryUnavailable, match="ResponseError"):
        await registry.merge("s1", FactEvent())


async def test_an_error_of_the_claims_pointer_is_unavailability(registry):
    await registry._client.command("LPUSH", registry._key("session", "s1"), "x")
    with pytest.raises(RegistryUnavailable, match="ResponseError"):
        await registry.claim(SERVICE, "s1")


async def test_a_claim_that_a_server_evicted_does_not_block_the_others(registry, clock):
    await registry.put_host(host(worker("w1"), cap=2))
    await confirmed(registry, "s1")
    await registry._client.command("DEL", f"{registry._tag(SERVICE)}:session:s1")
    await clock.advance(LEASES.confirmed + 1)
    await registry.put_host(host(worker("w2"), name="h2"))
    assert (await claimed(registry, "s2")).worker.id == "w2"


async def test_a_host_that_a_server_evicted_does_not_block_the_others(registry):
    await registry.put_host(host(worker("w1")))
    await registry.put_host(host(worker("w2"), name="h2", cap=1))
    await registry._client.command("DEL", f"{registry._tag(SERVICE)}:host:h1")
    assert (await claimed(registry, "s1")).worker.id == "w2"
    assert await registry.claim(SERVICE, "s2", queue=False) == Full(2)


async def test_an_evicted_claim_frees_its_unit_when_the_cap_shrinks(registry):
    await registry.put_host(host(worker("w1"), cap=2))
    await claimed(registry, "s1")
    await claimed(registry, "s2")
    await registry._client.command("DEL", f"{registry._tag(SERVICE)}:session:s1")
    assert await registry.put_host(host(worker("w1"), cap=1))
    assert (await registry.slots(SERVICE)).used == 1


async def test_a_running_call_gets_the_worker_of_an_evicted_claim(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    gone = await confirmed(registry, "s1")
    await registry._client.command("DEL", f"{registry._tag(SERVICE)}:session:s1")
    call = Running("s2", gone.fence + 1, "w1")
    assert await registry.put_host(host(worker("w1", "busy", "s2"), cap=1), [call])
    assert isinstance(await registry.get_claim("s2", call.fence), Claim)
    assert (await registry.slots(SERVICE)).used == 1


async def test_too_many_writers_of_one_session_are_told(registry, monkeypatch):
    """Another writer is always faster."""
    calls = 0

    async def beaten(self, name, key, *args):
        nonlocal calls
        calls += 1
        return [""]

    monkeypatch.setattr(RedisClient, "script", beaten)
    with pytest.raises(RegistryUnavailable, match="too many"):
        await registry.merge("s1", FactEvent())
    assert calls == MERGE_TRIES


async def test_a_cancelled_question_leaves_no_answer_behind(registry):
    """At whatever turn of the loop: asyncio.wait_for of Python 3.11 may lose a cancellation (bpo-37658)."""
    await registry.merge("s1", FactEvent(call_id="CA1"))
    for turns in range(60):
        asking = asyncio.create_task(registry.find("s1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        was_done = asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled() or was_done, turns
    assert (await registry.find("s1")).call_id == "CA1"
    assert (await registry.set_if_absent("k", 1.0)).first


async def test_keys_carry_the_tag_of_their_service_or_their_own(registry, world):
    await registry.put_host(host(worker("w1"), cap=1))
    await confirmed(registry, "s1")
    await registry.claim(SERVICE, "s2", queue=True, avoid={"w7"})
    await registry.merge("s1", FactEvent(aliases=("a",)))
    await registry.set_if_absent("k", 9.0)
    await registry.change("k", 9.0, lambda _, __: ("text", None))
    await registry.send("n", "message")
    keys = {
        key.decode().removeprefix(world._prefix + ":") async for key in world._admin.scan_iter(f"{world._prefix}:*")
    }
    state = {key for key in keys if key.startswith(f"{{{SERVICE}}}:")}
    assert {key.split(":")[1] for key in state} >= {"hosts", "host", "workers", "slots", "in_use", "session", "queue"}
    assert keys - state == {
        "birth:{}", "host:{h1}", "session:{s1}", "session:{s2}", "facts:{s1}", "alias:{a}", "once:{k}",
        "mailbox:{n}", "text:{k}",
    }  # fmt: skip


async def test_nothing_is_left_of_what_has_expired(registry, world, clock):
    for n in range(20):
        await registry.put_host(host(worker("w1"), worker("w2"), name=f"h{n}", static=n % 2 == 0))
        await registry.claim(SERVICE, f"s{n}", queue=True)
        await confirmed(registry, f"t{n}")
        await registry.claim(SERVICE, f"q{n}", queue=True, avoid={"w1"})
        await registry.merge(f"s{n}", FactEvent(status="ended", aliases=(f"a{n}",)))
        await registry.set_if_absent(f"k{n}", 60.0)
        await registry.change(f"k{n}", 60.0, lambda _, __: ("text", None))
        await registry.send(f"n{n}", "message")
        await clock.advance(LEASES.reserved + 1)
    await clock.advance(LEASES.confirmed + 1)
    await registry.slots(SERVICE)
    await clock.advance(max(LEASES.ended, LEASES.static, LEASES.facts) + 1)
    await registry.renew({"s1": 1})
    left = {key.decode().rpartition(":")[2] async for key in world._admin.scan_iter(f"{world._prefix}:*")}
    assert left == {"meta", "{}", "shift"}
    assert not registry._known_claims


async def test_a_claim_that_is_not_renewed_is_forgotten_by_its_node(registry, clock):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await clock.advance(LEASES.ended - 1)
    await registry.renew({"s1": claim.fence + 1})
    assert len(registry._known_claims) == 0


async def test_one_damaged_key_keeps_no_other_question_from_its_answer(world, registry):
    await registry.put_host(host(worker("w1")))
    await world._admin.rpush(f"{world._prefix}:facts:{{s1}}", "what no gateway writes")
    with pytest.raises(BadAnswer, match="WRONGTYPE"):
        await registry.find("s1")
    assert (await registry.slots(SERVICE)).ready == 1
    await world._admin.set(f"{world._prefix}:{{{SERVICE}}}:session:s2", "what no gateway writes")
    with pytest.raises(BadAnswer):
        await registry.claim(SERVICE, "s2")
    assert isinstance(await registry.claim(SERVICE, "s3"), Claim)


async def test_a_host_that_the_server_has_dropped_is_counted_as_nothing(world, registry):
    await registry.put_host(host(worker("w1")))
    await world._admin.delete(f"{world._prefix}:{{{SERVICE}}}:host:h1")
    assert (await registry.slots(SERVICE)).cap == 0


@pytest.mark.parametrize(
    ("error", "of_one_key"),
    [
        ("WRONGTYPE Operation against a key holding the wrong kind of value", True),
        ("user_script:13: attempt to perform arithmetic on a nil value script: 1f2e, on @user_script:13.", True),
        ("Error running script (call to f_1f2e): @user_script:3: @user_script: 3: -OOM command not allowed", False),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", False),
        ("unknown command 'GETEX'", False),
    ],
)
def test_a_server_that_takes_no_writes_is_away_and_a_damaged_key_is_none(error, of_one_key):
    assert _is_of_one_key(error) == of_one_key


async def test_closing_twice_is_nothing(redis_url):
    registry = RedisRegistry(redis_url)
    await registry.close()
    await registry.find("s1")
    await registry.close()
    await registry.close()
