"""An Exotel flow: Voicebot applet, then Passthru, then back, on to Connect, or hang up.

Voicebot ── GET …/voice ──▶ {"url": "wss://…"} ──▶ stream
Passthru ── GET …/resume ─▶ 200: hang up; 302: the other branch (CallPlan.passthru_302)
Connect ─── GET …/connect ▶ {"destination": {"numbers": […]}}; none to dial: back to Voicebot
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gateway.simulator.carrier import Fields, StreamSpec
from gateway.simulator.exotel import ExotelSide
from gateway.simulator.outcome import Failed, Refused

if TYPE_CHECKING:
    from gateway.simulator.call import Call

MAX_ROUNDS = 20


async def exotel_flow(call: Call) -> None:
    """Until an applet says so. Raises HungUp, Refused, Failed."""
    for _ in range(MAX_ROUNDS):
        told = await _voicebot(call)
        if await _passthru(call, told):
            return
        if call.plan.passthru_302 == "connect" and await _connect(call):
            return
    raise Failed(f"more than {MAX_ROUNDS} rounds through the flow")


async def _voicebot(call: Call) -> Fields:
    """The stream; what the next applet is told about it."""
    side = _side(call)
    call.report.verbs.append("Voicebot")
    answer = await call.fetch(side.instructions(side.voice_url, "GET", answered=call.answered))
    if answer.status == 503:
        raise Refused("busy")
    if answer.status != 200:
        raise Failed(f"the dynamic URL was answered {answer.error or answer.status}")
    url = _object(answer.text).get("url")
    if not isinstance(url, str) or not url.startswith(("wss://", "ws://")):
        raise Failed("the dynamic URL's answer has no wss URL")
    spec = StreamSpec(url)
    log = await call.stream(spec)
    return side.stream_fields(log.wire, spec, log.ended_by, log.ended - log.opened, log.error)


async def _passthru(call: Call, told: Fields) -> bool:
    """Whether the flow hangs up."""
    side = _side(call)
    call.report.verbs.append("Passthru")
    answer = await call.fetch(side.instructions(side.applet_url("resume"), "GET", answered=True, more=told))
    if answer.status not in (200, 302):
        call.report.violations.append(f"exotel: Passthru was answered {answer.error or answer.status}")
        return True
    return answer.status == 200


async def _connect(call: Call) -> bool:
    """Whether somebody was dialled."""
    side = _side(call)
    call.report.verbs.append("Connect")
    answer = await call.fetch(side.instructions(side.applet_url("connect"), "GET", answered=True))
    destination = _object(answer.text).get("destination") if answer.status == 200 else None
    numbers = destination.get("numbers") if isinstance(destination, dict) else None
    if not isinstance(numbers, list):
        raise Failed(f"Connect was answered {answer.status} without destination.numbers")
    if not numbers:
        return False
    call.report.dialled.extend(str(number) for number in numbers)
    if call.plan.dial_result != "completed":
        return False
    await call.wait(call.plan.dial_seconds)
    return True


def _side(call: Call) -> ExotelSide:
    assert isinstance(call.side, ExotelSide)
    return call.side


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
