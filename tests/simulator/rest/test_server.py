"""The four APIs together: one port, one log, faults of requests, the way to the gateway."""

from __future__ import annotations

import asyncio
import tomllib
from typing import Any, cast

import httpx
import pytest

from gateway.errors import BindError
from gateway.simulator.exotel import ExotelAccount
from gateway.simulator.plivo import PlivoAccount
from gateway.simulator.rest import NUMBERS, Pace, PlacedCall, Plan, SimulatedCarriers
from gateway.simulator.rest.server import RestRequest
from gateway.simulator.telnyx import TelnyxAccount
from gateway.simulator.twilio import TwilioAccount
from tests.kit.waiting import until

from ..scripted_gateway import ScriptedGateway
from .calls import FROM, QUICK, TO, asked

NAMES = ["twilio", "telnyx", "plivo", "exotel"]


async def order(
    carriers: SimulatedCarriers, carrier: str, answer_url: str, to: str = TO, timeout: float | None = 5.0
) -> httpx.Response:
    """Place a call by any of the four, in the fewest words that it takes."""
    base, account = carriers.api_url(carrier), carriers.accounts[carrier]
    async with httpx.AsyncClient(timeout=timeout) as client:
        if isinstance(account, TwilioAccount):
            login = (account.account_sid, account.auth_token)
            url = f"{base}/2010-04-01/Accounts/{account.account_sid}/Calls.json"
            return await client.post(url, data={"To": to, "From": FROM, "Url": answer_url}, auth=login)
        if isinstance(account, TelnyxAccount):
            key = {"Authorization": f"Bearer {account.api_key}"}
            url = f"{base}/v2/texml/calls/{account.connection_id}"
            return await client.post(url, json={"To": to, "From": FROM, "Url": answer_url}, headers=key)
        if isinstance(account, PlivoAccount):
            login = (account.auth_id, account.auth_token)
            body = {"to": to, "from": FROM, "answer_url": answer_url}
            return await client.post(f"{base}/v1/Account/{account.auth_id}/Call/", json=body, auth=login)
        exotel = cast(ExotelAccount, account)
        form = {"From": to, "CallerId": FROM, "StreamType": "bidirectional", "StreamUrl": "ws://127.0.0.1:9/x"}
        url = f"{base}/v1/Accounts/{exotel.account_sid}/Calls/connect.json"
        return await client.post(url, data=form, auth=(exotel.api_key, exotel.api_token))


@pytest.mark.parametrize("carrier", NAMES)
async def test_a_number_of_the_table_is_refused_everywhere(
    carrier: str, carriers: SimulatedCarriers, gateway: ScriptedGateway
) -> None:
    expected = {"+15550000143": 429, "+15550000144": 500, "+15550000145": 503, "+15550000142": 401}
    for number, status in expected.items():
        assert (await order(carriers, carrier, gateway.url, number)).status_code == status
    assert list(carriers.calls) == [] and {each.status for each in carriers.requests} == set(expected.values())


@pytest.mark.parametrize("carrier", NAMES)
@pytest.mark.parametrize(("create", "placed"), [("unanswered", 1), ("lost", 0)])
async def test_a_request_without_an_answer_may_have_placed_a_call(
    create: Any, placed: int, carrier: str, carriers: SimulatedCarriers, gateway: ScriptedGateway
) -> None:
    carriers.plan = Plan(rings=0.01, seconds=0.01, create=create)
    with pytest.raises(httpx.ReadTimeout):
        await order(carriers, carrier, f"{gateway.url}/webhooks/{carrier}/voice", timeout=0.1)
    assert len(carriers.calls_to(TO)) == placed
    await until(lambda: carriers.requests)
    assert carriers.requests[0].status in (0, 200, 201, 504)


@pytest.mark.parametrize("carrier", ["twilio", "telnyx", "plivo"])
async def test_the_answer_webhook_may_come_first(
    carrier: str, carriers: SimulatedCarriers, gateway: ScriptedGateway
) -> None:
    carriers.plan = Plan(rings=0.01, create="early")
    assert (await order(carriers, carrier, f"{gateway.url}/webhooks/{carrier}/voice")).is_success
    assert len(asked(gateway, f"/webhooks/{carrier}/voice")) == 1


async def test_an_early_answer_does_not_wait_for_a_call_that_is_never_answered(
    carriers: SimulatedCarriers, gateway: ScriptedGateway
) -> None:
    carriers.plan = Plan(rings=0.01, result="busy", create="early")
    assert (await order(carriers, "twilio", gateway.url)).status_code == 201


async def test_a_slow_api_answers_late(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    carriers.plan = Plan(rings=0.01, seconds=0.01, delay=0.2)
    asking = asyncio.create_task(order(carriers, "twilio", f"{gateway.url}/webhooks/twilio/voice"))
    call = await until(lambda: carriers.calls[0] if carriers.calls else None)
    await until(lambda: call.answered_at)
    assert not asking.done() and (await asking).status_code == 201


@pytest.mark.parametrize("carrier", NAMES)
async def test_more_requests_than_the_rate_are_429(
    carrier: str, carriers: SimulatedCarriers, gateway: ScriptedGateway
) -> None:
    carriers.pace[carrier] = Pace(requests=0.5)
    assert (await order(carriers, carrier, gateway.url)).is_success
    refused = await order(carriers, carrier, gateway.url)
    assert (refused.status_code, refused.headers["retry-after"], len(carriers.calls)) == (429, "1", 1)


async def test_a_public_url_leads_to_where_the_gateway_listens(gateway: ScriptedGateway) -> None:
    gateway.public = "https://voice.example.com"
    async with SimulatedCarriers(plan=QUICK, public_url=gateway.public, gateway_url=gateway.url) as carriers:
        await order(carriers, "telnyx", f"{gateway.public}/webhooks/telnyx/voice")
        await until(lambda: gateway.upgrades)
    assert gateway.requests[0].path == "/webhooks/telnyx/voice"


async def test_another_gateway_is_asked_from_then_on(gateway: ScriptedGateway) -> None:
    async with ScriptedGateway() as other, SimulatedCarriers(plan=QUICK) as carriers:
        carriers.public_url, carriers.gateway_url = gateway.url, other.url
        await order(carriers, "twilio", f"{gateway.url}/webhooks/twilio/voice")
        await until(lambda: other.upgrades)
    assert gateway.requests == []


async def test_the_log_forgets_the_oldest(gateway: ScriptedGateway) -> None:
    async with SimulatedCarriers(plan=Plan(result="busy", rings=0.01), keep=2) as carriers:
        for last in "123":
            await order(carriers, "plivo", gateway.url, f"+1555019000{last}")
        await carriers.ended()
        assert [call.to[-1] for call in carriers.calls] == ["2", "3"]
        account = cast(PlivoAccount, carriers.accounts["plivo"])
        path = f"/plivo/v1/Account/{account.auth_id}/Call/"
        assert list(carriers.requests) == [RestRequest("POST", path, 201)] * 2


async def test_who_watches_is_told_of_every_step(gateway: ScriptedGateway) -> None:
    steps: list[tuple[str, str]] = []

    def told(call: PlacedCall) -> None:
        steps.append((call.carrier_name, call.status))

    async with SimulatedCarriers(plan=Plan(rings=0.01, result="busy"), told=told) as carriers:
        await order(carriers, "exotel", gateway.url)
        await carriers.ended()
    assert steps == [("exotel", "initiated"), ("exotel", "ringing"), ("exotel", "busy")]


async def test_its_end_ends_the_calls(gateway: ScriptedGateway) -> None:
    async with SimulatedCarriers(plan=QUICK) as carriers:
        await order(carriers, "twilio", f"{gateway.url}/webhooks/twilio/voice")
        await until(lambda: carriers.calls[0].report.frames_sent)
    assert (carriers.calls[0].status, carriers.calls[0].ended_by) == ("completed", "carrier")


async def test_a_port_that_is_taken_is_one_line() -> None:
    async with SimulatedCarriers() as carriers:
        with pytest.raises(BindError, match=r"--port: cannot listen on 127\.0\.0\.1:"):
            await SimulatedCarriers(port=int(carriers.url.rpartition(":")[2])).__aenter__()


async def test_its_settings_are_the_same_at_every_start() -> None:
    async with SimulatedCarriers() as one, SimulatedCarriers() as two:
        assert one.settings().replace(one.url, two.url) == two.settings()
        assert list(tomllib.loads(one.settings())["carriers"]) == NAMES


async def test_what_is_no_request_of_an_api_is_404(carriers: SimulatedCarriers) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{carriers.url}/twilio/nothing")).status_code == 404


async def test_a_body_that_is_too_large_is_413(carriers: SimulatedCarriers) -> None:
    account = cast(TwilioAccount, carriers.accounts["twilio"])
    url = f"{carriers.api_url('twilio')}/2010-04-01/Accounts/{account.account_sid}/Calls.json"
    async with httpx.AsyncClient(auth=(account.account_sid, account.auth_token)) as client:
        assert (await client.post(url, content=b"x" * 300_000)).status_code == 413


def test_numbers_of_the_table_are_fictional_and_told_apart() -> None:
    assert all(number.startswith("+155500001") for number in NUMBERS)
    assert len({one.what for one in NUMBERS.values()}) == len(NUMBERS)
