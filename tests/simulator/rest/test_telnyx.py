"""Telnyx's API by Telnyx's own SDK, and its callbacks to a small gateway, against literal facts."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from nacl.signing import VerifyKey

from gateway.simulator.rest import Plan, SimulatedCarriers
from gateway.simulator.telnyx import TelnyxAccount
from tests.kit.waiting import until

from ..scripted_gateway import ScriptedGateway
from .calls import FROM, TO, asked, streaming

if TYPE_CHECKING:  # to import it takes over a second: not in each process that collects the tests
    from telnyx import AsyncTelnyx

ALL = "initiated ringing answered completed"
USER = "f5586561-8ff0-4291-a51b-c7dfe4139ff9"


def account(carriers: SimulatedCarriers) -> TelnyxAccount:
    return cast(TelnyxAccount, carriers.accounts["telnyx"])


@pytest.fixture
async def client(carriers: SimulatedCarriers) -> AsyncIterator[AsyncTelnyx]:
    from telnyx import AsyncTelnyx

    async with AsyncTelnyx(
        api_key=account(carriers).api_key, base_url=carriers.api_url("telnyx") + "/v2", max_retries=0
    ) as client:
        yield client


async def dial(client: AsyncTelnyx, carriers: SimulatedCarriers, gateway: ScriptedGateway, **more: Any) -> Any:
    order = {"ApplicationSid": account(carriers).connection_id, "To": TO, "From": FROM}
    order |= {"Url": f"{gateway.url}/webhooks/telnyx/voice?session=s1"}
    order |= {"StatusCallback": f"{gateway.url}/webhooks/telnyx/status", "StatusCallbackEvent": ALL}
    raw = await client.texml.accounts.calls.with_raw_response.calls(USER, body=cast(Any, order | more))
    return raw.http_response.json()


def at(gateway: ScriptedGateway, action: str) -> list[dict[str, str]]:
    return asked(gateway, f"/webhooks/telnyx/{action}")


async def test_a_call_rings_is_answered_talks_and_is_hung_up(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: AsyncTelnyx
) -> None:
    created = await dial(client, carriers, gateway)
    assert created == {"call_sid": created["call_sid"], "from": FROM, "status": "queued", "to": TO}
    call = await streaming(carriers)
    alive = await client.calls.retrieve_status(created["call_sid"])
    assert alive.data is not None and alive.data.is_alive
    done = await client.calls.actions.hangup(created["call_sid"])
    assert done.data is not None and done.data.result == "ok"
    await carriers.ended()
    assert (call.call_id, call.ended_by, call.report.violations) == (created["call_sid"], "api", [])
    (voice,) = at(gateway, "voice")
    assert (voice["CallSid"], voice["CallStatus"], voice["Direction"]) == (call.call_id, "in-progress", "outbound")
    told = [(each["CallStatus"], each["SequenceNumber"]) for each in at(gateway, "status")]
    assert told == [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")]
    answered, completed = at(gateway, "status")[2:]
    assert (answered["Codec"], answered["SamplingRate"]) == ("PCMU", "8000")
    assert (completed["HangupCause"], completed["CallbackSource"]) == ("normal_clearing", "call-progress-events")
    assert isinstance(json.loads(completed["CallQualityStats"]), dict)
    assert gateway.messages[0][1]["start"]["call_control_id"] == call.call_id
    assert gateway.messages[0][-1]["event"] == "stop" and at(gateway, "resume") == []
    over = await client.calls.retrieve_status(created["call_sid"])
    assert over.data is not None and not over.data.is_alive


async def test_what_it_sends_is_signed(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: AsyncTelnyx
) -> None:
    carriers.plan = Plan(rings=0.02, seconds=0.1)
    await dial(client, carriers, gateway)
    await carriers.ended()
    key = VerifyKey(base64.b64decode(account(carriers).public_key))
    for seen in gateway.requests:
        signed = seen.headers["telnyx-timestamp"].encode() + b"|" + seen.body
        key.verify(signed, base64.b64decode(seen.headers["telnyx-signature-ed25519"]))


@pytest.mark.parametrize(
    ("plan", "status", "cause"),
    [
        (Plan(rings=0.02, result="busy"), "busy", "user_busy"),
        (Plan(result="no-answer", gives_up=0.02), "no-answer", "timeout"),
        (Plan(rings=0.02, result="failed"), "failed", "not_found"),
    ],
)
async def test_a_call_that_is_not_answered(
    plan: Plan, status: str, cause: str, carriers: SimulatedCarriers, gateway: ScriptedGateway, client: AsyncTelnyx
) -> None:
    carriers.plans[TO] = plan
    created = await dial(client, carriers, gateway)
    await carriers.ended()
    last = at(gateway, "status")[-1]
    assert (last["CallStatus"], last["HangupCause"], at(gateway, "voice")) == (status, cause, [])
    shown = await client.texml.accounts.calls.retrieve(created["call_sid"], account_sid=USER)
    assert (shown.status, shown.direction) == (status, "outbound")


async def test_an_update_moves_the_call(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: AsyncTelnyx
) -> None:
    created = await dial(client, carriers, gateway)
    call = await streaming(carriers)
    gateway.answers["/moved"] = (200, "<Response><Dial>+15550100777</Dial></Response>", "text/xml")
    await client.texml.accounts.calls.update(
        created["call_sid"], account_sid=USER, url=f"{gateway.url}/moved", method="POST"
    )
    await until(lambda: call.report.dialled)
    await client.texml.accounts.calls.update(created["call_sid"], account_sid=USER, status="completed")
    await carriers.ended()
    assert (call.report.dialled, call.report.verbs) == (["+15550100777"], ["Stream", "moved", "Dial"])


async def test_a_machine_is_told_of_afterwards(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: AsyncTelnyx
) -> None:
    carriers.plan = Plan(rings=0.02, party="machine", verdict=0.02, seconds=0.2)
    url = f"{gateway.url}/webhooks/telnyx/amd"
    amd = {"MachineDetection": "Enable", "AsyncAmd": True, "AsyncAmdStatusCallback": url}
    await dial(client, carriers, gateway, **amd)
    await carriers.ended()
    (told,) = at(gateway, "amd")
    names = {"AccountSid", "AnsweredBy", "CallSid", "CallSidLegacy", "ConnectionId", "MachineDetectionDuration"}
    assert told["AnsweredBy"] == "machine_start" and set(told) == names


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"To": "4155550100"}, "UnprocessableEntityError", "10016"),
        ({"Url": "nowhere"}, "UnprocessableEntityError", "10015"),
        ({"ApplicationSid": "7"}, "UnprocessableEntityError", "10015"),
        ({"To": "+15550000140"}, "UnprocessableEntityError", "10002"),
        ({"To": "+15550000141"}, "PermissionDeniedError", "10010"),
        ({"To": "+15550000142"}, "AuthenticationError", "10009"),
        ({"To": "+15550000143"}, "RateLimitError", "10011"),
        ({"To": "+15550000144"}, "InternalServerError", "10007"),
    ],
)
async def test_a_request_is_refused(
    change: dict[str, str],
    error: str,
    code: str,
    carriers: SimulatedCarriers,
    gateway: ScriptedGateway,
    client: AsyncTelnyx,
) -> None:
    import telnyx

    with pytest.raises(getattr(telnyx, error)) as refused:
        await dial(client, carriers, gateway, **change)
    assert refused.value.response.json()["errors"][0]["code"] == code
    assert list(carriers.calls) == []


async def test_a_wrong_key_is_10009(carriers: SimulatedCarriers, gateway: ScriptedGateway, client: AsyncTelnyx) -> None:
    from telnyx import AuthenticationError

    with pytest.raises(AuthenticationError) as refused:
        await dial(client.with_options(api_key="KEYwrong"), carriers, gateway)
    assert refused.value.response.json()["errors"][0]["code"] == "10009"


async def test_a_call_that_is_over_or_never_was(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: AsyncTelnyx
) -> None:
    from telnyx import UnprocessableEntityError

    carriers.plan = Plan(rings=0.02, result="busy")
    created = await dial(client, carriers, gateway)
    await carriers.ended()
    with pytest.raises(UnprocessableEntityError) as over:
        await client.calls.actions.hangup(created["call_sid"])
    assert over.value.response.json()["errors"][0]["code"] == "90018"
    with pytest.raises(UnprocessableEntityError) as unknown:
        await client.calls.actions.hangup("v3:none")
    assert unknown.value.response.json()["errors"][0]["code"] == "90015"


async def test_a_call_that_rings_takes_no_commands_but_hangup(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: AsyncTelnyx
) -> None:
    from telnyx import UnprocessableEntityError

    carriers.plan = Plan(rings=60)
    created = await dial(client, carriers, gateway)
    with pytest.raises(UnprocessableEntityError) as early:
        await client.calls.actions.send_dtmf(created["call_sid"], digits="1")
    assert early.value.response.json()["errors"][0]["code"] == "90034"
    await client.calls.actions.hangup(created["call_sid"])
    await carriers.ended()
    assert carriers.calls[0].status == "canceled"


async def test_the_deprecated_path_answers_flat(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    url = f"{carriers.api_url('telnyx')}/v2/texml/calls/{account(carriers).connection_id}"
    key = {"Authorization": f"Bearer {account(carriers).api_key}"}
    order = {"To": TO, "From": FROM, "Url": f"{gateway.url}/webhooks/telnyx/voice"}
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, json=order, headers=key)
    assert answer.json() == {"call_sid": carriers.calls[0].call_id, "from": FROM, "status": "queued", "to": TO}
