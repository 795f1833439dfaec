"""What the one who asked was told holds, whatever becomes of the registry and of the gateway.

Told "not now": it is never dialled. Told that it waits: it is dialled once, or reported.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.dialout.request import Dialled, DialQueued, DialRefusal
from gateway.pool.facts import FactEvent
from gateway.simulator.rest import Plan
from tests.dialout.rig import LIMITS, request, rig
from tests.kit.lost_answers import HoldsUp, LosesAnswers
from tests.kit.waiting import until

BUSY = Plan(rings=0.02, result="busy")
FIRST = "+15550000110"
"""Rings for a second, and is busy."""
SHORT = replace(LIMITS, lease=0.3)
ONE = replace(SHORT, max_concurrent=1)
"""One call at a time: the next one waits."""


class Watched:
    """A registry that notes what it was asked: how often for facts, and which session's it was told last."""

    def __init__(self, registry) -> None:
        self.registry = registry
        self.finds = 0
        self.session = ""

    def __getattr__(self, name):
        self.finds += name == "find"
        return getattr(self.registry, name)

    async def merge(self, session, event):
        self.session = session
        return await self.registry.merge(session, event)


@pytest.mark.parametrize(
    ("name", "after", "done"),
    [("merge", 0, True), ("merge", 0, False), ("change", 1, True), ("change", 1, False)],
    ids=["facts are written", "facts are not written", "it counts as sent", "it does not count as sent"],
)
async def test_what_is_refused_is_never_dialled(tmp_path, name, after, done):
    """The registry goes away between the facts and the order, and comes back."""
    limits = replace(SHORT, ring=1, ring_grace=-0.9)
    async with rig(tmp_path, nodes=2, plan=BUSY, limits=limits) as made:
        first, second = made.gateways
        registry = first.node.registry.registry
        watched = Watched(registry)
        first.node.registry.registry = lossy = LosesAnswers(watched, name, after=after, done=done)
        result = await first.dialout.place(request("twilio"))
        first.node.registry.registry = registry
        assert lossy.lost == 1
        assert isinstance(result, DialRefusal) and (result.status, result.code) == (503, "registry_down")
        await second.lane_is_empty()
        facts = await registry.find(watched.session)
        assert facts is None or facts.end_reason == "failed", "what is known of it says what became of it"
        assert made.dialled() == []


async def test_what_is_refused_behind_the_rate_is_never_dialled(tmp_path):
    async with rig(tmp_path, nodes=2, plan=BUSY, limits=ONE) as made:
        first, second = made.gateways
        await first.dialout.place(request("twilio", FIRST))
        registry = first.node.registry.registry
        first.node.registry.registry = LosesAnswers(watched := Watched(registry), "merge")
        result = await first.dialout.place(request("twilio"))
        first.node.registry.registry = registry
        assert isinstance(result, DialRefusal) and result.status == 503
        assert (await second.over(watched.session)).end_reason == "failed"
        await second.lane_is_empty()
        assert made.dialled() == []


@pytest.mark.parametrize("done", [True, False])
async def test_a_promise_whose_answer_is_lost_is_kept(tmp_path, done):
    async with rig(tmp_path, nodes=2, plan=BUSY, limits=replace(ONE, lease=15.0)) as made:
        first, second = made.gateways
        await first.dialout.place(request("twilio", FIRST))
        registry = first.node.registry.registry
        made.running[0].cancel()  # it takes nothing, so that the second question is that for the promise
        first.node.registry.registry = lossy = LosesAnswers(registry, "change", after=1, done=done)
        result = await first.dialout.place(request("twilio"))
        assert lossy.lost == 1
        assert isinstance(result, DialQueued), result
        assert (await second.over(result.session_id)).end_reason == "busy"
        assert len(made.dialled()) == 1


@pytest.mark.parametrize(("waits", "limits"), [(True, ONE), (False, SHORT)], ids=["promises nothing", "sends nothing"])
async def test_a_gateway_held_up_before_its_order(tmp_path, waits, limits):
    """Another one would find nothing to dial, so a caller that waits for a turn is not told that it does."""
    async with rig(tmp_path, nodes=2, plan=BUSY, limits=limits) as made:
        first, second = made.gateways
        if waits:
            await first.dialout.place(request("twilio", FIRST))
        registry, first.node.registry.timeout = first.node.registry.registry, 60.0
        first.node.registry.registry = held = HoldsUp(watched := Watched(registry), "merge")
        placing = asyncio.create_task(first.dialout.place(request("twilio")))
        await held.reached.wait()
        await second.lane_is_empty()
        held.goes_on.set()
        result = await placing
        assert isinstance(result, DialRefusal) and (result.status, result.code) == (503, "held_up"), result
        assert (await second.over(watched.session)).end_reason == "failed"
        if not waits:
            await second.nothing_is_left()
        assert made.dialled() == []


# A drain ends the process when nothing is left to do.


async def test_a_drain_waits_for_an_order_under_way(tmp_path):
    async with rig(tmp_path, plan=replace(BUSY, rings=0.3, delay=0.2)) as made:
        [gateway] = made.gateways
        placing = asyncio.create_task(gateway.dialout.place(request("twilio")))
        await until(made.dialled, complain="the carrier has the order")
        assert not placing.done() and gateway.dialout.busy
        result = await placing
        assert isinstance(result, Dialled) and gateway.dialout.busy, "it rings"
        await gateway.over(result.session_id)
        await until(lambda: not gateway.dialout.busy, complain="the process may end")


async def test_a_drain_waits_for_the_stream_of_an_answered_call(tmp_path):
    async with rig(tmp_path, plan=Plan(rings=30.0)) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request("twilio"))
        assert isinstance(result, Dialled)
        registry = gateway.node.registry
        await registry.merge(result.session_id, FactEvent(status="answered", answered=gateway.node.unix_time()))
        asked = registry.registry = Watched(registry.registry)
        await until(lambda: asked.finds >= 3, complain="the node has looked at the call")
        assert gateway.dialout.busy, "its stream is yet to come"
        await registry.merge(result.session_id, FactEvent(streams=1, node="another"))
        await until(lambda: not gateway.dialout.busy, complain="the process may end: another one has the call")
