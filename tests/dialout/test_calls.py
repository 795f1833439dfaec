"""A call from its order to its end, on each carrier, against the simulated REST APIs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.dialout.request import Dialled, DialRefusal
from gateway.simulator.rest import Plan
from tests.dialout.rig import CARRIERS, LIMITS, OURS, TO, Rig, request, rig
from tests.kit.waiting import until

QUICK = Plan(rings=0.05)


def of_each_carrier(test):
    return pytest.mark.parametrize("carrier", CARRIERS)(test)


async def talk(made: Rig, session: str) -> None:
    """The bot has the call, and hears its callee."""
    start = await made.started()
    assert start["session_id"] == session
    assert start["call"]["body"] == dict(request("").body)
    assert (start["call"]["from"], start["call"]["to"]) == (OURS, TO)
    assert start["call"]["direction"] == "outbound"
    await until(lambda: made.bot.audio, complain="the bot hears the callee")


@of_each_carrier
async def test_a_call_is_answered_and_ended_by_its_bot(tmp_path, carrier):
    async with rig(tmp_path, plan=QUICK) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request(carrier))
        assert isinstance(result, Dialled), result
        await talk(made, result.session_id)
        made.bot.socket.close()
        facts = await gateway.over(result.session_id)
        assert facts.end_reason == "bot_hangup"
        await gateway.nothing_is_left()
        assert len(made.dialled()) == 1


@of_each_carrier
async def test_a_call_is_answered_and_ended_by_its_callee(tmp_path, carrier):
    async with rig(tmp_path, plan=Plan(rings=0.05, seconds=0.3)) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request(carrier))
        await talk(made, result.session_id)
        facts = await gateway.over(result.session_id)
        assert (facts.end_reason, facts.outcome) == ("caller_hangup", "completed")
        assert facts.created <= facts.answered <= facts.ended
        await gateway.nothing_is_left()


UNANSWERED = {"busy": "busy", "no-answer": "no_answer", "failed": "failed"}


@of_each_carrier
@pytest.mark.parametrize("what", UNANSWERED)
async def test_a_call_that_is_not_answered_says_why(tmp_path, carrier, what):
    async with rig(tmp_path, plan=Plan(rings=0.05, gives_up=0.1, result=what)) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request(carrier))
        assert isinstance(result, Dialled), result
        facts = await gateway.over(result.session_id)
        assert (facts.end_reason, facts.outcome, facts.streams) == (UNANSWERED[what], what, 0)
        await gateway.nothing_is_left()
        assert not any(bot.told for bot in made.bots)


@of_each_carrier
@pytest.mark.parametrize("create", ["invalid", "forbidden", "unauthorized", "rate", "error", "unavailable"])
async def test_what_the_carrier_refuses_is_told_in_its_words(tmp_path, carrier, create):
    retried = create == "rate" and carrier == "twilio"  # whose Retry-After is waited for
    limits = LIMITS if retried else replace(LIMITS, longest_retry=0.5)
    async with rig(tmp_path, plan=Plan(create=create), limits=limits) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request(carrier))
        assert isinstance(result, DialRefusal), result
        assert result.status == 502
        assert result.code and result.detail
        await gateway.nothing_is_left()
        orders = [each for each in made.carriers.requests if each.method == "POST"]
        assert len(orders) == (2 if retried else 1), "once more, only where it was surely not accepted"
        assert made.dialled() == []


@of_each_carrier
@pytest.mark.parametrize("create", ["unanswered", "bad_gateway"])
async def test_a_call_that_was_placed_without_an_answer_is_dialled_once(tmp_path, carrier, create):
    """A proxy's 502 says no more than a timeout: what is behind it may have placed the call."""
    async with rig(tmp_path, plan=Plan(rings=0.4, create=create), limits=replace(LIMITS, order_timeout=0.2)) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request(carrier))
        assert isinstance(result, Dialled), result
        await talk(made, result.session_id)
        made.bot.socket.close()
        facts = await gateway.over(result.session_id)
        assert facts.call_id
        await gateway.nothing_is_left()
        assert len(made.dialled()) == 1


@of_each_carrier
async def test_an_answer_that_comes_before_the_carriers_own(tmp_path, carrier):
    """Exotel's call without a flow has no answer webhook: its stream comes first."""
    async with rig(tmp_path, plan=Plan(rings=0.02, delay=0.5)) as made:
        [gateway] = made.gateways
        placing = asyncio.create_task(gateway.dialout.place(request(carrier)))
        await made.started()
        assert not placing.done()
        result = await placing
        assert isinstance(result, Dialled), result
        await talk(made, result.session_id)
        assert (await gateway.facts(result.session_id)).call_id == result.call_id
        made.bot.socket.close()
        await gateway.over(result.session_id)
        await gateway.nothing_is_left()


@of_each_carrier
async def test_a_call_is_answered_at_the_other_gateway(tmp_path, carrier):
    async with rig(tmp_path, nodes=2, plan=QUICK) as made:
        first, second = made.gateways
        result = await first.dialout.place(request(carrier))
        assert isinstance(result, Dialled), result
        await talk(made, result.session_id)
        assert result.session_id in second.sessions and result.session_id not in first.sessions
        made.bot.socket.close()
        await first.over(result.session_id)
        await first.nothing_is_left()
        assert len(made.dialled()) == 1


@of_each_carrier
async def test_the_first_bot_is_told_first_that_it_rang_and_was_answered(tmp_path, carrier):
    """Its successor is not: what it would do then has been done."""
    async with rig(tmp_path, plan=QUICK) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request(carrier))
        await talk(made, result.session_id)
        first = made.bot
        assert [told.get("status", told["type"]) for told in first.told[:3]] == ["start", "ringing", "answered"]
        first.socket.close(1011)
        [second] = [bot for bot in made.bots if bot is not first]
        await second.until("start")
        second.socket.close()
        await gateway.over(result.session_id)
        assert not [told for told in second.of("status") if told["status"] in ("ringing", "answered")]


@pytest.mark.parametrize("carrier", ["twilio", "telnyx", "plivo"])
async def test_who_picked_up_is_told_to_the_bot(tmp_path, carrier):
    async with rig(tmp_path, plan=Plan(rings=0.02, party="machine", verdict=0.1)) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request(carrier, machine_detection="detect"))
        assert isinstance(result, Dialled), result
        await talk(made, result.session_id)
        await until(lambda: [said for said in made.bot.of("status") if said["status"] == "machine"])
        assert (await gateway.facts(result.session_id)).answered_by == "machine"
        made.bot.socket.close()
        await gateway.over(result.session_id)


async def test_a_call_of_which_nothing_is_heard_is_given_up(tmp_path):
    limits = replace(LIMITS, ring=1, ring_grace=-0.6, order_timeout=0.1)
    async with rig(tmp_path, plan=Plan(create="lost"), limits=limits) as made:
        [gateway] = made.gateways
        result = await gateway.dialout.place(request("twilio"))
        assert result == Dialled(result.session_id, None, "queued")
        facts = await gateway.over(result.session_id)
        assert (facts.end_reason, facts.outcome) == ("failed", "failed")
        await gateway.nothing_is_left()


async def test_a_carrier_that_cannot_be_reached_is_tried_twice(tmp_path):
    async with rig(tmp_path, plan=QUICK) as made:
        [gateway] = made.gateways
        account = gateway.node.carriers["twilio"].config.accounts[0]
        object.__setattr__(account, "api_url", "http://127.0.0.1:1/twilio")
        result = await gateway.dialout.place(request("twilio"))
        assert isinstance(result, DialRefusal)
        assert (result.status, result.code) == (502, "not_reached")
        await gateway.nothing_is_left()


async def test_a_pool_without_a_worker_dials_nobody(tmp_path):
    async with rig(tmp_path, workers=1, plan=Plan(rings=5.0)) as made:
        [gateway] = made.gateways
        first = await gateway.dialout.place(request("twilio"))
        assert isinstance(first, Dialled), first
        second = await gateway.dialout.place(request("twilio", "+15550190002"))
        assert isinstance(second, DialRefusal)
        assert (second.status, second.code, second.retry_after) == (429, "full", 5.0)
        assert made.dialled("+15550190002") == []
