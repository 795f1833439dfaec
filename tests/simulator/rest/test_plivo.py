"""Plivo's API by literal requests, its signatures by Plivo's own SDK, against literal facts.

The SDK cannot be used as a client: it has no base URL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from plivo.utils import validate_v3_signature

from gateway.simulator.plivo import PlivoAccount
from gateway.simulator.rest import Pace, Plan, SimulatedCarriers
from tests.kit.waiting import until

from ..scripted_gateway import ScriptedGateway
from .calls import FROM, TO, asked, form, streaming


@pytest.fixture
async def client(carriers: SimulatedCarriers) -> AsyncIterator[httpx.AsyncClient]:
    account = cast(PlivoAccount, carriers.accounts["plivo"])
    base = f"{carriers.api_url('plivo')}/v1/Account/{account.auth_id}"
    async with httpx.AsyncClient(base_url=base, auth=(account.auth_id, account.auth_token)) as client:
        yield client


async def dial(client: httpx.AsyncClient, gateway: ScriptedGateway, **more: Any) -> httpx.Response:
    url = f"{gateway.url}/webhooks/plivo"
    order = {"from": FROM, "to": TO, "answer_url": f"{url}/voice?session=s1", "answer_method": "POST"}
    order |= {"ring_url": f"{url}/ring", "hangup_url": f"{url}/hangup"}
    return await client.post("/Call/", json=order | more)


def at(gateway: ScriptedGateway, action: str) -> list[dict[str, str]]:
    return asked(gateway, f"/webhooks/plivo/{action}")


async def test_a_call_rings_is_answered_talks_and_is_hung_up(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    created = await dial(client, gateway)
    assert (created.status_code, created.json()["message"]) == (201, "call fired")
    assert set(created.json()) == {"api_id", "message", "request_uuid"}
    call = await streaming(carriers)
    live = await client.get(f"/Call/{call.call_id}/", params={"status": "live"})
    assert (live.json()["call_status"], live.json()["to"]) == ("in-progress", TO.lstrip("+"))
    assert (await client.get(f"/Call/{call.call_id}/")).status_code == 404
    assert (await client.delete(f"/Call/{call.call_id}/")).status_code == 204
    await carriers.ended()
    (ring,), (voice,), (hangup,) = at(gateway, "ring"), at(gateway, "voice"), at(gateway, "hangup")
    for each in (ring, voice, hangup):
        assert each["RequestUUID"] == created.json()["request_uuid"] != each["CallUUID"] == call.call_id
    assert (ring["Event"], ring["CallStatus"], ring["To"]) == ("Ring", "ringing", TO)
    assert (voice["Event"], voice["CallStatus"], voice["Direction"]) == ("StartApp", "in-progress", "outbound")
    assert voice["To"] == TO.lstrip("+")
    assert (hangup["Event"], hangup["CallStatus"], hangup["Duration"]) == ("Hangup", "completed", "0")
    assert (hangup["HangupCauseCode"], hangup["HangupSource"]) == ("4000", "API Request")
    assert at(gateway, "resume") == [] and call.report.violations == []
    record = (await client.get(f"/Call/{call.call_id}/")).json()
    assert (record["call_state"], record["hangup_cause_code"]) == ("ANSWER", 4000)
    assert (await client.delete(f"/Call/{call.call_id}/")).status_code == 404


async def test_what_it_sends_is_signed(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    carriers.plan = Plan(rings=0.02, seconds=0.1)
    await dial(client, gateway)
    await carriers.ended()
    token = cast(PlivoAccount, carriers.accounts["plivo"]).auth_token
    for seen in gateway.requests:
        nonce, signature = seen.headers["x-plivo-signature-v3-nonce"], seen.headers["x-plivo-signature-v3"]
        assert validate_v3_signature("POST", seen.url, nonce, token, signature, form(seen))


@pytest.mark.parametrize(
    ("plan", "status", "code"),
    [
        (Plan(rings=0.02, result="busy"), "busy", "3010"),
        (Plan(result="no-answer", gives_up=0.02), "no-answer", "6000"),
        (Plan(rings=0.02, result="failed"), "failed", "2000"),
    ],
)
async def test_a_call_that_is_not_answered(
    plan: Plan, status: str, code: str, carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    carriers.plans[TO] = plan
    await dial(client, gateway)
    await carriers.ended()
    (hangup,) = at(gateway, "hangup")
    assert (hangup["CallStatus"], hangup["HangupCauseCode"], hangup["AnswerTime"]) == (status, code, "")
    assert at(gateway, "voice") == []


async def test_a_request_is_cancelled_while_it_rings(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    carriers.plan = Plan(rings=60)
    request = (await dial(client, gateway)).json()["request_uuid"]
    await until(lambda: carriers.calls[0].status == "ringing")
    assert (await client.delete(f"/Request/{request}/")).status_code == 204
    await carriers.ended()
    assert at(gateway, "hangup")[0]["HangupCauseName"] == "Cancelled"
    assert (await client.delete(f"/Request/{request}/")).status_code == 404


async def test_a_transfer_moves_the_call(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    await dial(client, gateway)
    call = await streaming(carriers)
    gateway.answers["/moved"] = (200, "<Response><DTMF>12</DTMF></Response>", "text/xml")
    moved = await client.post(f"/Call/{call.call_id}/", json={"legs": "aleg", "aleg_url": f"{gateway.url}/moved"})
    assert (moved.status_code, moved.json()["message"]) == (202, "call transfered")
    await carriers.ended()
    assert (call.report.verbs, call.report.dtmf) == (["Stream", "moved", "PlayDigits"], ["12"])
    assert at(gateway, "hangup")[0]["HangupCauseCode"] == "4010"


async def test_digits_are_sent(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    await dial(client, gateway)
    call = await streaming(carriers)
    sent = await client.post(f"/Call/{call.call_id}/DTMF/", json={"digits": "12#", "leg": "aleg"})
    assert (sent.status_code, call.report.dtmf) == (202, ["12#"])


async def test_a_machine_is_told_of_afterwards(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    carriers.plan = Plan(rings=0.02, party="machine", verdict=0.02, seconds=0.2)
    url = f"{gateway.url}/webhooks/plivo/amd"
    await dial(client, gateway, machine_detection="true", machine_detection_url=url)
    await carriers.ended()
    (told,) = at(gateway, "amd")
    assert (told["Event"], told["Machine"], told["IfMachine"]) == ("MachineDetection", "true", "continue")


async def test_a_machine_is_hung_up(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    carriers.plan = Plan(rings=0.02, party="machine", verdict=0.02)
    url = f"{gateway.url}/webhooks/plivo/amd"
    await dial(client, gateway, machine_detection="hangup", machine_detection_url=url)
    await carriers.ended()
    assert at(gateway, "hangup")[0]["HangupCauseCode"] == "9100"


async def test_more_calls_than_the_rate_are_queued(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    carriers.pace["plivo"] = Pace(calls=20)
    messages = [(await dial(client, gateway)).json()["message"] for _ in range(3)]
    assert messages == ["call fired", "call queued", "call queued"]
    assert carriers.calls[0].queued == 0 < carriers.calls[1].queued < carriers.calls[2].queued


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"to": ""}, 400, "to is a required parameter"),
        ({"to": "12"}, 400, "12 is not a valid phone number"),
        ({"answer_url": "nowhere"}, 400, "answer_url is not a valid URL"),
        ({"to": "+15550000140"}, 400, "+15550000140 is not a valid phone number"),
        ({"to": "+15550000143"}, 429, "too many requests"),
        ({"to": "+15550000144"}, 500, "internal server error"),
    ],
)
async def test_a_request_is_refused(
    change: dict[str, str],
    status: int,
    error: str,
    carriers: SimulatedCarriers,
    gateway: ScriptedGateway,
    client: httpx.AsyncClient,
) -> None:
    refused = await dial(client, gateway, **change)
    assert (refused.status_code, refused.json()["error"], set(refused.json())) == (status, error, {"api_id", "error"})
    assert list(carriers.calls) == []


async def test_wrong_credentials_are_answered_in_plain_text(
    gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    client.auth = httpx.BasicAuth("MAXXXXXXXXXXXXXXXXXX", "wrong")
    refused = await dial(client, gateway)
    assert refused.status_code == 401 and refused.text.startswith("Could not verify your access level")
