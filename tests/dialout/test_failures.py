"""What goes wrong between the order and the answer."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from gateway.dialout.following import Follower
from gateway.dialout.placing import Placer
from gateway.dialout.request import Dialled, DialQueued
from gateway.pool.facts import hung_up
from gateway.pool.registry import Full, Leases
from gateway.sessions.control import Done, hang_up
from gateway.simulator.rest import Plan
from tests.dialout.rig import LIMITS, request, rig
from tests.dialout.test_queue import kill
from tests.kit.waiting import until

GIVES_UP = replace(LIMITS, lease=0.3, ring=1, ring_grace=-0.7)


async def test_an_order_under_way_at_a_death_is_reported_and_not_repeated(tmp_path):
    limits = replace(GIVES_UP, order_timeout=5.0)
    async with rig(tmp_path, nodes=2, plan=Plan(create="lost"), limits=limits) as made:
        first, second = made.gateways
        placing = asyncio.create_task(first.dialout.place(request("twilio")))
        [session] = await until(lambda: first.dialout._queue.held)
        await until(lambda: first.node.http_client._client, complain="the order is sent")
        await asyncio.sleep(0.05)
        await kill(first, made.running[0])
        await asyncio.gather(placing, return_exceptions=True)
        facts = await second.over(session)
        assert (facts.end_reason, facts.outcome) == ("failed", "failed")
        await second.lane_is_empty()
        assert len(made.carriers.requests) == 1


async def test_a_call_that_rings_at_a_death_is_followed_by_the_other_node(tmp_path):
    async with rig(tmp_path, nodes=2, plan=Plan(rings=0.6, seconds=0.1), limits=GIVES_UP) as made:
        first, second = made.gateways
        limits = replace(GIVES_UP, ring_grace=5.0)
        second.dialout._limits = limits
        result = await first.dialout.place(request("twilio"))
        assert isinstance(result, Dialled)
        await kill(first, made.running[0])
        facts = await second.over(result.session_id)
        assert facts.end_reason == "caller_hangup"
        await second.lane_is_empty()
        assert len(made.dialled()) == 1


async def test_a_call_that_is_hung_up_while_the_carrier_is_asked_is_cancelled(tmp_path):
    async with rig(tmp_path, plan=Plan(rings=5.0, delay=0.3)) as made:
        [gateway] = made.gateways
        placing = asyncio.create_task(gateway.dialout.place(request("twilio")))
        [call] = await until(lambda: list(made.carriers.calls))
        [session] = gateway.dialout._queue.held
        await gateway.node.registry.merge(session, (await cancelled(gateway, session)))
        await placing
        await until(lambda: call.is_over, complain="the carrier was told")
        await gateway.nothing_is_left()


async def cancelled(gateway, session):
    """What a hang-up of a call writes that the carrier has not named yet."""
    return hung_up(await gateway.facts(session), "canceled", gateway.node.unix_time())


async def test_a_call_that_rings_is_hung_up(tmp_path):
    async with rig(tmp_path, plan=Plan(rings=5.0)) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request("twilio"))
        assert isinstance(result, Dialled)
        assert await hang_up(gateway.sessions, result.session_id) == Done()
        [call] = made.dialled()
        await until(lambda: call.is_over)
        assert (await gateway.over(result.session_id)).end_reason == "canceled"
        await gateway.nothing_is_left()


@pytest.mark.parametrize("where", ["order", "queued", "followed"])
async def test_a_bug_keeps_no_place_among_the_calls_at_once(tmp_path, monkeypatch, where):
    met = []

    def stumble(*_):
        met.append(True)
        raise KeyError("a field that is not there")

    method = (Follower, "_look") if where == "followed" else (Placer, "place")
    async with rig(tmp_path, plan=Plan(rings=5.0)) as made:
        [gateway] = made.gateways
        if where == "queued":
            await gateway.pause(0.3)
        monkeypatch.setattr(*method, stumble)
        with contextlib.suppress(KeyError):
            await gateway.dialout.place(request("twilio"))
        await until(lambda: met)
        await until(lambda: not gateway.dialout._queue.held, complain="its lease is renewed no more")
        assert not gateway.dialout._queue.ringing


async def test_a_worker_is_kept_for_as_long_as_it_rings(tmp_path):
    leases = Leases(reserved=0.6, confirmed=0.6, renew=0.1)
    async with rig(tmp_path, workers=1, leases=leases, plan=Plan(rings=1.2)) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request("twilio"))
        await asyncio.sleep(0.9)
        assert await gateway.node.registry.claim("support.acme", "another") == Full(hosts=1)
        start = await made.started()
        assert start["session_id"] == result.session_id
        made.bot.socket.close()
        await gateway.over(result.session_id)


async def test_a_gateway_that_is_alone_reports_its_queue_when_it_drains(tmp_path):
    limits = replace(LIMITS, cps=0.5, registry_is_local=True)
    async with rig(tmp_path, plan=Plan(rings=0.05, result="busy"), limits=limits) as made:
        [gateway] = made.gateways
        first = await gateway.dialout.place(request("twilio"))
        queued = [await gateway.dialout.place(request("twilio", f"+1555019000{n}")) for n in range(2, 5)]
        assert all(isinstance(each, DialQueued) for each in queued)
        await until(lambda: gateway.dialout.busy)
        gateway.node.refusing = True
        for each in queued:
            assert (await gateway.over(each.session_id)).end_reason == "rejected"
        await gateway.over(first.session_id)
        await until(lambda: not gateway.dialout.busy, complain="the process may end")
        assert len(made.carriers.calls) == 1
