"""Webhooks of calls that we placed: found by their URL, before the carrier has told the call's id, or after."""

from __future__ import annotations

import httpx
import pytest

from gateway.carriers.parameters import OwnParameters
from gateway.pool.facts import FactEvent, Facts, hung_up
from gateway.pool.registry import Claim
from tests.kit.node import SERVICE, Gateway, start
from tests.kit.waiting import until

SESSION = "5e55" * 8
OURS, CALLEE = "+15550100", "+15550190001"
ORDERED = FactEvent(
    carrier="twilio",
    service=SERVICE,
    direction="outbound",
    from_number=OURS,
    to_number=CALLEE,
    body={"order": 17},
    status="queued",
    created=1.0,
)


@pytest.fixture
async def placed(gateway) -> Gateway:
    """A call that rings, with its worker."""
    await gateway.node.registry.merge(SESSION, ORDERED)
    claim = await gateway.node.registry.claim(SERVICE, SESSION)
    assert isinstance(await gateway.node.registry.confirm(SESSION, claim.attempt), Claim)
    return gateway


async def post(gateway: Gateway, route: str, call_id: str = "CA1", mac: str | None = None, **fields) -> httpx.Response:
    mac = gateway.node.signer.call_mac(SESSION, "twilio") if mac is None else mac
    query = OwnParameters(session=SESSION, mac=mac).query()
    form = {"CallSid": call_id, "AccountSid": "AC1", "From": OURS, "To": CALLEE, "Direction": "outbound-api"}
    return await gateway.http.post(f"/webhooks/twilio/{route}?{query}&note=x", data=form | fields)


async def facts_of(gateway: Gateway, session: str = SESSION) -> Facts:
    found = await gateway.node.registry.find(session)
    assert found is not None
    return found


async def test_an_answer_before_the_orders_own_is_that_calls(placed):
    answer = await post(placed, "voice", CallStatus="in-progress")
    facts = await facts_of(placed)
    assert (facts.call_id, facts.status, facts.body) == ("CA1", "answered", {"order": 17})
    assert facts.answered > 0
    assert (await placed.node.registry.find("twilio::CA1")).session == SESSION
    assert b"gw_mac" in answer.content, "the way back finds the session, too"
    carrier = await placed.open(placed.path_in(answer))
    carrier.send(start("CA1"))
    await placed.started()
    [told] = placed.starts()
    assert (told["session_id"], told["call"]["body"]) == (SESSION, {"order": 17})
    carrier.socket.close()
    await carrier.until_closed()


async def test_a_repeated_answer_is_the_same(placed):
    first = await post(placed, "voice", CallStatus="in-progress")
    assert (await post(placed, "voice", CallStatus="in-progress")).content == first.content


@pytest.mark.parametrize("mac", ["", "A" * 22, "é"])
async def test_a_url_that_we_did_not_make_finds_nothing(placed, mac):
    await post(placed, "voice", mac=mac, CallStatus="in-progress")
    assert (await facts_of(placed)).call_id == ""


async def test_another_calls_webhook_at_the_url_is_not_that_calls(placed):
    """Telnyx signs no URL: a body that was signed for another call may be shown at it."""
    await post(placed, "voice", CallStatus="in-progress")
    await post(placed, "status", "CA2", CallStatus="completed")
    assert not (await facts_of(placed)).over


@pytest.mark.parametrize(
    ("word", "reason"),
    [("busy", "busy"), ("no-answer", "no_answer"), ("failed", "failed"), ("canceled", "canceled")],
)
async def test_a_call_that_was_not_answered_ends_by_its_status(placed, word, reason):
    await post(placed, "status", CallStatus="ringing")
    assert (await facts_of(placed)).status == "ringing"
    await post(placed, "status", CallStatus=word)
    facts = await facts_of(placed)
    assert facts.over and (facts.end_reason, facts.outcome) == (reason, word)
    assert b"<Stream" not in (await post(placed, "voice", CallStatus="in-progress")).content


async def test_any_order_of_its_statuses_gives_the_same(placed):
    await post(placed, "status", CallStatus="busy")
    await post(placed, "status", CallStatus="ringing")
    facts = await facts_of(placed)
    assert (facts.status, facts.end_reason, facts.call_id) == ("ended", "busy", "CA1")


async def test_a_gateway_that_drains_takes_the_call_it_has_placed(placed):
    placed.node.refusing = True
    answer = await post(placed, "voice", CallStatus="in-progress")
    assert b"<Stream" in answer.content


async def test_who_picked_up_is_kept(placed):
    await post(placed, "status", CallStatus="answered", AnsweredBy="machine_start")
    assert (await facts_of(placed)).answered_by == "machine"


async def test_one_hung_up_before_its_id_was_known_is_cancelled_as_it_rings(placed, rest_requests):
    await placed.node.registry.merge(SESSION, hung_up(await facts_of(placed), "canceled", 2.0))
    await post(placed, "status", CallStatus="ringing")
    await until(lambda: rest_requests == ["CA1"])


async def test_a_callee_is_held_from_the_answer_on(gateway):
    """Its order was made long ago: it has waited behind the rate, and rung. Its worker was lost meanwhile."""
    await gateway.node.registry.merge(SESSION, ORDERED)
    for other in ("another", "one more"):
        assert isinstance(await gateway.node.registry.claim(SERVICE, other), Claim)
    answer = await post(gateway, "voice", CallStatus="in-progress")
    assert b"<Stream" in answer.content
    assert (await post(gateway, "voice", CallStatus="in-progress")).content == answer.content
