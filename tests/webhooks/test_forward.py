"""A caller without a bot is sent on: the number is dialled on every carrier, once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from gateway.node.services import Fallback
from gateway.simulator import CARRIERS, CallPlan, Credentials, place_call
from gateway.simulator.plan import DialResult
from tests.acceptance.program import Gateway
from tests.simulator.plans import speech

NUMBER = "+15550123456"
CALL = {"CallSid": "e" * 32, "CallFrom": "09494865411", "CallTo": "08040000000", "Direction": "incoming"}
CONFIG = f"""
records = ""
[server]
ops_bind = ""
[dialout]
allow = ["+1555"]
[[services]]
host = "full"
default = true
workers = ["ws://127.0.0.1:9/ws"]
when_full = "forward:{NUMBER}"
when_down = "forward:{NUMBER}"
"""


@pytest.mark.parametrize("result", ["completed", "no-answer"])
async def test_a_full_service_forwards_on_every_carrier(tmp_path: Path, result: DialResult) -> None:
    with Gateway.of(tmp_path, CONFIG, "--dev") as gateway:
        for carrier in CARRIERS:
            plan = CallPlan(
                carrier=carrier,
                base_url=gateway.url,
                audio=speech(0.1),
                dial_result=result,
                credentials=Credentials.generate(),
            )
            report = await place_call(plan)
            assert (report.outcome, report.dialled, report.opened) == ("completed", [NUMBER], []), report
            assert report.violations == []


@pytest.fixture
def service(service):
    """Its callers are sent on where there is no worker for them."""
    forward = Fallback("forward", NUMBER)
    return replace(service, when_full=forward, when_down=forward)


@pytest.fixture
def forwarding(gateway):
    """The node takes no calls."""
    gateway.node.refusing = True
    return gateway


async def asked(gateway, applet: str, **fields: str) -> httpx.Response:
    return await gateway.http.get(f"/webhooks/exotel/{applet}", params=CALL | fields)


def numbers(answer: httpx.Response) -> list[str]:
    return json.loads(answer.content)["destination"]["numbers"]


async def test_connect_names_the_number_as_often_as_it_asks(forwarding):
    assert (await asked(forwarding, "voice")).status_code == 302
    assert (await asked(forwarding, "resume")).status_code == 302
    assert [numbers(await asked(forwarding, "connect")) for _ in range(2)] == [[NUMBER]] * 2


async def test_a_forward_in_vain_is_not_dialled_again(forwarding):
    await asked(forwarding, "voice")
    vain = {"DialCallStatus": "no-answer"}
    assert (await asked(forwarding, "voice", **vain)).status_code == 503
    forwarding.node.refusing = False
    again = await asked(forwarding, "resume", **vain)
    assert again.status_code == 302, "a worker is free by now"
    assert numbers(await asked(forwarding, "connect", **vain)) == [], "back to Voicebot"
    assert "/ws/exotel/" in json.loads((await asked(forwarding, "voice", **vain)).content)["url"]


async def test_a_call_that_was_dialled_before_is_forwarded(forwarding):
    """The flow's own Connect came first, and nobody answered it."""
    before = {"DialCallStatus": "no-answer"}
    assert (await asked(forwarding, "voice", **before)).status_code == 302


async def test_without_a_registry_connect_names_the_number(forwarding):
    forwarding.node.limits = replace(forwarding.node.limits, outage_grace=0.0)
    forwarding.memory.down = True
    assert (await asked(forwarding, "voice")).status_code == 302
    assert (await asked(forwarding, "resume")).status_code == 302
    assert numbers(await asked(forwarding, "connect")) == [NUMBER]
    assert (await asked(forwarding, "resume", DialCallStatus="busy")).status_code == 200
