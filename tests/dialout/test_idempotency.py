"""The same Idempotency-Key gives the first answer: later, at once, and on two nodes."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from gateway.dialout import idempotency
from gateway.dialout.request import Dialled, DialQueued, DialRefusal, from_dict, to_dict
from gateway.simulator.rest import Plan
from tests.dialout.rig import LIMITS, request, rig
from tests.dialout.test_queue import kill
from tests.kit.lost_answers import HoldsUp, LosesAnswers
from tests.kit.waiting import until

RINGS = Plan(rings=5.0, delay=0.1)
BUSY = Plan(rings=0.02, result="busy")


async def test_a_repeated_key_gives_the_first_answer(tmp_path):
    async with rig(tmp_path, plan=RINGS) as made:
        [gateway] = made.gateways
        asked = request("twilio", idempotency_key="k1")
        first = await gateway.dialout.place(asked)
        assert isinstance(first, Dialled) and first.call_id
        assert await gateway.dialout.place(asked) == first
        assert len(made.carriers.calls) == 1


@pytest.mark.parametrize(("draining", "code"), [(True, "draining"), (False, "overloaded")])
async def test_a_gateway_that_places_no_calls_tells_first_answers(tmp_path, draining, code):
    async with rig(tmp_path, plan=RINGS) as made:
        [gateway] = made.gateways
        asked = request("twilio", idempotency_key="k1")
        first = await gateway.dialout.place(asked)
        gateway.node.refusing, gateway.node.overloaded = draining, not draining
        assert await gateway.dialout.place(asked) == first
        other = await gateway.dialout.place(replace(asked, to="+15550190002"))
        assert isinstance(other, DialRefusal) and other.code == "key_reused"
        fresh = await gateway.dialout.place(replace(asked, idempotency_key="k2"))
        assert isinstance(fresh, DialRefusal) and fresh.code == code
        made.registry.down = True
        assert (await gateway.dialout.place(asked)).code == code
        made.registry.down = False
        assert len(made.carriers.calls) == 1


async def test_a_key_used_at_once_on_two_nodes_dials_once(tmp_path):
    async with rig(tmp_path, nodes=2, plan=RINGS) as made:
        asked = request("twilio", idempotency_key="k1")
        results = await asyncio.gather(*(made.gateways[n % 2].dialout.place(asked) for n in range(6)))
        assert isinstance(results[0], Dialled) and results[0].call_id
        assert set(results) == {results[0]}
        assert len(made.carriers.calls) == 1


@pytest.mark.parametrize("create", ["invalid", "error"])
async def test_a_refusal_of_the_carrier_is_an_answer_too(tmp_path, create):
    """So is its 500, after which nobody knows whether it has dialled: by the same key it must not dial twice."""
    async with rig(tmp_path, plan=Plan(create=create)) as made:
        [gateway] = made.gateways
        asked = request("twilio", idempotency_key="k1")
        first = await gateway.dialout.place(asked)
        assert isinstance(first, DialRefusal) and first.status == 502
        made.carriers.plan = RINGS
        assert await gateway.dialout.place(asked) == first
        assert len(made.carriers.requests) == 1


async def test_an_answer_that_says_later_may_be_asked_again(tmp_path):
    async with rig(tmp_path, workers=1, plan=Plan(rings=0.1, result="busy")) as made:
        [gateway] = made.gateways
        first = await gateway.dialout.place(request("twilio"))
        asked = request("twilio", "+15550190002", idempotency_key="k1")
        await asyncio.sleep(0.02)  # the next turn
        full = await gateway.dialout.place(asked)
        assert isinstance(full, DialRefusal) and full.status == 429
        await gateway.over(first.session_id)
        await gateway.nothing_is_left()
        assert isinstance(await gateway.dialout.place(asked), Dialled)


@pytest.mark.parametrize("carrier", ["twilio", "telnyx"])  # Telnyx does not say when it wants more
async def test_a_carrier_that_wants_fewer_may_be_asked_again(tmp_path, carrier):
    """Its 429 is told as 502: nothing was placed, so it must not be the key's answer for a day."""
    async with rig(tmp_path, plan=Plan(create="rate"), limits=replace(LIMITS, longest_retry=0.0)) as made:
        [gateway] = made.gateways
        asked = request(carrier, idempotency_key="k1")
        refused = await gateway.dialout.place(asked)
        assert isinstance(refused, DialRefusal) and refused.status == 502
        assert refused.retry_after is not None
        made.carriers.plan = RINGS
        assert isinstance(await gateway.dialout.place(asked), Dialled)


async def test_a_key_is_of_its_api_key_and_its_request(tmp_path):
    async with rig(tmp_path, plan=RINGS) as made:
        [gateway] = made.gateways
        first = await gateway.dialout.place(request("twilio", idempotency_key="k1", key_name="crm"))
        other_request = await gateway.dialout.place(
            request("twilio", "+15550190002", idempotency_key="k1", key_name="crm")
        )
        assert isinstance(other_request, DialRefusal)
        assert (other_request.status, other_request.code) == (422, "key_reused")
        other_key = await gateway.dialout.place(request("twilio", idempotency_key="k1", key_name="shop"))
        assert other_key.session_id != first.session_id


@pytest.fixture
def short_lease(monkeypatch):
    """Of a key whose first request has no answer."""
    monkeypatch.setattr(idempotency, "LEASE", 0.4)


async def test_a_gateway_that_dies_at_its_order_leaves_what_is_known(tmp_path, short_lease):
    limits = replace(LIMITS, order_timeout=5.0)
    async with rig(tmp_path, nodes=2, plan=Plan(rings=5.0, create="unanswered"), limits=limits) as made:
        first, second = made.gateways
        asked = request("twilio", idempotency_key="k1")
        dying = asyncio.create_task(first.dialout.place(asked))
        await until(lambda: made.carriers.calls, complain="the order is sent")
        await kill(first, made.running[0])
        await asyncio.gather(dying, return_exceptions=True)
        result = await second.dialout.place(asked)
        assert isinstance(result, Dialled) and len(made.carriers.calls) == 1


async def test_a_gateway_that_dies_before_it_begins_is_followed_by_the_next(tmp_path, short_lease):
    """The key would else say for a day that it is in use."""
    async with rig(tmp_path, nodes=2, plan=RINGS) as made:
        first, second = made.gateways
        first.node.registry.registry = held = HoldsUp(first.node.registry.registry, "claim")
        asked = request("twilio", idempotency_key="k1")
        dying = asyncio.create_task(first.dialout.place(asked))
        await held.reached.wait()
        waiting = asyncio.create_task(second.dialout.place(asked))
        await kill(first, made.running[0])
        await asyncio.gather(dying, return_exceptions=True)
        result = await waiting
        assert isinstance(result, Dialled) and result.call_id
        assert await second.dialout.place(asked) == result
        assert len(made.carriers.calls) == 1


async def test_a_gateway_that_was_suspended_does_not_dial_once_it_is_overtaken(tmp_path, short_lease):
    async with rig(tmp_path, nodes=2, plan=RINGS) as made:
        first, second = made.gateways
        registry, first.node.registry.timeout = first.node.registry.registry, 60.0
        first.node.registry.registry = held = HoldsUp(registry, "claim")
        asked = request("twilio", idempotency_key="k1")
        suspended = asyncio.create_task(first.dialout.place(asked))
        await held.reached.wait()
        result = await second.dialout.place(asked)
        assert isinstance(result, Dialled) and result.call_id
        held.goes_on.set()
        assert await suspended == result
        assert len(made.carriers.calls) == 1


async def test_one_that_was_suspended_does_not_queue_once_it_is_overtaken(tmp_path, short_lease):
    async with rig(tmp_path, nodes=2, plan=BUSY, limits=replace(LIMITS, max_concurrent=1)) as made:
        first, second = made.gateways
        await first.dialout.place(request("twilio", "+15550000110"))
        made.running[0].cancel()  # it asks for nothing but what follows: the key, a place, and whether it may begin
        registry, first.node.registry.timeout = first.node.registry.registry, 60.0
        first.node.registry.registry = held = HoldsUp(registry, "change", after=2)
        asked = request("twilio", idempotency_key="k1")
        suspended = asyncio.create_task(first.dialout.place(asked))
        await held.reached.wait()
        result = await second.dialout.place(asked)
        assert isinstance(result, Dialled | DialQueued)
        held.goes_on.set()
        assert await suspended == result
        await second.over(result.session_id)
        await second.lane_is_empty()
        assert len(made.dialled()) == 1


async def test_a_gateway_that_dies_once_it_has_begun_is_not_followed(tmp_path, short_lease):
    """Whether it has dialled is not known, so it is said where to look."""
    async with rig(tmp_path, nodes=2, plan=RINGS) as made:
        first, second = made.gateways
        first.node.registry.registry = held = HoldsUp(first.node.registry.registry, "merge")
        asked = request("twilio", idempotency_key="k1")
        dying = asyncio.create_task(first.dialout.place(asked))
        await held.reached.wait()
        await kill(first, made.running[0])
        await asyncio.gather(dying, return_exceptions=True)
        result = await second.dialout.place(asked)
        assert isinstance(result, DialRefusal) and (result.status, result.code) == (409, "outcome_unknown")
        assert re.search(r"GET /v1/calls/[0-9a-f]{32},", result.detail)
        assert await second.dialout.place(asked) == result
        assert made.dialled() == []


@pytest.mark.parametrize("lost", ["change", "merge"])
async def test_a_registry_that_goes_away_leaves_the_key_free(tmp_path, short_lease, lost):
    """The first answer of "change" is that it has the key."""
    async with rig(tmp_path, plan=RINGS) as made:
        [gateway] = made.gateways
        gateway.node.registry.registry = LosesAnswers(gateway.node.registry.registry, lost)
        asked = request("twilio", idempotency_key="k1")
        refused = await gateway.dialout.place(asked)
        assert isinstance(refused, DialRefusal) and refused.status == 503
        assert made.dialled() == []
        assert isinstance(await gateway.dialout.place(asked), Dialled)
        assert len(made.dialled()) == 1


async def test_a_gateway_that_takes_long_keeps_its_key(tmp_path, short_lease):
    """A worker may start for longer than the lease lasts: nobody takes the key over meanwhile."""
    async with rig(tmp_path, nodes=2, plan=replace(RINGS, delay=0.0)) as made:
        first, second = made.gateways
        registry, first.node.registry.timeout = first.node.registry.registry, 60.0
        first.node.registry.registry = held = HoldsUp(registry, "claim", all_else=False)
        asked = request("twilio", idempotency_key="k1")
        now = made.registry._unix_time()
        made.registry._unix_time = lambda: now
        placing = asyncio.create_task(first.dialout.place(asked))
        await held.reached.wait()
        waiting = asyncio.create_task(second.dialout.place(asked))
        key = idempotency._Key(second.node, asked, "")

        async def renewed() -> bool:
            return (await key.look()).until == now + idempotency.LEASE

        for _ in range(3):
            await until(renewed)
            now += 0.9 * idempotency.LEASE
        await until(renewed)
        held.goes_on.set()
        _, session = held.asked
        result = await placing
        assert isinstance(result, Dialled) and result.session_id == session
        assert await waiting == result
        assert len(made.carriers.calls) == 1


def test_answers_read_back_as_they_were_written():
    for result in (
        Dialled("s", None, "queued"),
        Dialled("s", "CA1", "ringing"),
        DialQueued("s"),
        DialRefusal(429, "rate", "Later.", retry_after=2.0),
        DialRefusal(422, "bad_number", "to: none.", "to"),
    ):
        assert from_dict(to_dict(result)) == result
    assert from_dict({"dialled": [1, 2]}) is None
