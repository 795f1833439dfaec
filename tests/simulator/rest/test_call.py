"""A placed call's life, whatever its carrier: moved, ended, transferred, bounded, told."""

from __future__ import annotations

from typing import Any, cast

import httpx
import pytest

from gateway.simulator.call import Step
from gateway.simulator.plan import Faults
from gateway.simulator.rest import PlacedCall, Plan, SimulatedCarriers
from gateway.simulator.twilio import TwilioAccount
from tests.kit.waiting import until

from ..scripted_gateway import ScriptedGateway
from .calls import FROM, TO, asked, streaming

TWIML = "text/xml"


async def dial(carriers: SimulatedCarriers, gateway: ScriptedGateway, **more: Any) -> PlacedCall:
    account = cast(TwilioAccount, carriers.accounts["twilio"])
    url = f"{carriers.api_url('twilio')}/2010-04-01/Accounts/{account.account_sid}/Calls.json"
    order = {"To": TO, "From": FROM, "Url": f"{gateway.url}/webhooks/twilio/voice"}
    order |= {"StatusCallback": f"{gateway.url}/status", "StatusCallbackEvent": "initiated ringing answered completed"}
    async with httpx.AsyncClient(auth=(account.account_sid, account.auth_token)) as client:
        assert (await client.post(url, data=order | more)).status_code == 201
    return carriers.calls[-1]


def told(gateway: ScriptedGateway) -> list[str]:
    return [each["CallStatus"] for each in asked(gateway, "/status")]


async def test_the_instructions_run_out(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    gateway.answers["/webhooks/twilio/voice"] = (200, "<Response><Say>Goodbye</Say></Response>", TWIML)
    call = await dial(carriers, gateway)
    await carriers.ended()
    assert (call.status, call.ended_by, call.report.outcome) == ("completed", "caller", "completed")


async def test_an_answer_url_that_fails_ends_the_call(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    gateway.answers["/webhooks/twilio/voice"] = (500, "", "")
    call = await dial(carriers, gateway)
    await carriers.ended()
    assert (call.status, call.ended_by) == ("completed", "carrier")
    assert call.report.outcome.startswith("failed: 11200")


@pytest.mark.parametrize("result", ["completed", "no-answer"])
async def test_a_transfer_is_answered_or_not(
    result: Any, carriers: SimulatedCarriers, gateway: ScriptedGateway
) -> None:
    carriers.plan = Plan(rings=0.01, dial_result=result, dial_seconds=0.02)
    dial_verb = '<Response><Dial action="{http}/after">+15550100777</Dial></Response>'
    gateway.answers["/webhooks/twilio/voice"] = (200, dial_verb, TWIML)
    gateway.answers["/after"] = (200, "<Response/>", TWIML)
    call = await dial(carriers, gateway)
    await carriers.ended()
    assert call.report.dialled == ["+15550100777"]
    assert asked(gateway, "/after")[0]["DialCallStatus"] == result


async def test_a_transfer_to_a_number_of_the_table(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    busy = '<Response><Dial action="{http}/after">+15550000110</Dial></Response>'
    gateway.answers["/webhooks/twilio/voice"] = (200, busy, TWIML)
    gateway.answers["/after"] = (200, "<Response/>", TWIML)
    await dial(carriers, gateway)
    await carriers.ended()
    assert asked(gateway, "/after")[0]["DialCallStatus"] == "busy"


async def test_a_call_is_over_at_its_time_limit(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    call = await dial(carriers, gateway, TimeLimit="0.05")
    await until(lambda: call.answered_at)
    await carriers.ended()
    assert (call.ended_by, call.seconds, told(gateway)[-1]) == ("carrier", 0, "completed")


async def test_a_move_in_a_pause_does_not_wait_for_its_end(
    carriers: SimulatedCarriers, gateway: ScriptedGateway
) -> None:
    gateway.answers["/webhooks/twilio/voice"] = (200, '<Response><Pause length="60"/></Response>', TWIML)
    call = await dial(carriers, gateway)
    await until(lambda: call.report.verbs)
    call.move(Step("", document='<Response><Pause length="50"/></Response>'))
    await until(lambda: "Pause 50" in call.report.verbs)
    call.end("callee")
    call.move(Step("", document="<Response/>"))  # too late
    await carriers.ended()
    assert call.report.verbs == ["Pause 60", "moved", "Pause 50"] and call.ended_by == "callee"


async def test_a_stream_that_is_refused_is_left(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    gateway.refuse_streams = 1
    call = await dial(carriers, gateway)
    await carriers.ended()
    assert call.report.notes and asked(gateway, "/webhooks/twilio/resume")


@pytest.mark.parametrize(("callbacks", "times"), [("all", 1), ("none", 0), ("twice", 2)])
async def test_callbacks_come_once_never_or_twice(
    callbacks: Any, times: int, carriers: SimulatedCarriers, gateway: ScriptedGateway
) -> None:
    carriers.plan = Plan(rings=0.01, result="busy", callbacks=callbacks)
    await dial(carriers, gateway)
    await carriers.ended()
    assert told(gateway) == [word for word in ("initiated", "ringing", "busy") for _ in range(times)]


async def test_callbacks_may_come_in_reverse(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    carriers.plan = Plan(rings=0.01, seconds=0.05, callbacks="reversed")
    await dial(carriers, gateway)
    await carriers.ended()
    assert told(gateway) == ["completed", "in-progress", "ringing", "initiated"]
    assert [each["SequenceNumber"] for each in asked(gateway, "/status")] == ["3", "2", "1", "0"]


async def test_a_machine_talks_as_long_as_its_greeting(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    carriers.plan = Plan(rings=0.01, seconds=0.2, party="machine", greeting=0.1)
    call = await dial(carriers, gateway)
    await carriers.ended()
    assert call.talk.audio_seconds == 0.1


async def test_a_voice_webhook_may_be_sent_twice(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    carriers.plan = Plan(rings=0.01, seconds=0.05, faults=Faults(duplicate_webhook=True))
    call = await dial(carriers, gateway)
    await carriers.ended()
    assert len(asked(gateway, "/webhooks/twilio/voice")) == 2 and call.report.webhook_ms > 0


async def test_only_events_that_were_asked_for_are_told(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    carriers.plan = Plan(rings=0.01, seconds=0.05)
    await dial(carriers, gateway, StatusCallbackEvent="answered")
    await carriers.ended()
    assert told(gateway) == ["in-progress"]


async def test_a_moved_call_closes_its_stream_first(carriers: SimulatedCarriers, gateway: ScriptedGateway) -> None:
    call = await dial(carriers, gateway)
    await streaming(carriers)
    call.move(Step(f"{gateway.url}/webhooks/twilio/voice"))
    await until(lambda: len(gateway.messages) == 2)
    assert gateway.messages[0][-1]["event"] == "stop"
    await until(lambda: len(call.report.streams) == 2 and call.report.streams[1].media_messages)
    call.end("api")
    await carriers.ended()
    assert call.report.verbs == ["Stream", "moved", "Stream"] and gateway.messages[1][-1]["event"] == "stop"
