"""Calls that are placed at the simulated REST APIs: hung up, transferred, sent keys, as each carrier sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.simulator.rest import PlacedCall, Plan, SimulatedCarriers
from tests.acceptance.program import Gateway
from tests.kit.waiting import PATIENCE, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = ("twilio", "telnyx", "plivo", "exotel")
CALLERS = {name: f"+155501900{number:02}" for number, name in enumerate(NAMES)}
ANSWERED, BUSY = "+12125550110", "+15550000110"
SETTINGS = """
records = ""
[server]
ops_bind = ""
[api]
keys = ["api-key"]
[dialout]
allow = ["+1"]
callers = ["+15550100"]
cps = 100
{carriers}
[[services]]
host = "echo"
bot = "gateway.worker.echo:bot"
min_warm = 4
wrapup_seconds = 1
"""


@dataclass
class Desk:
    """A gateway, and the carriers at which it places calls."""

    carriers: SimulatedCarriers
    api: httpx.AsyncClient

    async def place(self, carrier: str) -> tuple[str, PlacedCall]:
        """Place a call; returned once its bot is heard."""
        order = {"carrier": carrier, "to": CALLERS[carrier], "from": "+15550100", "body": {"campaign": "spring"}}
        before = len(self.carriers.calls_to(CALLERS[carrier]))
        answer = await self.api.post("/v1/calls", json=order)
        assert answer.status_code in (201, 202), answer.text  # 202: another carrier's call was first
        call = await until(lambda: next(iter(self.carriers.calls_to(CALLERS[carrier])[before:]), None))
        await until(lambda: call.report.frames_received > 5)
        return answer.json()["session_id"], call

    async def all(self, do: Callable[[str], Any]) -> dict[str, Any]:
        """Do it on all carriers at once: most of it is waiting."""
        return dict(zip(NAMES, await asyncio.gather(*(do(name) for name in NAMES)), strict=True))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    async with SimulatedCarriers(plan=Plan(rings=0.05, dial_seconds=0.1)) as carriers:
        config = SETTINGS.format(carriers=carriers.settings())
        with await asyncio.to_thread(Gateway.of, folder, config) as gateway:
            headers = {"Authorization": "Bearer api-key"}
            async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=PATIENCE) as api:
                yield Desk(carriers, api)


async def test_a_call_is_hung_up_on_every_carrier(desk: Desk) -> None:
    async def hang_up(carrier: str) -> tuple[str, str]:
        session, call = await desk.place(carrier)
        assert (await desk.api.post(f"/v1/calls/{session}/hangup")).status_code == 202
        await until(lambda: call.is_over)
        assert call.report.violations == []
        return call.status, call.ended_by

    # Exotel has no such request: its call ends with the stream.
    ended = await desk.all(hang_up)
    assert ended == dict.fromkeys(NAMES, ("completed", "api")) | {"exotel": ("completed", "caller")}


async def test_keys_are_pressed_and_the_bot_talks_on(desk: Desk) -> None:
    async def press(carrier: str) -> tuple[int, list[str]]:
        session, call = await desk.place(carrier)
        answer = await desk.api.post(f"/v1/calls/{session}/dtmf", json={"digits": "12#"})
        if answer.status_code == 202:
            await until(lambda: pressed(call) and call.report.opened[-1].media_messages > 5)
        assert not call.is_over
        call.end("callee")
        await until(lambda: call.is_over)
        return answer.status_code, pressed(call)

    expected = dict.fromkeys(NAMES, (202, ["12#"])) | {"exotel": (409, [])}
    assert await desk.all(press) == expected


async def test_a_transfer_that_is_answered_is_the_calls_end(desk: Desk) -> None:
    async def transfer(carrier: str) -> tuple[int, list[str]]:
        session, call = await desk.place(carrier)
        answer = await desk.api.post(f"/v1/calls/{session}/transfer", json={"to": ANSWERED})
        if answer.status_code == 409:
            call.end("callee")
        await until(lambda: call.is_over)
        return answer.status_code, call.report.dialled

    expected = dict.fromkeys(NAMES, (202, [ANSWERED])) | {"exotel": (409, [])}
    assert await desk.all(transfer) == expected


async def test_a_transfer_that_is_busy_brings_the_bot_back(desk: Desk) -> None:
    async def transfer(carrier: str) -> int:
        session, call = await desk.place(carrier)
        answer = await desk.api.post(f"/v1/calls/{session}/transfer", json={"to": BUSY})
        if answer.status_code == 202:
            await until(lambda: len(call.report.opened) == 2 and call.report.opened[1].media_messages > 5)
        call.end("callee")
        await until(lambda: call.is_over)
        return answer.status_code

    assert await desk.all(transfer) == dict.fromkeys(NAMES, 202) | {"exotel": 409}


def pressed(call: PlacedCall) -> list[str]:
    """What was pressed, by markup or on a stream; the streams' are in the report at the end."""
    streams = [] if call.is_over else [digits for log in call.report.streams for digits in log.dtmf]
    return [*call.report.dtmf, *streams]
