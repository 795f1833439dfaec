"""A call that nobody wants any more when the carrier has taken the order is ended at the carrier."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.pool.facts import hung_up
from gateway.protocol.codes import EndReason
from gateway.sessions.control import Done, hang_up
from gateway.simulator.rest import Plan
from tests.dialout.rig import TO, request, rig
from tests.kit.waiting import until


@pytest.mark.parametrize("carrier", ["twilio", "telnyx", "plivo"])
async def test_a_call_hung_up_while_the_carrier_is_asked(tmp_path, carrier):
    async with rig(tmp_path, plan=Plan(rings=60.0, delay=0.2)) as made:
        [gateway] = made.gateways
        placing = asyncio.create_task(gateway.dialout.place(request(carrier)))
        await until(lambda: made.dialled())
        [call] = made.dialled()
        url = call.order.fields.get("StatusCallback") or call.order.fields["hangup_url"]
        [session] = parse_qs(urlsplit(url).query)["gw_session"]
        facts = await gateway.facts(session)
        await gateway.node.registry.merge(session, hung_up(facts, EndReason.API_HANGUP, gateway.node.unix_time()))
        await placing
        await until(lambda: call.status == "canceled", complain="the call is cancelled")
        assert len(made.dialled(TO)) == 1
        await gateway.nothing_is_left()


async def test_a_call_that_rings_before_its_first_webhook(tmp_path):
    """Plivo tells the call's own id with its first webhook: until then its request's id ends it."""
    async with rig(tmp_path, plan=Plan(rings=60.0, callbacks="none")) as made:
        [gateway] = made.gateways
        dialled = await gateway.dialout.place(request("plivo"))
        facts = await gateway.facts(dialled.session_id)
        assert (facts.call_id, facts.order_id != "") == ("", True)
        assert await hang_up(gateway.sessions, dialled.session_id) == Done()
        [call] = made.dialled()
        await until(lambda: call.status == "canceled", complain="the call is cancelled")
        await gateway.nothing_is_left()


async def test_a_call_of_a_carrier_that_cannot_cancel_gets_no_bot(tmp_path):
    """Exotel without a flow: the order has the stream's URL, which is good for as long as the call may ring."""
    async with rig(tmp_path, plan=Plan(rings=0.3, delay=0.2)) as made:
        [gateway] = made.gateways
        placing = asyncio.create_task(gateway.dialout.place(request("exotel")))
        await until(lambda: made.dialled())
        [session] = gateway.dialout._queue.held
        assert await hang_up(gateway.sessions, session) == Done()
        await placing
        [call] = made.dialled()
        await until(lambda: call.is_over, complain="the call ends with its stream")
        assert not any(bot.of("start") for bot in made.bots) and not gateway.sessions
        await gateway.nothing_is_left()
