"""An Exotel flow: Voicebot, then Passthru, then back, on to Connect, or hang up.

Voicebot ── GET …/voice ──▶ 200 {"url": "wss://…"} ──▶ stream; 302: none, and the flow goes on
Passthru ── GET …/resume ─▶ 200: hang up; 302: the other branch (ExotelOptions.passthru_302)
Connect ─── GET …/connect ▶ {"destination": {"numbers": […]}}; none to dial, or not answered: back to Voicebot

302 is a word of these applets and has no Location: it is no redirect of HTTP.
"""

from __future__ import annotations

import json
from typing import Any

from gateway.simulator.call import Call, Simulator
from gateway.simulator.carrier import Fields, StreamSpec
from gateway.simulator.exotel import SimulatedExotel
from gateway.simulator.outcome import Failed, Refused
from gateway.simulator.plan import DialResult

MAX_ROUNDS = 20


async def exotel_flow(call: Call) -> None:
    """Lead the call until an applet ends it. Raises HungUp, Refused, Failed."""
    dialled: Fields = []
    for _ in range(MAX_ROUNDS):
        streamed = await _voicebot(call, dialled)
        if await _passthru(call, [*streamed, *dialled]):
            return
        if _carrier(call).options.passthru_302 == "connect":
            result = await _connect(call)
            if result == "completed":
                return
            dialled = _carrier(call).dial_fields(result) if result is not None else dialled
    raise Failed(f"more than {MAX_ROUNDS} rounds through the flow")


async def _voicebot(call: Call, told: Fields) -> Fields:
    """Hold the stream, if there is one. Return what the next applet is told of it."""
    carrier = _carrier(call)
    call.report.verbs.append("Voicebot")
    answer = await call.fetch(carrier.instructions(carrier.voice_url, "GET", answered=call.answered, more=told))
    # Voicebot expects a URL; without one the flow goes on to the next applet.
    if answer.status == 302 or (answer.status == 503 and call.answered):
        call.report.verbs[-1] = "Voicebot without a stream"
        call.answered = True
        return []
    if answer.status == 503:
        raise Refused("busy")
    if answer.status != 200:
        raise Failed(f"the dynamic URL was answered {answer.error or answer.status}")
    url = _object(answer.text).get("url")
    if not isinstance(url, str) or not url.startswith(("wss://", "ws://")):
        raise Failed("the dynamic URL's answer has no wss URL")
    spec = StreamSpec(url)
    log = await call.stream(spec)
    return carrier.stream_fields(log.wire, spec, log.ended_by, log.ended - log.opened, log.error)


async def _passthru(call: Call, told: Fields) -> bool:
    """Ask whether the flow hangs up."""
    carrier = _carrier(call)
    call.report.verbs.append("Passthru")
    answer = await call.fetch(carrier.instructions(carrier.applet_url("resume"), "GET", answered=True, more=told))
    if answer.status not in (200, 302):
        call.report.violations.append(f"exotel: Passthru was answered {answer.error or answer.status}")
        return True
    return answer.status == 200


async def _connect(call: Call) -> DialResult | None:
    """Dial, and return what became of it; None if there was no number to dial."""
    carrier = _carrier(call)
    call.report.verbs.append("Connect")
    answer = await call.fetch(carrier.instructions(carrier.applet_url("connect"), "GET", answered=True))
    destination = _object(answer.text).get("destination") if answer.status == 200 else None
    numbers = destination.get("numbers") if isinstance(destination, dict) else None
    if not isinstance(numbers, list):
        raise Failed(f"Connect was answered {answer.error or answer.status} without destination.numbers")
    if not numbers:
        return None
    result, seconds = call.dial([str(number) for number in numbers])
    if seconds:
        await call.wait(seconds)
    return result


def _carrier(call: Call) -> SimulatedExotel:
    assert isinstance(call.carrier, SimulatedExotel)
    return call.carrier


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


SIMULATOR = Simulator(SimulatedExotel, exotel_flow)
