"""Twilio's API by Twilio's own SDK, and its callbacks to a small gateway, against literal facts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from gateway.simulator.rest import Plan, SimulatedCarriers
from gateway.simulator.twilio import TwilioAccount
from tests.kit.waiting import until

from ..scripted_gateway import ScriptedGateway
from .calls import FROM, TO, asked, form, streaming

pytestmark = pytest.mark.filterwarnings("ignore:.*encode_basic_auth:DeprecationWarning")  # by the SDK

ALL = ["initiated", "ringing", "answered", "completed"]


def account(carriers: SimulatedCarriers) -> TwilioAccount:
    return cast(TwilioAccount, carriers.accounts["twilio"])


@pytest.fixture
async def client(carriers: SimulatedCarriers) -> AsyncIterator[Client]:
    http = AsyncTwilioHttpClient()
    client = Client(account(carriers).account_sid, account(carriers).auth_token, http_client=http)
    client.api.base_url = carriers.api_url("twilio")
    yield client
    await http.close()


async def dial(client: Client, gateway: ScriptedGateway, **more: Any) -> Any:
    order = {"to": TO, "from_": FROM, "url": f"{gateway.url}/webhooks/twilio/voice?session=s1"}
    order |= {"status_callback": f"{gateway.url}/webhooks/twilio/status", "status_callback_event": ALL}
    return await client.calls.create_async(**(order | more))


def at(gateway: ScriptedGateway, action: str) -> list[dict[str, str]]:
    return asked(gateway, f"/webhooks/twilio/{action}")


async def test_a_call_rings_is_answered_talks_and_is_hung_up(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    created = await dial(client, gateway)
    assert (created.status, created.direction, created.to, created._from) == ("queued", "outbound-api", TO, FROM)
    call = await streaming(carriers)
    assert (await client.calls(created.sid).fetch_async()).status == "in-progress"
    ended = await client.calls(created.sid).update_async(status="completed")
    await carriers.ended()
    assert call.call_id == ended.sid and call.ended_by == "api" and call.report.violations == []
    (voice,) = at(gateway, "voice")
    assert voice["CallSid"] == created.sid and voice["Direction"] == "outbound-api"
    assert (voice["CallStatus"], voice["To"], voice["From"]) == ("in-progress", TO, FROM)
    told = [(each["CallStatus"], each["SequenceNumber"]) for each in at(gateway, "status")]
    assert told == [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")]
    last = at(gateway, "status")[-1]
    assert last["CallbackSource"] == "call-progress-events" and last["CallDuration"] == "0"
    assert gateway.messages[0][-1]["event"] == "stop"
    assert at(gateway, "resume") == []
    assert (await client.calls(created.sid).fetch_async()).status == "completed"


async def test_what_it_sends_is_signed(carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client) -> None:
    await dial(client, gateway)
    (await streaming(carriers)).end("callee")
    await carriers.ended()
    validator = RequestValidator(account(carriers).auth_token)
    for seen in gateway.requests:
        assert validator.validate(seen.url, form(seen), seen.headers["x-twilio-signature"])
    (upgrade,) = gateway.upgrades
    assert validator.validate(upgrade.url, {}, upgrade.headers["x-twilio-signature"])


@pytest.mark.parametrize(
    ("plan", "status", "events"),
    [
        (Plan(rings=0.02, result="busy"), "busy", ["initiated", "ringing", "busy"]),
        (Plan(result="no-answer", gives_up=0.05), "no-answer", ["initiated", "ringing", "no-answer"]),
        (Plan(rings=0.02, result="failed"), "failed", ["initiated", "failed"]),
    ],
)
async def test_a_call_that_is_not_answered(
    plan: Plan, status: str, events: list[str], carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    carriers.plans[TO] = plan
    created = await dial(client, gateway)
    call = carriers.calls[0]
    await carriers.ended()
    assert (call.status, call.answered_at, call.seconds) == (status, None, 0)
    assert [each["CallStatus"] for each in at(gateway, "status")] == events
    assert at(gateway, "voice") == []
    assert (await client.calls(created.sid).fetch_async()).status == status


async def test_a_call_is_cancelled_while_it_rings(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    carriers.plan = Plan(rings=60)
    created = await dial(client, gateway)
    await until(lambda: carriers.calls[0].status == "ringing")
    await client.calls(created.sid).update_async(status="canceled")
    await carriers.ended()
    assert at(gateway, "status")[-1]["CallStatus"] == "canceled"


async def test_the_called_party_hangs_up(carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client) -> None:
    carriers.plan = Plan(rings=0.02, seconds=0.2)
    await dial(client, gateway)
    await carriers.ended()
    assert carriers.calls[0].ended_by == "callee" and carriers.calls[0].report.frames_sent >= 9


async def test_an_update_moves_the_call(carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client) -> None:
    created = await dial(client, gateway)
    call = await streaming(carriers)
    gateway.answers["/moved"] = (200, '<Response><Play digits="12#"/><Hangup/></Response>', "text/xml")
    await client.calls(created.sid).update_async(url=f"{gateway.url}/moved")
    await carriers.ended()
    assert gateway.messages[0][-1]["event"] == "stop" and at(gateway, "resume") == []
    assert call.report.dtmf == ["12#"] and call.report.verbs == ["Stream", "moved", "PlayDigits", "Hangup"]


async def test_instructions_come_in_the_request(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    twiml = f"<Response><Redirect>{gateway.url}/webhooks/twilio/resume</Redirect></Response>"
    created = await dial(client, gateway, url=None, twiml="<Response><Pause length='60'/></Response>")
    await until(lambda: carriers.calls[0].report.verbs)
    await client.calls(created.sid).update_async(twiml=twiml)
    await carriers.ended()
    assert at(gateway, "voice") == [] and len(at(gateway, "resume")) == 1


async def test_a_machine_is_told_of_afterwards(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    carriers.plan = Plan(rings=0.02, party="machine", verdict=0.05, greeting=0.1, seconds=0.4)
    url = f"{gateway.url}/webhooks/twilio/status?amd=1"
    amd = {"async_amd": "true", "async_amd_status_callback": url}
    created = await dial(client, gateway, machine_detection="DetectMessageEnd", status_callback_event=["none"], **amd)
    await carriers.ended()
    (told,) = at(gateway, "status")
    assert (told["AnsweredBy"], told["CallSid"]) == ("machine_end_beep", created.sid)
    assert set(told) == {"CallSid", "AccountSid", "AnsweredBy", "MachineDetectionDuration"}
    assert "AnsweredBy" not in at(gateway, "voice")[0]


async def test_without_async_the_answer_waits_for_the_verdict(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    carriers.plan = Plan(rings=0.02, verdict=0.05, seconds=0.1)
    await dial(client, gateway, machine_detection="Enable")
    await carriers.ended()
    assert at(gateway, "voice")[0]["AnsweredBy"] == "human"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"to": "12"}, 400, 21211),
        ({"from_": "bob"}, 400, 21212),
        ({"url": "nowhere"}, 400, 21205),
        ({"to": "+15550000140"}, 400, 21211),
        ({"to": "+15550000141"}, 400, 21215),
        ({"to": "+15550000142"}, 401, 20003),
        ({"to": "+15550000143"}, 429, 20429),
        ({"to": "+15550000144"}, 500, 20500),
        ({"to": "+15550000145"}, 503, 20503),
    ],
)
async def test_a_request_is_refused(
    change: dict[str, str],
    status: int,
    code: int,
    carriers: SimulatedCarriers,
    gateway: ScriptedGateway,
    client: Client,
) -> None:
    with pytest.raises(TwilioRestException) as refused:
        await dial(client, gateway, **change)
    assert (refused.value.status, refused.value.code) == (status, code)
    assert list(carriers.calls) == []


async def test_wrong_credentials_are_20003(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    client.auth = (account(carriers).account_sid, "wrong")
    with pytest.raises(TwilioRestException) as refused:
        await dial(client, gateway)
    assert (refused.value.status, refused.value.code, refused.value.msg) == (
        401,
        20003,
        "Unable to create record: Authenticate",
    )


async def test_a_call_that_is_over_or_never_was(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    created = await dial(client, gateway, timeout=1)
    carriers.calls[0].end("callee")
    await carriers.ended()
    with pytest.raises(TwilioRestException) as over:
        await client.calls(created.sid).update_async(status="completed")
    assert (over.value.status, over.value.code) == (400, 21220)
    with pytest.raises(TwilioRestException) as unknown:
        await client.calls("CA" + "0" * 32).update_async(status="completed")
    assert (unknown.value.status, unknown.value.code) == (404, 20404)


async def test_a_request_is_never_answered_and_the_call_placed(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    carriers.plan = Plan(rings=0.02, create="unanswered")
    asking = asyncio.create_task(dial(client, gateway))
    await streaming(carriers)
    assert not asking.done() and len(carriers.calls_to(TO)) == 1
    asking.cancel()
    await asyncio.wait([asking])


async def test_the_answer_webhook_precedes_the_create_response(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: Client
) -> None:
    carriers.plan = Plan(rings=0.02, create="early")
    created = await dial(client, gateway)
    assert at(gateway, "voice")[0]["CallSid"] == created.sid
