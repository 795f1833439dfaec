"""A call that Exotel leads to a flow: the flow's URLs are the same for all calls, its CustomField says which it is."""

from __future__ import annotations

from dataclasses import fields

import pytest

from gateway.simulator.carriers import Credentials
from gateway.simulator.exotel import ExotelAccount
from gateway.simulator.rest import Plan
from gateway.simulator.rest.accounts import fixed_accounts
from tests.dialout.rig import OURS, TO, request, rig


class WithFlow(ExotelAccount):
    """The account of a user who has drawn a flow."""

    def settings(self) -> dict[str, str]:
        return {**ExotelAccount.settings(self), "flow_id": "926"}


@pytest.fixture
def accounts():
    known = fixed_accounts()
    keys = {one.name: getattr(known["exotel"], one.name) for one in fields(known["exotel"])}
    return Credentials(**{**known, "exotel": WithFlow(**keys)})


async def test_the_flow_finds_the_call_that_we_placed(tmp_path, accounts):
    async with rig(tmp_path, plan=Plan(rings=0.02), accounts=accounts) as made:
        [gateway] = made.gateways
        dialled = await gateway.dialout.place(request("exotel"))
        start = await made.started()
        assert start["session_id"] == dialled.session_id
        assert start["call"]["body"] == request("exotel").body
        assert (start["call"]["from"], start["call"]["to"]) == (OURS, TO)
        [call] = made.dialled()
        assert call.order.fields["Url"].endswith("/exoml/start_voice/926")
        call.end("callee")
        facts = await gateway.over(dialled.session_id)
        assert (facts.direction, facts.streams) == ("outbound", 1)
        await made.carriers.ended()
        assert len(made.dialled()) == 1
        await gateway.nothing_is_left()


async def test_a_flow_whose_call_is_not_answered(tmp_path, accounts):
    async with rig(tmp_path, plan=Plan(rings=0.02, result="busy"), accounts=accounts) as made:
        [gateway] = made.gateways
        dialled = await gateway.dialout.place(request("exotel"))
        facts = await gateway.over(dialled.session_id)
        assert (facts.outcome, facts.end_reason, facts.streams) == ("busy", "busy", 0)
        await gateway.nothing_is_left()
