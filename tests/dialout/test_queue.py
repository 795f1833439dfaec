"""More calls than the rate: each is dialled once or reported, whatever becomes of the gateway that took it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise

from gateway.dialout.request import Dialled, DialQueued, DialRefusal
from gateway.sessions.control import Done, hang_up
from gateway.simulator.rest import Plan
from tests.dialout.rig import LIMITS, Gateway, Rig, request, rig
from tests.kit.waiting import until

HANGS_UP = Plan(rings=0.02, seconds=0.0)


def number(n: int) -> str:
    return f"+155501{n:05}"


def session_of(result) -> str:
    assert isinstance(result, Dialled | DialQueued), result
    return result.session_id


def dialled(made: Rig) -> Counter[str]:
    return Counter(call.to for call in made.carriers.calls)


async def kill(gateway: Gateway, running: asyncio.Task[None]) -> None:
    """End all that it does for dial-out, as SIGKILL would."""
    running.cancel()
    for task in tuple(gateway.node._tasks):
        task.cancel()
    gateway.dialout._queue.held.clear()


async def test_calls_are_paced_and_each_is_dialled_once(tmp_path):
    """Fifty of them are dialled by processes, in test_processes.py."""
    limits = replace(LIMITS, cps=25.0, max_concurrent=60)
    async with rig(tmp_path, nodes=2, workers=20, plan=Plan(rings=0.02, result="busy"), limits=limits) as made:
        places = [made.gateways[n % 2].dialout.place(request("twilio", number(n))) for n in range(20)]
        results = await asyncio.gather(*places)
        assert sum(isinstance(result, Dialled) for result in results) == 1
        assert sum(isinstance(result, DialQueued) for result in results) == 19
        facts = await asyncio.gather(*(made.gateways[0].over(session_of(result)) for result in results))
        assert {each.end_reason for each in facts} == {"busy"}
        assert dialled(made) == Counter(number(n) for n in range(20))
        await made.gateways[0].nothing_is_left()
        times = sorted(call.created_at for call in made.carriers.calls)
        assert times[-1] - times[0] >= 19 / 25.0 - 0.3
        early = [later - earlier for earlier, later in pairwise(times) if later - earlier < 0.005]
        assert len(early) < 6, "one order may take longer than the next one"


async def test_no_more_calls_talk_at_once_than_may(tmp_path):
    limits = replace(LIMITS, max_concurrent=1)
    async with rig(tmp_path, plan=Plan(rings=0.02, seconds=0.2), limits=limits) as made:
        [gateway] = made.gateways
        results = [await gateway.dialout.place(request("twilio", number(n))) for n in range(3)]
        assert [type(result) for result in results] == [Dialled, DialQueued, DialQueued]
        for result in results:
            await gateway.over(session_of(result))
        calls = list(made.carriers.calls)
        assert all(later.created_at >= earlier.ended_at for earlier, later in pairwise(calls))


async def test_a_queued_call_keeps_what_was_asked_for(tmp_path):
    async with rig(
        tmp_path, plan=Plan(rings=0.02, party="machine", verdict=0.05), limits=replace(LIMITS, max_concurrent=1)
    ) as made:
        [gateway] = made.gateways
        await gateway.dialout.place(request("twilio", "+15550000110"))
        asked = request("twilio", machine_detection="detect", max_call_seconds=77)
        session = session_of(await gateway.dialout.place(asked))
        assert (await gateway.facts(session)).status == "queued"
        start = await made.started()
        assert (start["session_id"], start["call"]["body"]) == (session, dict(asked.body))
        await until(lambda: [said for said in made.bot.of("status") if said["status"] == "machine"])
        [call] = made.dialled()
        assert call.order.max_seconds == 77 + 11  # behind our own limit, with the last words
        made.bot.socket.close()
        await gateway.over(session)


async def test_a_queued_call_that_is_hung_up_is_not_dialled(tmp_path):
    async with rig(tmp_path, plan=HANGS_UP, limits=replace(LIMITS, max_concurrent=1)) as made:
        [gateway] = made.gateways
        await gateway.dialout.place(request("twilio", "+15550000110"))
        session = session_of(await gateway.dialout.place(request("twilio")))
        assert await hang_up(gateway.sessions, session) == Done()
        await gateway.nothing_is_left()
        assert made.dialled() == []
        assert (await gateway.facts(session)).end_reason == "canceled"


async def test_a_call_that_waits_too_long_is_reported(tmp_path):
    limits = replace(LIMITS, max_concurrent=1, queue_seconds=0.1)
    async with rig(tmp_path, plan=Plan(rings=5.0), limits=limits) as made:
        [gateway] = made.gateways
        await gateway.dialout.place(request("twilio", number(0)))
        session = session_of(await gateway.dialout.place(request("twilio")))
        assert (await gateway.over(session)).end_reason == "rejected"
        assert made.dialled() == []


async def test_a_queue_that_is_full_says_when_to_come_again(tmp_path):
    limits = replace(LIMITS, cps=0.5, queue_length=1)
    async with rig(tmp_path, plan=HANGS_UP, limits=limits) as made:
        [gateway] = made.gateways
        results = [await gateway.dialout.place(request("twilio", number(n))) for n in range(3)]
        assert [type(result) for result in results] == [Dialled, DialQueued, DialRefusal]
        assert (results[2].status, results[2].code, results[2].retry_after) == (429, "rate", 2.0)


async def test_a_gateway_that_dies_loses_none_and_doubles_none(tmp_path):
    limits = replace(LIMITS, cps=50.0, lease=1.0, max_concurrent=60, ring=1, ring_grace=-0.5, order_timeout=0.3)
    async with rig(tmp_path, nodes=2, workers=20, plan=Plan(rings=0.02, result="busy"), limits=limits) as made:
        first, second = made.gateways
        places = [first.dialout.place(request("twilio", number(n))) for n in range(20)]
        results = await asyncio.gather(*places)
        await until(lambda: len(made.carriers.calls) >= 5, complain="it is in the middle of them")
        await kill(first, made.running[0])
        for result in results:
            facts = await second.over(session_of(result))
            assert facts.end_reason in ("busy", "failed", "no_answer")
        assert all(times == 1 for times in dialled(made).values())
        assert sum(dialled(made).values()) >= 18, "all but those whose order was under way"
        await second.lane_is_empty()  # slots that the dead one held are free when their leases end


async def test_a_call_for_which_no_worker_is_free_waits_its_turn_again(tmp_path):
    async with rig(tmp_path, workers=1, plan=Plan(rings=0.2, result="busy")) as made:
        [gateway] = made.gateways
        await gateway.pause(0.5)
        results = [await gateway.dialout.place(request("twilio", number(n))) for n in range(3)]
        facts = [await gateway.over(session_of(result)) for result in results]
        assert {each.end_reason for each in facts} == {"busy"}
        assert len(made.carriers.calls) == 3
