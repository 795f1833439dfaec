"""Exotel's API by literal requests, against literal facts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from lxml import etree

from gateway.simulator.exotel import ExotelAccount
from gateway.simulator.rest import Pace, Plan, SimulatedCarriers

from ..scripted_gateway import ScriptedGateway, Seen
from .calls import form, streaming

CUSTOMER, EXOPHONE = "+919494865411", "08040000000"
SUBSCRIBED = {"StatusCallbackEvents[0]": "terminal", "StatusCallbackEvents[1]": "answered"}


@pytest.fixture
async def client(carriers: SimulatedCarriers) -> AsyncIterator[httpx.AsyncClient]:
    account = cast(ExotelAccount, carriers.accounts["exotel"])
    base = f"{carriers.api_url('exotel')}/v1/Accounts/{account.account_sid}"
    async with httpx.AsyncClient(base_url=base, auth=(account.api_key, account.api_token)) as client:
        yield client


async def connect(client: httpx.AsyncClient, gateway: ScriptedGateway, path: str = ".json", **more: Any) -> Any:
    order = {"From": CUSTOMER, "CallerId": EXOPHONE, "CustomField": "session-1"}
    if "Url" not in more:
        order |= {"StreamUrl": f"{gateway.url.replace('http', 'ws')}/ws/exotel/t", "StreamType": "bidirectional"}
    order |= {"StatusCallback": f"{gateway.url}/webhooks/exotel/status?key=s"}
    return await client.post(f"/Calls/connect{path}", data=order | more)


def statuses(gateway: ScriptedGateway) -> list[dict[str, str]]:
    return [multipart(seen) for seen in gateway.requests if seen.path == "/webhooks/exotel/status"]


def multipart(seen: Seen) -> dict[str, str]:
    assert seen.method == "POST" and seen.headers["content-type"].startswith("multipart/form-data; boundary=")
    return dict(re.findall(r'name="([^"]+)"\r\n\r\n(.*?)\r\n--', seen.body.decode()))


async def test_a_call_to_a_stream_is_over_when_the_stream_is(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    created = await connect(client, gateway, **SUBSCRIBED)
    call = created.json()["Call"]
    assert (created.status_code, call["Direction"], call["From"]) == (200, "outbound-api", "09494865411")
    placed = await streaming(carriers)
    assert (await client.get(f"/Calls/{call['Sid']}.json")).json()["Call"]["Status"] == "in-progress"
    start = gateway.messages[0][1]["start"]
    assert (start["call_sid"], start["from"]) == (call["Sid"], "09494865411")
    placed.end("callee")
    await carriers.ended()
    assert gateway.messages[0][-1]["event"] == "stop"
    answered, terminal = statuses(gateway)
    assert (answered["EventType"], answered["Status"]) == ("answered", "in-progress")
    assert (terminal["EventType"], terminal["Status"], terminal["CallSid"]) == ("terminal", "completed", call["Sid"])
    assert terminal["CustomField"] == "session-1"
    assert all("authorization" not in seen.headers for seen in gateway.requests)


async def test_a_call_through_a_flow_asks_its_applets(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    carriers.plan = Plan(rings=0.02, seconds=0.2)
    await connect(client, gateway, Url="http://my.exotel.com/sim/exoml/start_voice/7")
    await carriers.ended()
    first = gateway.requests[0]
    assert (first.method, first.path) == ("GET", "/webhooks/exotel/voice") and "authorization" in first.headers
    fields = form(first)
    assert (fields["CallFrom"], fields["CallTo"]) == ("09494865411", EXOPHONE)
    assert (fields["Direction"], fields["CustomField"]) == ("outbound-dial", "session-1")
    assert carriers.calls[0].ended_by == "callee"
    (terminal,) = statuses(gateway)
    assert set(terminal) == {"CallSid", "Status", "DateUpdated", "RecordingUrl"}


@pytest.mark.parametrize(("result", "gives_up"), [("busy", None), ("no-answer", 0.02), ("failed", None)])
async def test_a_call_that_is_not_answered(
    result: Any,
    gives_up: float | None,
    carriers: SimulatedCarriers,
    gateway: ScriptedGateway,
    client: httpx.AsyncClient,
) -> None:
    carriers.plan = Plan(rings=0.01, result=result, gives_up=gives_up)
    sid = (await connect(client, gateway)).json()["Call"]["Sid"]
    await carriers.ended()
    assert [each["Status"] for each in statuses(gateway)] == [result]
    assert (await client.get(f"/Calls/{sid}.json")).json()["Call"]["Status"] == result


async def test_without_json_in_the_path_the_answer_is_xml(gateway: ScriptedGateway, client: httpx.AsyncClient) -> None:
    created = etree.fromstring((await connect(client, gateway, path="")).content)
    assert (created.tag, created.findtext("Call/Direction")) == ("TwilioResponse", "outbound-api")
    refused = etree.fromstring((await connect(client, gateway, path="", From="12")).content)
    assert refused.findtext("RestException/Status") == "400"


async def test_a_multipart_form_is_read(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    order = {"From": CUSTOMER, "CallerId": EXOPHONE, "StreamUrl": "wss://voice.example.com/x"}
    parts = {name: (None, value) for name, value in (order | {"StreamType": "bidirectional"}).items()}
    assert (await client.post("/Calls/connect.json", files=parts)).status_code == 200
    assert carriers.calls[0].to == CUSTOMER


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"From": ""}, 400, "Missing mandatory parameter: From"),
        ({"From": "12"}, 400, "Invalid parameter: From '12'"),
        ({"Url": "https://voice.example.com/x"}, 400, "Invalid parameter: Url must be …/exoml/start_voice/{flow_id}"),
        ({"CustomField": "x" * 129}, 400, "Invalid parameter: CustomField is longer than 128 characters"),
        ({"From": "+15550000142"}, 401, "Authentication failed"),
        ({"From": "+15550000143"}, 429, "Too many requests"),
    ],
)
async def test_a_request_is_refused(
    change: dict[str, str],
    status: int,
    message: str,
    carriers: SimulatedCarriers,
    gateway: ScriptedGateway,
    client: httpx.AsyncClient,
) -> None:
    refused = await connect(client, gateway, **change)
    assert refused.status_code == status
    assert refused.json() == {"RestException": {"Status": status, "Message": message}}
    assert list(carriers.calls) == []


async def test_too_many_requests_are_told_when_to_come_back(
    carriers: SimulatedCarriers, gateway: ScriptedGateway, client: httpx.AsyncClient
) -> None:
    carriers.pace["exotel"] = Pace(requests=1)
    assert (await connect(client, gateway)).status_code == 200
    refused = await connect(client, gateway)
    assert (refused.status_code, refused.headers["retry-after"], len(carriers.calls)) == (429, "1", 1)


async def test_wrong_credentials_are_401(gateway: ScriptedGateway, client: httpx.AsyncClient) -> None:
    client.auth = httpx.BasicAuth("key", "wrong")
    assert (await connect(client, gateway)).json()["RestException"]["Status"] == 401
