"""One contract for every registry: what holds for the one in memory holds for the one on many nodes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from gateway.errors import RegistryUnavailable
from gateway.pool.facts import Continuation, FactEvent
from gateway.pool.registry import (
    MAX_FENCE_LEAD_US,
    MAX_MESSAGES,
    MESSAGE_SECONDS,
    Claim,
    Full,
    PoolCounts,
    Queued,
    Stale,
)
from gateway.protocol.workers import Running
from tests.kit.waiting import PATIENCE, SCALE
from tests.pool.kit import LEASES, SERVICE, claimed, confirmed, host, insistently, running, worker

# Claiming


async def test_a_claim_reserves_a_ready_worker(registry):
    await registry.put_host(host(worker("w1")))
    claim = await claimed(registry, "s1")
    assert claim.worker == worker("w1")
    assert (claim.attempt, claim.fence, claim.link_key, claim.fresh) == (1, 0, "key", True)


async def test_a_claim_is_idempotent_by_session(registry, clock):
    await registry.put_host(host(worker("w1"), worker("w2")))
    first = await claimed(registry, "s1")
    await clock.advance(3.0)
    assert await claimed(registry, "s1") == first


async def test_two_sessions_never_share_a_worker(registry):
    await registry.put_host(host(worker("w1"), worker("w2")))
    one, two = await claimed(registry, "s1"), await claimed(registry, "s2")
    assert {one.worker.id, two.worker.id} == {"w1", "w2"}


async def test_a_full_pool_says_so_and_how_many_hosts_it_has(registry):
    assert await registry.claim(SERVICE, "s0") == Full(hosts=0)
    await registry.put_host(host(worker("w1"), cap=1))
    await claimed(registry, "s1")
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)


async def test_a_slot_without_a_ready_worker_is_claimed_and_the_worker_follows(registry):
    await registry.put_host(host(worker("w1", "starting"), cap=1))
    claim = await confirmed(registry, "s1")
    assert claim.worker is None
    assert await registry.beat("h1", 1, [worker("w1", "starting")]) == ("s1",)
    assert (await registry.get_claim("s1", claim.fence)).worker is None
    assert await registry.beat("h1", 1, [worker("w1", "ready", "s1")]) == ()
    assert (await registry.get_claim("s1", claim.fence)).worker == worker("w1", "ready", "s1")


async def test_whoever_asks_learns_which_worker_serves_a_session(registry):
    await registry.put_host(host(worker("w1"), worker("w2")))
    assert await registry.get_claim("s1", None) == Stale(spent=False)
    await claimed(registry, "s1")
    assert await registry.get_claim("s1", None) == Stale(spent=False)  # nobody speaks to it yet
    for _ in range(2):
        claim = await confirmed(registry, "s1")
        found = await registry.get_claim("s1", None)
        assert (found.fence, found.worker.id, found.link_key) == (claim.fence, claim.worker.id, "key")
    await registry.release("s1", claim.fence)
    assert await registry.get_claim("s1", None) == Stale(spent=False)


async def test_what_a_worker_uses_is_known_from_its_last_beat(registry):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    assert (claim.worker.cpu, claim.worker.memory) == (0, 0)
    await registry.beat("h1", 1, [replace(worker("w1", "busy", "s1"), cpu=150, memory=2**40)])
    found = await registry.get_claim("s1", None)
    assert (found.worker.cpu, found.worker.memory) == (150, 2**40)


async def test_a_worker_started_for_one_session_is_not_given_to_another(registry):
    await registry.put_host(host(cap=2))
    one, two = await confirmed(registry, "s1"), await confirmed(registry, "s2")
    await registry.beat("h1", 1, [worker("w2", "ready", "s2")])
    assert (await registry.get_claim("s1", one.fence)).worker is None
    assert (await registry.get_claim("s2", two.fence)).worker.id == "w2"


async def test_an_unconfirmed_claim_expires(registry, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    await claimed(registry, "s1")
    await clock.advance(LEASES.reserved + 0.1)
    await registry.put_host(host(worker("w1"), cap=1))
    assert (await claimed(registry, "s2")).worker.id == "w1"
    assert await registry.confirm("s1", 1) == Stale(spent=False)


async def test_a_claim_without_a_worker_is_not_offered_by_static_hosts(registry):
    await registry.put_host(host(worker("w1"), cap=5, static=True))
    await claimed(registry, "s1")
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)


async def test_a_worker_to_be_avoided_is_given_up_for_another(registry):
    await registry.put_host(host(worker("w1"), worker("w2"), cap=2))
    first = await confirmed(registry, "s1")
    second = await claimed(registry, "s1", avoid={first.worker.id})
    assert second.worker.id != first.worker.id
    assert second.attempt == first.attempt + 1
    assert (await registry.slots(SERVICE)).used == 1


async def test_a_dead_workers_session_gets_another(registry):
    await registry.put_host(host(worker("w1"), worker("w2"), cap=2))
    first = await confirmed(registry, "s1")
    rest = [w for w in (worker("w1"), worker("w2")) if w.id != first.worker.id]
    await registry.beat("h1", 1, rest)
    assert (await claimed(registry, "s1")).worker == rest[0]


# Confirming


async def test_an_attempt_is_confirmed_once(registry):
    await registry.put_host(host(worker("w1")))
    claim = await claimed(registry, "s1")
    assert isinstance(await registry.confirm("s1", claim.attempt), Claim)
    assert await registry.confirm("s1", claim.attempt) == Stale(spent=True)


async def test_confirming_at_once_from_two_sides_has_one_winner(registry):
    await registry.put_host(host(worker("w1")))
    await claimed(registry, "s1")
    results = await asyncio.gather(*(registry.confirm("s1", 1) for _ in range(10)))
    assert sum(isinstance(result, Claim) for result in results) == 1


async def test_fences_only_grow_even_over_a_registry_that_forgot(world, registry, clock):
    await registry.put_host(host(worker("w1"), worker("w2")))
    first = await confirmed(registry, "s1")
    empty = await world.empty()
    await clock.advance(0.001)
    await empty.put_host(host(worker("w1"), worker("w2")))
    assert (await confirmed(empty, "s1")).fence > first.fence


async def test_a_confirmed_session_gets_a_next_attempt_on_the_same_worker(registry):
    await registry.put_host(host(worker("w1"), worker("w2")))
    first = await confirmed(registry, "s1")
    again = await claimed(registry, "s1")
    assert (again.attempt, again.worker, again.fence, again.fresh) == (2, first.worker, 0, False)
    second = await registry.confirm("s1", 2)
    assert second.fence > first.fence
    assert (await registry.slots(SERVICE)).used == 1


async def test_an_attempt_never_used_does_not_disturb_the_one_that_is(registry, clock):
    await registry.put_host(host(worker("w1")))
    first = await confirmed(registry, "s1")
    await claimed(registry, "s1")  # a repeated webhook
    for _ in range(10):
        await clock.advance(LEASES.renew)
        await registry.beat("h1", 1, [worker("w1", "busy", "s1")])
        assert await registry.renew({"s1": first.fence}) == set()
    assert (await registry.get_claim("s1", first.fence)).worker.id == "w1"


async def test_an_expired_claim_cannot_be_confirmed_but_claimed_again(registry, clock):
    await registry.put_host(host(worker("w1")))
    await claimed(registry, "s1")
    await clock.advance(LEASES.reserved + 1)
    assert await registry.confirm("s1", 1) == Stale(spent=False)


async def test_attempts_count_on_over_a_lost_claim(registry, clock):
    await registry.put_host(host(worker("w1")))
    await registry.merge("s1", FactEvent(call_id="CA1"))
    await claimed(registry, "s1")
    await clock.advance(LEASES.reserved + 1)
    await registry.put_host(host(worker("w1")))
    assert (await claimed(registry, "s1")).attempt == 2


# Renewing and releasing


async def test_a_renewed_claim_lives_and_one_that_is_not_renewed_ends(registry, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s1")
    await clock.advance(LEASES.confirmed - 1)
    await registry.put_host(host(worker("w1"), cap=1))
    assert await registry.renew({"s1": claim.fence}) == set()
    await clock.advance(LEASES.confirmed + 1)
    assert await registry.renew({"s1": claim.fence}) == {"s1"}


async def test_an_older_fence_renews_and_releases_nothing(registry):
    await registry.put_host(host(worker("w1")))
    first = await confirmed(registry, "s1")
    second = await confirmed(registry, "s1")
    assert await registry.renew({"s1": first.fence}) == {"s1"}
    await registry.release("s1", first.fence)
    assert isinstance(await registry.get_claim("s1", second.fence), Claim)


async def test_a_release_frees_the_slot_and_is_idempotent(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s1")
    for _ in range(3):
        await registry.release("s1", claim.fence)
    assert (await registry.slots(SERVICE)).used == 0
    assert (await claimed(registry, "s2")).worker.id == "w1"


async def test_an_unconfirmed_claim_is_released_with_fence_zero(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    await claimed(registry, "s1")
    await registry.release("s1", 0)
    assert (await registry.slots(SERVICE)).used == 0


# Hosts


async def test_a_host_that_falls_silent_takes_its_slots_with_it(registry, clock):
    await registry.put_host(host(worker("w1")))
    await clock.advance(LEASES.host + 0.1)
    assert await registry.claim(SERVICE, "s1") == Full(hosts=0)
    assert await registry.beat("h1", 1, []) is None


async def test_a_beat_keeps_a_host_alive(registry, clock):
    await registry.put_host(host(worker("w1")))
    for _ in range(5):
        await clock.advance(LEASES.beat)
        assert await registry.beat("h1", 1, [worker("w1")]) == ()
    assert (await claimed(registry, "s1")).worker.id == "w1"


async def test_a_beat_of_another_epoch_does_nothing(registry):
    await registry.put_host(host(worker("w1"), epoch=2))
    assert await registry.beat("h1", 1, []) is None
    assert (await claimed(registry, "s1")).worker.id == "w1"


async def test_an_older_epoch_cannot_take_a_hosts_place(registry):
    assert await registry.put_host(host(worker("w1"), epoch=2))
    assert not await registry.put_host(host(worker("old"), epoch=1))
    assert (await claimed(registry, "s1")).worker.id == "w1"


async def test_a_host_that_registers_again_keeps_claims_on_workers_it_still_has(registry):
    await registry.put_host(host(worker("w1"), worker("w2")))
    one, two = await confirmed(registry, "s1"), await confirmed(registry, "s2")
    await registry.put_host(host(worker(one.worker.id, "busy", "s1"), epoch=2))
    assert isinstance(await registry.get_claim("s1", one.fence), Claim)
    assert await registry.get_claim("s2", two.fence) == Stale(spent=False)


async def test_a_host_reports_its_running_sessions_to_a_registry_that_forgot(registry):
    run = Running("s1", 1_760_000_000_000_500, "w1")
    await registry.put_host(host(worker("w1", "busy", "s1"), worker("w2")), [run])
    claim = await registry.get_claim("s1", run.fence)
    assert claim.worker.id == "w1"
    assert (await registry.slots(SERVICE)).used == 1
    assert (await confirmed(registry, "s1")).fence > run.fence


async def test_an_older_report_of_a_running_session_is_not_believed(registry):
    await registry.put_host(host(worker("w1"), worker("w2")))
    claim = await confirmed(registry, "s1")
    other = next(w for w in ("w1", "w2") if w != claim.worker.id)
    await registry.put_host(
        host(worker("w1", "busy"), worker("w2", "busy"), epoch=2), [Running("s1", claim.fence - 1, other)]
    )
    assert (await registry.get_claim("s1", claim.fence)).worker.id == claim.worker.id


async def test_a_released_session_is_not_believed_again_if_its_bot_outstays_it(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    gone = await confirmed(registry, "s1")
    await registry.release("s1", gone.fence)
    await registry.put_host(host(worker("w1", "busy", "s1"), cap=1), [running(gone)])
    assert await registry.get_claim("s1", gone.fence) == Stale(spent=False)
    assert (await registry.slots(SERVICE)).used == 0
    await claimed(registry, "s2")


async def test_a_session_released_after_its_claim_was_lost_is_not_believed_again(registry, clock):
    await registry.put_host(host(worker("w1")))
    gone = await confirmed(registry, "s1")
    await clock.advance(LEASES.confirmed + 1)
    await registry.put_host(host(worker("w1", "busy", "s1")))
    assert await registry.get_claim("s1", gone.fence) == Stale(spent=False)
    await registry.release("s1", gone.fence)
    await registry.put_host(host(worker("w1", "busy", "s1")), [running(gone)])
    assert (await registry.slots(SERVICE)).used == 0


async def test_a_session_whose_claim_was_lost_is_believed_again(registry, clock):
    await registry.put_host(host(worker("w1")))
    call = await confirmed(registry, "s1")
    await clock.advance(LEASES.confirmed + 1)
    await registry.put_host(host(worker("w1", "busy", "s1")))
    assert (await registry.slots(SERVICE)).used == 0
    await registry.put_host(host(worker("w1", "busy", "s1")), [running(call)])
    assert (await registry.get_claim("s1", call.fence)).worker.id == "w1"


async def test_a_session_is_not_put_back_on_the_worker_that_it_avoids(registry):
    await registry.put_host(host(worker("w1"), worker("w2")))
    call = await confirmed(registry, "s1")
    hung = call.worker.id
    spare = next(w for w in ("w1", "w2") if w != hung)
    again = await claimed(registry, "s1", avoid=[hung])
    await registry.put_host(host(worker(hung, "busy", "s1"), worker(spare)), [running(call)])
    claim = await registry.confirm("s1", again.attempt)
    assert (claim.worker.id, claim.fresh) == (spare, True)
    assert (await registry.slots(SERVICE)).used == 1


async def test_news_of_a_host_that_comes_late_by_another_gateway_undoes_nothing(registry):
    await registry.put_host(host(worker("w1", "starting"), seq=1))
    assert await registry.beat("h1", 1, [worker("w1")], 3) == ()
    assert await registry.beat("h1", 1, [worker("w1", "starting")], 2) == ()
    assert (await claimed(registry, "s1")).worker == worker("w1")
    assert await registry.put_host(host(worker("w1", "starting"), seq=2))
    assert (await claimed(registry, "s1")).worker == worker("w1")


async def test_late_news_says_that_the_host_lives_all_the_same(registry, clock):
    await registry.put_host(host(worker("w1"), seq=5))
    await clock.advance(LEASES.host - 0.1)
    await registry.beat("h1", 1, [], 4)
    await clock.advance(LEASES.host - 0.1)
    assert await registry.put_host(host(seq=3))
    await clock.advance(LEASES.host - 0.1)
    assert (await claimed(registry, "s1")).worker.id == "w1"


async def test_a_host_that_starts_anew_counts_anew(registry):
    await registry.put_host(host(worker("w1"), seq=100))
    await registry.put_host(host(worker("w2"), epoch=2, seq=1))
    assert await registry.beat("h1", 2, [worker("w3")], 2) == ()
    assert (await claimed(registry, "s1")).worker.id == "w3"


async def test_a_host_that_was_forgotten_counts_anew(registry):
    await registry.put_host(host(worker("w1"), seq=100))
    await registry.drop_host("h1", 1)
    await registry.put_host(host(worker("w2"), seq=1))
    assert (await claimed(registry, "s1")).worker.id == "w2"


async def test_a_draining_host_keeps_its_calls_and_gets_no_new_ones(registry):
    await registry.put_host(host(worker("w1"), worker("w2")))
    claim = await confirmed(registry, "s1")
    await registry.drain_host("h1", 1)
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    assert isinstance(await registry.get_claim("s1", claim.fence), Claim)


async def test_a_host_that_comes_back_without_a_cap_keeps_only_calls(registry):
    await registry.put_host(host(worker("w1"), cap=2))
    talking = await confirmed(registry, "s1")
    assert (await claimed(registry, "s2")).worker is None
    await registry.put_host(host(worker("w1", "busy", "s1"), cap=0))
    assert (await registry.slots(SERVICE)).used == 1
    assert await registry.renew({"s1": talking.fence}) == set()


async def test_a_draining_host_gives_up_those_who_wait_for_a_worker(registry):
    await registry.put_host(host(worker("w1"), cap=3))
    talking, waiting = await confirmed(registry, "s1"), await confirmed(registry, "s2")
    coming = await claimed(registry, "s3")
    assert (talking.worker.id, waiting.worker, coming.worker) == ("w1", None, None)
    await registry.drain_host("h1", 1)
    assert await registry.beat("h1", 1, [worker("w1", "busy", "s1")]) == ()
    assert await registry.get_claim("s2", waiting.fence) == Stale(spent=False)
    assert await registry.confirm("s3", coming.attempt) == Stale(spent=False)
    assert await registry.get_claim("s1", talking.fence) == replace(
        talking, worker=worker("w1", "busy", "s1"), fresh=False
    )
    await registry.put_host(host(worker("v1"), worker("v2"), name="h2"))
    again = await claimed(registry, "s2")
    assert (again.host, again.attempt) == ("h2", waiting.attempt + 1)
    assert (await claimed(registry, "s3")).host == "h2"


async def test_a_dropped_host_is_forgotten_unless_it_has_come_back(registry):
    await registry.put_host(host(worker("w1"), epoch=2))
    await registry.drop_host("h1", 1)
    assert (await registry.slots(SERVICE)).cap == 2
    await registry.drop_host("h1", 2)
    assert (await registry.slots(SERVICE)).cap == 0


async def test_the_emptier_host_is_chosen(registry):
    await registry.put_host(host(worker("a1"), worker("a2"), name="a", cap=2))
    await registry.put_host(host(worker("b1"), worker("b2"), name="b", cap=2))
    first, second = await claimed(registry, "s1"), await claimed(registry, "s2")
    assert first.host != second.host


async def test_a_host_with_a_ready_worker_comes_before_an_emptier_one_without(registry):
    await registry.put_host(host(name="cold", cap=10))
    await registry.put_host(host(worker("w1"), name="warm", cap=2))
    assert (await claimed(registry, "s1")).worker.id == "w1"


# Those on hold


async def test_those_on_hold_are_served_in_their_order(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s0")
    assert await registry.claim(SERVICE, "s1", queue=True) == Queued(1)
    assert await registry.claim(SERVICE, "s2", queue=True) == Queued(2)
    await registry.release("s0", claim.fence)
    assert await registry.claim(SERVICE, "s2", queue=True) == Queued(2)
    assert (await claimed(registry, "s1", queue=True)).worker.id == "w1"
    assert await registry.claim(SERVICE, "s2", queue=True) == Queued(1)


async def test_a_newcomer_never_passes_those_on_hold(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s0")
    await registry.claim(SERVICE, "s1", queue=True)
    await registry.release("s0", claim.fence)
    assert await registry.claim(SERVICE, "new") == Full(hosts=1)


async def test_who_stops_asking_loses_his_place(registry, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    await confirmed(registry, "s0")
    await registry.claim(SERVICE, "s1", queue=True)
    await clock.advance(LEASES.queued + 0.1)
    await registry.beat("h1", 1, [worker("w1")])
    assert await registry.claim(SERVICE, "s2", queue=True) == Queued(1)


async def test_who_leaves_the_queue_is_not_waited_for(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s0")
    await registry.claim(SERVICE, "s1", queue=True)
    await registry.leave_queue(SERVICE, "s1")
    await registry.leave_queue(SERVICE, "s1")
    await registry.release("s0", claim.fence)
    assert (await claimed(registry, "s2")).worker.id == "w1"


async def test_a_freed_slot_wakes_those_who_wait(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s0")
    waiting = asyncio.create_task(registry.wait_free(SERVICE, 30.0))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await registry.release("s0", claim.fence)
    await asyncio.wait_for(waiting, PATIENCE)


async def test_a_slot_freed_between_a_claim_and_its_wait_is_not_missed(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s0")
    queued = await registry.claim(SERVICE, "s1", queue=True)
    await registry.release("s0", claim.fence)
    await asyncio.wait_for(registry.wait_free(SERVICE, 60.0 * SCALE, queued.freed), PATIENCE)


async def test_a_slot_that_was_freed_before_the_claim_wakes_no_one(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    await registry.release("s0", (await confirmed(registry, "s0")).fence)
    await confirmed(registry, "s1")
    queued = await registry.claim(SERVICE, "s2", queue=True)
    waiting = asyncio.create_task(registry.wait_free(SERVICE, 60.0 * SCALE, queued.freed))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_freed_returns_at_its_timeout(registry):
    await registry.wait_free(SERVICE, 0.01)


# Facts and keys


async def test_facts_are_found_by_session_and_by_alias(registry):
    await registry.merge("s1", FactEvent(call_id="CA1", aliases=("twilio::CA1",)))
    assert (await registry.find("s1")).call_id == "CA1"
    assert (await registry.find("twilio::CA1")).session == "s1"
    assert await registry.find("twilio::CA2") is None


async def test_an_alias_stays_with_the_session_that_had_it_first(registry):
    await registry.merge("s1", FactEvent(aliases=("a",)))
    await registry.merge("s2", FactEvent(aliases=("a",)))
    assert (await registry.find("a")).session == "s1"


async def test_facts_of_an_ended_session_are_forgotten_sooner(registry, clock):
    await registry.merge("s1", FactEvent(status="ended", aliases=("a",)))
    await registry.merge("s2", FactEvent(status="streaming"))
    await clock.advance(LEASES.ended + 1)
    assert await registry.find("s1") is None
    assert await registry.find("a") is None
    assert await registry.find("s2") is not None


async def test_facts_of_a_call_that_goes_on_after_its_session_are_kept(registry, clock):
    """A transfer's dial failed: the call has a bot again, and may go on for hours without a write."""
    await registry.merge("s1", FactEvent(status="ended", continuation=Continuation("dial", "+15550123", 1)))
    await registry.merge("s1", FactEvent(continuation=Continuation("attach", "transfer_failed", 2)))
    await clock.advance(LEASES.ended + 1)
    assert await registry.find("s1") is not None
    await registry.merge("s1", FactEvent(call_ended=1.0))
    await clock.advance(LEASES.ended + 1)
    assert await registry.find("s1") is None


async def test_once_is_true_once_and_remembers_what_the_first_one_said(registry, clock):
    assert (await registry.set_if_absent("nonce", 60.0, "digest")).first
    await clock.advance(5.0)
    again = await registry.set_if_absent("nonce", 60.0, "other")
    assert (again.first, again.value, again.age) == (False, "digest", pytest.approx(5.0, abs=1.0))
    await clock.advance(56.0)
    assert (await registry.set_if_absent("nonce", 60.0)).first


async def test_a_text_is_changed_by_what_it_was_and_the_time(registry, clock):
    def add(text: str, now: float) -> tuple[str, tuple[str, float]]:
        return f"{text}x", (text, now)

    before, first = await registry.change("k", 60.0, add)
    await clock.advance(20.0)
    after, second = await registry.change("k", 60.0, add)
    assert (before, after) == ("", "x")
    assert second - first == pytest.approx(20.0, abs=19.0)
    assert (await registry.change("other", 60.0, add))[0] == ""


async def test_changes_of_a_text_at_once_are_all_made(registry):
    await asyncio.gather(*(registry.change("k", 60.0, lambda text, _: (f"{text}x", None)) for _ in range(20)))
    assert await registry.change("k", 60.0, lambda text, _: (text, text)) == "x" * 20


async def test_a_text_goes_when_it_is_emptied_or_left_alone(registry, clock):
    await registry.change("k", 60.0, lambda _, __: ("x", None))
    await registry.change("k", 60.0, lambda _, __: ("", None))
    assert await registry.change("k", 60.0, lambda text, _: ("y", text)) == ""
    await clock.advance(59.0)
    assert await registry.change("k", 60.0, lambda text, _: (text, text)) == "y"
    await clock.advance(61.0)
    assert await registry.change("k", 60.0, lambda text, _: (text, text)) == ""


async def test_a_text_that_is_only_read_is_kept_no_longer(registry, clock):
    await registry.change("k", 60.0, lambda _, __: ("x", None))
    await clock.advance(40)
    assert await registry.change("k", 60.0, lambda text, _: (text, text)) == "x"
    await clock.advance(21)
    assert await registry.change("k", 60.0, lambda text, _: (text, text)) == ""


async def test_any_number_of_writers_of_the_same_facts_lose_nothing(registry):
    events = [FactEvent(starts=n, aliases=(f"a{n}",)) for n in range(30)]
    await asyncio.gather(*(registry.merge("s1", event) for event in events))
    assert (await registry.find("s1")).starts == 29
    assert all([(await registry.find(f"a{n}")).session == "s1" for n in range(30)])


async def test_facts_come_back_as_they_were(registry):
    event = FactEvent(
        carrier="twilio",
        body={"name": "Zoë", "huge": 2**70, "lone": "\ud800", "list": [1, 2.5, None]},
        status="streaming",
        state=b"\x00\xff",
        state_seq=3,
        continuation=Continuation("dial", "+15550123", 2),
        created=1_760_000_000.123456,
    )
    assert await registry.merge("s1", event) == await registry.find("s1")
    found = await registry.find("s1")
    assert (found.body, found.state, found.continuation) == (event.body, event.state, event.continuation)
    assert found.created == event.created


async def test_facts_and_their_aliases_live_on_with_every_event(registry, clock):
    await registry.merge("s1", FactEvent(aliases=("a",)))
    await clock.advance(LEASES.facts - 100)
    await registry.merge("s1", FactEvent(starts=1))
    await clock.advance(200)
    assert (await registry.find("a")).starts == 1


# A token's attempt


async def test_a_spent_attempt_stays_spent_when_the_call_is_over(registry):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await registry.release("s1", claim.fence)
    assert await registry.confirm("s1", claim.attempt) == Stale(spent=True)


@pytest.mark.parametrize("attempt", [0, -1, 2])
async def test_an_attempt_that_was_never_given_is_not_confirmed(registry, attempt):
    await registry.put_host(host(worker("w1")))
    await confirmed(registry, "s1")
    assert await registry.confirm("s1", attempt) == Stale(spent=False)
    assert await registry.confirm("nobody", attempt) == Stale(spent=False)


async def test_a_reservation_beside_a_running_stream_expires_alone(registry, clock):
    await registry.put_host(host(worker("w1")))
    first = await confirmed(registry, "s1")
    await claimed(registry, "s1")
    for _ in range(8):
        await clock.advance(LEASES.renew)
        await registry.beat("h1", 1, [worker("w1", "busy", "s1")])
        assert await registry.renew({"s1": first.fence}) == set()
    assert await registry.confirm("s1", 2) == Stale(spent=False)
    assert (await claimed(registry, "s1")).attempt == 3
    assert (await registry.slots(SERVICE)).used == 1


async def test_a_reservation_keeps_the_unit_when_the_stream_before_it_is_gone(registry, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    await confirmed(registry, "s1")
    again = await claimed(registry, "s1")
    for _ in range(4):
        await clock.advance(LEASES.beat * 2)
        await registry.beat("h1", 1, [worker("w1", "busy", "s1")])
    assert (await registry.confirm("s1", again.attempt)).worker.id == "w1"
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)


async def test_a_session_that_goes_to_another_service_leaves_the_first(registry):
    await registry.put_host(host(worker("w1")))
    other = replace(host(worker("x1"), name="h2"), service="sales.acme")
    await registry.put_host(other)
    await confirmed(registry, "s1")
    moved = await registry.claim("sales.acme", "s1")
    assert (moved.worker.id, moved.attempt, moved.fence) == ("x1", 2, 0)
    assert (await registry.slots(SERVICE)).used == 0
    assert isinstance(await registry.confirm("s1", 2), Claim)


# Hosts that come back


def of_sales(cap: int = 2):
    return replace(host(worker("x1"), name="h2", cap=cap), service="sales.acme")


async def test_an_attempt_that_was_spent_stays_so_in_another_service(registry):
    await registry.put_host(host(worker("w1")))
    await registry.put_host(of_sales())
    await confirmed(registry, "s1")
    await registry.claim("sales.acme", "s1")
    assert await registry.confirm("s1", 1) == Stale(spent=True)
    assert await registry.confirm("s1", 3) == Stale(spent=False)
    assert (await registry.confirm("s1", 2)).attempt == 2


async def test_attempts_count_on_in_another_service_though_it_was_full_at_first(registry):
    await registry.put_host(host(worker("w1")))
    await confirmed(registry, "s1")
    assert await registry.claim("sales.acme", "s1", queue=True) == Queued(1)
    assert await registry.confirm("s1", 1) == Stale(spent=True)
    await registry.put_host(of_sales())
    assert (await registry.claim("sales.acme", "s1", queue=True)).attempt == 2


async def test_a_worker_avoided_when_the_service_changes_gets_no_session_back(registry):
    await registry.put_host(static("w1"))
    first = await confirmed(registry, "s1")
    assert await registry.claim("sales.acme", "s1", avoid={"w1"}) == Full(hosts=0)
    assert await registry.claim(SERVICE, "s1", avoid={"w1"}) == Full(hosts=1)
    await registry.put_host(static("w1"), [running(first)])
    assert (await registry.slots(SERVICE)).used == 0


async def test_a_session_that_another_service_had_is_believed_to_be_back(registry):
    await registry.put_host(static("w1"))
    first = await confirmed(registry, "s1")
    assert await registry.claim("sales.acme", "s1", avoid={"w7"}) == Full(hosts=0)
    assert await registry.claim(SERVICE, "s1", avoid={"w7"}) == Full(hosts=1)
    await registry.put_host(static("w1"), [running(first)])
    assert (await registry.get_claim("s1", first.fence)).worker.id == "w1"


async def test_a_session_that_another_service_has_is_not_believed(registry):
    await registry.put_host(host(worker("w1")))
    await registry.put_host(of_sales())
    first = await confirmed(registry, "s1")
    await registry.put_host(of_sales(), [Running("s1", first.fence + 9, "x1")])
    assert (await registry.get_claim("s1", first.fence)).worker.id == "w1"
    moved = await registry.claim("sales.acme", "s1")
    await registry.put_host(host(worker("w1")), [running(first)])
    assert (await registry.slots(SERVICE)).used == 0
    assert (await registry.confirm("s1", moved.attempt)).worker.id == "x1"


async def test_a_host_may_change_its_service(registry):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    moved = replace(host(worker("w1"), epoch=2), service="sales.acme")
    assert await registry.put_host(moved)
    assert (await registry.slots(SERVICE)).cap == 0
    assert (await registry.slots("sales.acme")).cap == 2
    assert await registry.get_claim("s1", claim.fence) == Stale(spent=False)
    assert not await registry.put_host(host(worker("w1"), epoch=1))


async def test_a_draining_host_still_drains_when_it_registers_elsewhere(registry):
    await registry.put_host(host(worker("w1"), epoch=1))
    await registry.drain_host("h1", 2)
    assert (await registry.slots(SERVICE)).cap == 2
    await registry.drain_host("h1", 1)
    await registry.put_host(host(worker("w1"), epoch=1))
    assert await registry.claim(SERVICE, "s1") == Full(hosts=1)
    await registry.put_host(host(worker("w1"), epoch=2))
    await claimed(registry, "s1")


async def test_confirmed_claims_on_a_lost_host_live_on_while_they_are_renewed(registry, clock):
    await registry.put_host(host(worker("w1")))
    claim = await confirmed(registry, "s1")
    await registry.drop_host("h1", 1)
    for _ in range(10):
        await clock.advance(LEASES.renew)
        assert await registry.renew({"s1": claim.fence}) == set()
    await registry.put_host(host(worker("w1", "busy", "s1")))
    assert (await registry.get_claim("s1", claim.fence)).worker.id == "w1"


async def test_a_worker_that_the_host_says_serves_one_is_taken_from_another(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    await claimed(registry, "s2")
    run = Running("s1", 1_760_000_000_000_500, "w1")
    await registry.put_host(host(worker("w1", "busy", "s1"), cap=1), [run])
    assert (await registry.get_claim("s1", run.fence)).worker.id == "w1"
    assert await registry.confirm("s2", 1) == Stale(spent=False)
    assert (await registry.slots(SERVICE)).used == 1


async def test_a_worker_that_serves_a_newer_claim_is_safe_from_an_older_report(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s2")
    await registry.put_host(host(worker("w1", "busy"), cap=1), [Running("s1", claim.fence - 1, "w1")])
    assert (await registry.get_claim("s2", claim.fence)).worker.id == "w1"
    assert await registry.get_claim("s1", claim.fence - 1) == Stale(spent=False)


async def test_an_older_bot_brings_back_no_session_whose_newer_claim_ran_out(registry, clock):
    await registry.put_host(host(worker("w1")))
    first = await confirmed(registry, "s1")
    second = await confirmed(registry, "s1")
    await clock.advance(LEASES.confirmed + 1)
    await registry.put_host(host(worker("w1", "busy", "s1")), [Running("s1", first.fence, "w1")])
    assert await registry.get_claim("s1", first.fence) == Stale(spent=False)
    await registry.put_host(host(worker("w1", "busy", "s1")), [Running("s1", second.fence, "w1")])
    assert (await registry.get_claim("s1", second.fence)).worker.id == "w1"


async def test_a_worker_that_is_taken_from_a_session_goes_to_nobody_else(registry):
    await registry.put_host(host(worker("w1"), cap=3))
    await confirmed(registry, "s2")
    waiting = await confirmed(registry, "s3")
    run = Running("s1", waiting.fence + 1, "w1")
    await registry.put_host(host(worker("w1"), cap=3), [run])
    assert (await registry.get_claim("s1", run.fence)).worker.id == "w1"
    assert (await registry.get_claim("s3", waiting.fence)).worker is None


async def test_a_reported_session_keeps_the_reservation_of_its_next_stream(registry):
    await registry.put_host(host(worker("x1"), name="other"))
    again = await claimed(registry, "s1")
    await registry.put_host(host(worker("w1", "busy", "s1")), [Running("s1", 1_760_000_000_000_500, "w1")])
    claim = await registry.confirm("s1", again.attempt)
    assert (claim.host, claim.worker.id, claim.fresh) == ("h1", "w1", False)
    assert (await registry.slots(SERVICE)).used == 1


async def test_who_has_no_stream_yet_gives_way_to_who_is_talking(registry):
    await registry.put_host(host(cap=3))
    waiting = await confirmed(registry, "s1")
    await claimed(registry, "s2")
    await claimed(registry, "s3")
    run = Running("s4", 1_760_000_000_000_500, "w1")
    await registry.put_host(host(worker("w1", "busy", "s4"), cap=2), [run])
    assert (await registry.get_claim("s4", run.fence)).worker.id == "w1"
    assert isinstance(await registry.get_claim("s1", waiting.fence), Claim)
    assert await registry.confirm("s2", 1) == await registry.confirm("s3", 1) == Stale(spent=False)
    assert (await registry.slots(SERVICE)).used == 2


@pytest.mark.parametrize("run", [Running("s1", 0, "w1"), Running("s1", 5, "nobody")])
async def test_a_report_that_makes_no_sense_is_ignored(registry, run):
    await registry.put_host(host(worker("w1")), [run])
    assert await registry.slots(SERVICE) == PoolCounts(2, 0, 1, 0, 0, 0, 2)


async def test_slots_are_counted_by_state(registry):
    states = [worker("w1"), worker("w2", "starting"), worker("w3", "busy"), worker("w4", "done")]
    await registry.put_host(host(*states, cap=9))
    await claimed(registry, "s1")
    assert await registry.slots(SERVICE) == PoolCounts(cap=9, used=1, ready=1, starting=1, busy=1, queued=0, free=8)


async def test_a_host_that_drains_has_nothing_free_whatever_it_still_serves(registry):
    await registry.put_host(host(worker("w1"), worker("w2")))
    await confirmed(registry, "s1")
    await registry.drain_host("h1", 1)
    await registry.put_host(replace(host(worker("w3"), cap=1), id="h2"))
    slots = await registry.slots(SERVICE)
    assert (slots.cap, slots.used, slots.free) == (1, 1, 1)


# Static workers


def static(*names: str, state: str = "ready"):
    return host(*(worker(name, state) for name in names), cap=len(names), static=True)


async def test_a_static_worker_that_served_waits_for_a_beat_that_finds_it_ready(registry):
    await registry.put_host(static("w1"))
    claim = await confirmed(registry, "s1")
    await registry.beat("h1", 1, [worker("w1")])
    await registry.release("s1", claim.fence)
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    await registry.put_host(static("w1"))  # another node's; it has not asked the worker
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    await registry.beat("h1", 1, [worker("w1", "busy")])
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    await registry.beat("h1", 1, [worker("w1")])
    assert (await claimed(registry, "s2")).worker.id == "w1"


async def test_a_static_worker_to_which_nobody_was_sent_is_free_at_once(registry):
    await registry.put_host(static("w1"))
    await claimed(registry, "s1")
    await registry.release("s1", 0)
    assert (await claimed(registry, "s2")).worker.id == "w1"


async def keep_beating(registry, clock, seconds: float, state: str = "ready") -> None:
    for _ in range(int(seconds // LEASES.beat)):
        await clock.advance(LEASES.beat)
        await registry.beat("h1", 1, [worker("w1", state)])


async def test_a_static_worker_that_rests_is_not_free(registry):
    await registry.put_host(static("w1"))
    assert (await registry.slots(SERVICE)).free == 1
    claim = await confirmed(registry, "s1")
    await registry.release("s1", claim.fence)
    assert (await registry.slots(SERVICE)).free == 0
    await registry.beat("h1", 1, [worker("w1")])
    assert (await registry.slots(SERVICE)).free == 1


async def test_a_static_worker_with_a_lost_claim_returns_after_busy_and_ready(registry, clock):
    await registry.put_host(static("w1"))
    await confirmed(registry, "s1")
    await keep_beating(registry, clock, LEASES.confirmed + 10)
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    await keep_beating(registry, clock, LEASES.beat, "busy")
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    await keep_beating(registry, clock, LEASES.beat)
    assert (await claimed(registry, "s2")).worker.id == "w1"


async def test_a_static_worker_with_a_lost_claim_returns_after_the_longest_call(registry, clock):
    await registry.put_host(static("w1"))
    await confirmed(registry, "s1")
    await keep_beating(registry, clock, LEASES.confirmed + LEASES.beat)
    await clock.advance(LEASES.static - 100)
    await registry.put_host(static("w1"))
    await keep_beating(registry, clock, LEASES.beat)
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    await clock.advance(110)
    await registry.put_host(static("w1"))
    await keep_beating(registry, clock, LEASES.beat)
    assert (await claimed(registry, "s2")).worker.id == "w1"


async def test_a_static_worker_is_remembered_over_the_loss_of_its_node(registry, clock):
    await registry.put_host(static("w1"))
    await confirmed(registry, "s1")
    await clock.advance(LEASES.confirmed + LEASES.host)
    await registry.put_host(static("w1"))
    await keep_beating(registry, clock, LEASES.beat)
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)


# Fairness of the queue


async def test_a_host_to_be_avoided_gives_nothing(registry):
    await registry.put_host(host(worker("w1"), worker("w2"), cap=9))
    await registry.put_host(host(name="cold", cap=1))
    assert (await claimed(registry, "s1", avoid={"h1"})).host == "cold"
    assert await registry.claim(SERVICE, "s2", avoid={"h1"}) == Full(hosts=2)
    assert await registry.claim(SERVICE, "s2", avoid={"h1"}, queue=True) == Queued(1)
    assert (await claimed(registry, "s3")).host == "h1"  # a session that avoids all that is free holds up none


async def test_a_claim_on_a_host_to_be_avoided_is_given_up_for_one_elsewhere(registry):
    await registry.put_host(host(worker("w1")))
    reserved = await claimed(registry, "s1")
    await registry.put_host(host(worker("x1"), name="other"))
    claim = await claimed(registry, "s1", avoid={"h1"})
    assert (claim.host, claim.worker.id, claim.attempt) == ("other", "x1", reserved.attempt + 1)


async def test_a_stream_that_waits_for_a_worker_waits_for_no_host_it_avoids(registry):
    await registry.put_host(host())
    await confirmed(registry, "s1")
    await registry.put_host(host(worker("x1"), name="other"))
    assert (await claimed(registry, "s1", avoid={"h1"})).host == "other"


async def test_a_stream_keeps_its_worker_on_a_host_to_be_avoided(registry):
    await registry.put_host(host(worker("w1")))
    await confirmed(registry, "s1")
    await registry.put_host(host(worker("x1"), name="other"))
    again = await claimed(registry, "s1", avoid={"h1"})
    assert (again.host, again.worker.id, again.fresh) == ("h1", "w1", False)


async def test_who_avoids_all_that_is_free_holds_up_nobody(registry):
    await registry.put_host(static("w1"))
    claim = await confirmed(registry, "s0")
    assert await registry.claim(SERVICE, "s1", queue=True, avoid={"w1"}) == Queued(1)
    assert await registry.claim(SERVICE, "s2", queue=True) == Queued(2)
    await registry.release("s0", claim.fence)
    await registry.beat("h1", 1, [worker("w1")])
    assert await registry.claim(SERVICE, "s1", queue=True, avoid={"w1"}) == Queued(1)
    assert (await claimed(registry, "s2", queue=True)).worker.id == "w1"


async def test_only_those_who_avoid_all_that_is_free_are_not_counted(registry):
    await registry.put_host(host(worker("x1"), name="full", cap=1))
    claim = await confirmed(registry, "s0")
    for session, avoid in (("s1", {"h1"}), ("s2", set()), ("s3", {"w9"}), ("s4", {"h1"}), ("s5", set())):
        await registry.claim(SERVICE, session, queue=True, avoid=avoid)
    await registry.put_host(host(cap=3))
    assert await registry.claim(SERVICE, "s6", queue=True) == Queued(6)
    assert (await claimed(registry, "s5", queue=True)).host == "h1"
    assert await registry.claim(SERVICE, "s6", queue=True) == Queued(5)
    assert (await claimed(registry, "s2", queue=True)).host == "h1"
    assert (await claimed(registry, "s3", queue=True, avoid={"w9"})).host == "h1"
    assert await registry.claim(SERVICE, "s6", queue=True) == Queued(3)
    await registry.release("s0", claim.fence)
    assert (await claimed(registry, "s1", queue=True, avoid={"h1"})).host == "full"


async def test_a_session_that_gets_its_slot_leaves_the_queue(registry):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s0")
    await registry.claim(SERVICE, "s1", queue=True, avoid={"w9"})
    await registry.release("s0", claim.fence)
    await claimed(registry, "s1", queue=True)
    assert (await registry.slots(SERVICE)).queued == 0


async def test_a_burst_on_too_few_slots_gives_exactly_these(registry):
    hosts = [host(*(worker(f"w{h}-{n}") for n in range(50)), name=f"h{h}", cap=100) for h in range(10)]
    for one in hosts:
        await registry.put_host(one)
    asked = (partial(registry.claim, SERVICE, f"s{n}") for n in range(2000))
    results = await asyncio.gather(*map(insistently, asked))
    claims = [result for result in results if isinstance(result, Claim)]
    assert len(claims) == 1000
    workers = [claim.worker.id for claim in claims if claim.worker is not None]
    assert len(workers) == len(set(workers)) == 500
    for one in hosts:  # on a busy machine their leases have ended meanwhile, by the server's clock
        await registry.put_host(one)
    assert (await registry.slots(SERVICE)).used == 1000


# After an outage


async def test_nothing_expires_for_a_lease_after_an_outage(world, registry, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    claim = await confirmed(registry, "s1")
    await world.cut()
    with pytest.raises(RegistryUnavailable):
        await registry.renew({"s1": claim.fence})
    await clock.advance(60)
    await world.mend()
    assert await registry.claim(SERVICE, "s2") == Full(hosts=1)
    assert await registry.beat("h1", 1, [worker("w1", "busy", "s1")]) == ()
    assert await registry.renew({"s1": claim.fence}) == set()
    assert (await registry.get_claim("s1", claim.fence)).worker.id == "w1"


async def test_after_that_lease_what_nobody_renews_expires(world, registry, clock):
    await registry.put_host(host(worker("w1"), cap=1))
    await confirmed(registry, "s1")
    await world.cut()
    with pytest.raises(RegistryUnavailable):
        await registry.find("s1")
    await clock.advance(60)
    await world.mend()
    await registry.beat("h1", 1, [worker("w1", "busy", "s1")])
    await keep_beating(registry, clock, LEASES.confirmed + LEASES.beat)
    assert (await registry.slots(SERVICE)).used == 0


async def test_what_leads_to_a_call_that_was_moved_is_kept_as_long_as_it(registry, clock):
    await registry.merge("s1", FactEvent(call_id="CA1", moves=1, status="ended", aliases=("twilio::CA1",)))
    await registry.merge("s2", FactEvent(call_id="CA2", status="ended"))
    await clock.advance(LEASES.ended + 1)
    assert (await registry.find("twilio::CA1")).moved
    assert await registry.find("s2") is None


async def test_a_mailbox_gives_its_messages_once_and_in_order(registry):
    for message in ("one", "two"):
        await registry.send("n1", message)
    await registry.send("n2", "other")
    assert await registry.receive("n1") == ["one", "two"]
    assert await registry.receive("n1") == []
    assert await registry.receive("n2") == ["other"]


async def test_a_mailbox_that_nobody_reads_is_bounded_and_expires(registry, clock):
    for n in range(MAX_MESSAGES + 2):
        await registry.send("n1", str(n))
    kept = await registry.receive("n1")
    assert (len(kept), kept[0], kept[-1]) == (MAX_MESSAGES, "2", str(MAX_MESSAGES + 1))
    await registry.send("n1", "late")
    await clock.advance(MESSAGE_SECONDS + 1)
    assert await registry.receive("n1") == []


async def test_keys_that_are_set_once_expire_over_an_outage(world, registry, clock):
    await registry.set_if_absent("nonce", 60.0)
    await world.cut()
    with pytest.raises(RegistryUnavailable):
        await registry.set_if_absent("nonce", 60.0)
    await clock.advance(61)
    await world.mend()
    assert (await registry.set_if_absent("nonce", 60.0)).first


async def test_a_registry_that_is_down_says_so_everywhere(world, registry):
    await world.cut()
    for call in (
        registry.claim(SERVICE, "s"),
        registry.confirm("s", 1),
        registry.get_claim("s", 1),
        registry.renew({}),
        registry.release("s", 1),
        registry.leave_queue(SERVICE, "s"),
        registry.put_host(host()),
        registry.beat("h", 1, []),
        registry.drop_host("h", 1),
        registry.drain_host("h", 1),
        registry.merge("s", FactEvent()),
        registry.find("s"),
        registry.set_if_absent("k", 1.0),
        registry.change("k", 1.0, lambda text, _: (text, None)),
        registry.send("n", "m"),
        registry.receive("n"),
        registry.wait_free(SERVICE, 1.0),
        registry.slots(SERVICE),
    ):
        with pytest.raises(RegistryUnavailable):
            await call
    await world.mend()


@pytest.mark.parametrize("fence", [2**64 - 1, 2**53, 2**52, int(4e15)])
async def test_a_fence_from_the_far_future_is_not_believed(registry, fence):
    """It would be the floor of all later fences: a worker closes links whose fence it cannot read with 1011."""
    await registry.put_host(host(worker("x1"), name="other"))
    before = (await confirmed(registry, "s0")).fence
    await registry.put_host(host(worker("w1", "busy", "s1"), worker("w2"), cap=2), [Running("s1", fence, "w1")])
    assert isinstance(await registry.get_claim("s1", fence), Stale)
    claim = await confirmed(registry, "s2")
    assert before < claim.fence < before + MAX_FENCE_LEAD_US


async def test_a_fence_a_little_ahead_of_the_clock_is_believed(registry):
    """Two servers' clocks differ."""
    await registry.put_host(host(worker("x1"), name="other"))
    fence = (await confirmed(registry, "s0")).fence + 60 * 1_000_000
    await registry.put_host(host(worker("w1", "busy", "s1"), cap=1), [Running("s1", fence, "w1")])
    assert (await registry.get_claim("s1", fence)).worker.id == "w1"


async def test_a_session_that_a_live_host_serves_is_not_believed_of_another(registry):
    await registry.put_host(host(worker("w1")))
    mine = await confirmed(registry, "s1")
    await registry.put_host(host(worker("x1", "busy", "s1"), name="thief"), [Running("s1", mine.fence + 1, "x1")])
    assert (await registry.get_claim("s1", mine.fence)).host == "h1"
    assert await registry.renew({"s1": mine.fence}) == set()


async def test_after_an_outage_a_newer_claim_on_another_host_is_believed(world, registry, clock):
    """A server that came back may have lost the newest claims."""
    await registry.put_host(host(worker("w1")))
    older = await confirmed(registry, "s1")
    await world.cut()
    with pytest.raises(RegistryUnavailable):
        await registry.slots(SERVICE)
    await clock.advance(2.0)
    with pytest.raises(RegistryUnavailable):
        await registry.slots(SERVICE)
    await clock.advance(2.0)
    await world.mend()
    run = Running("s1", older.fence + 1, "x1")
    await insistently(lambda: registry.put_host(host(worker("x1", "busy", "s1"), name="h2"), [run]))
    assert (await registry.get_claim("s1", run.fence)).host == "h2"
