"""Loads of a few calls against a small gateway, in real time.

How late this machine is decides no test but one, which makes it late.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from gateway.audio.files import convert, read_wav
from gateway.errors import RecordingError, UserError
from gateway.recording import Entry, Recording
from gateway.simulator import CARRIERS
from gateway.simulator.load import Load, LoadPlan, LoadReport, Tolerance, caller_audio
from gateway.simulator.load.calls import CallSummary, EndlessVoice
from gateway.simulator.load.percentiles import Percentiles
from gateway.simulator.load.report import MAX_REASONS, Totals
from gateway.simulator.voice import Encoding
from tests.kit.waiting import until

from .plans import TOKENS, speech
from .scripted_gateway import ScriptedGateway, echo_twilio, read

LAX = Tolerance(1e9, 1e9, 1e9, 1e9)
MULAW = Encoding("PCMU", 8000)
HOLD = convert(*read_wav(Path(__file__).parents[2] / "gateway" / "assets" / "hold.wav"), 8000)
REJECT = '<Response><Reject reason="busy"/></Response>'
HANGUP = "<Response><Hangup/></Response>"


def load_plan(gateway: ScriptedGateway, **more: Any) -> LoadPlan:
    more = {"carriers": ("twilio",), "calls": 2, "rate": 50.0, "seconds": 1.0, "hold_audio": HOLD} | more
    return LoadPlan(base_url=gateway.url, audio=speech(6), credentials=TOKENS, **more)


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an echo that does not come."""
    monkeypatch.setattr("gateway.simulator.load.plan.LINGER", 0.5)


async def run(gateway: ScriptedGateway, **more: Any) -> LoadReport:
    return await Load(load_plan(gateway, **more), LAX).run()


def playing(pcm: np.ndarray, then: Any = None, for_ever: bool = False) -> Any:
    """A bot that speaks in real time, then clears and does something else.

    forever: until the caller is gone.
    """

    async def stream(websocket: WebSocket, log: list[Any]) -> None:
        sid = ""
        while not sid:
            message = await read(websocket, log)
            sid = message.get("streamSid", "")
        wire = MULAW.encode(pcm)
        starts = range(0, len(wire), 800)
        for at in itertools.cycle(starts) if for_ever else starts:
            payload = base64.b64encode(wire[at : at + 800]).decode()
            await websocket.send_text(json.dumps({"event": "media", "streamSid": sid, "media": {"payload": payload}}))
            await asyncio.sleep(0.1)
        if then is not None:
            await websocket.send_text(json.dumps({"event": "clear", "streamSid": sid}))
            await then(websocket, log)
        else:
            await websocket.close()

    return stream


async def test_whole_calls_of_all_carriers() -> None:
    async with ScriptedGateway() as gateway:
        report = await run(gateway, carriers=CARRIERS, calls=8)
    totals = report.totals
    assert report.ok
    assert (totals.asked, totals.answered, totals.whole, totals.echoed) == (8, 8, 8, 8)
    assert (totals.held, totals.refused, totals.failed, totals.lost) == (0, 0, 0, 0)
    assert [report.carriers[name].asked for name in CARRIERS] == [2, 2, 2, 2]
    assert totals.webhook.count == totals.first_audio.count == 8
    assert totals.echo.count > 8 * 5
    assert totals.frames_sent >= 8 * 50
    assert totals.seconds >= 8.0
    assert report.lateness.frames.count > 0
    assert report.cpu > 0
    said = json.loads(json.dumps(report.to_json()))
    assert (said["ok"], said["late"], len(said["calls"])) == (True, [], 8)
    assert said["totals"]["echo_ms"]["count"] == totals.echo.count


async def test_calls_are_refused() -> None:
    async with ScriptedGateway({"/webhooks/twilio/voice": (200, REJECT, "text/xml")}) as gateway:
        report = await run(gateway)
    assert (report.totals.refused, report.totals.answered, report.ok) == (2, 0, False)
    assert report.reasons == {"refused: busy": 2}
    assert report.totals.webhook.count == 2


async def test_calls_are_forwarded() -> None:
    forward = "<Response><Dial><Number>+15550123</Number></Dial></Response>"
    async with ScriptedGateway({"/webhooks/twilio/voice": (200, forward, "text/xml")}) as gateway:
        report = await run(gateway)
    assert report.reasons == {"refused: forwarded": 2}


async def test_calls_of_exotel_are_forwarded_by_its_flow() -> None:
    answers = {
        "/webhooks/exotel/voice": (302, "", "text/plain"),
        "/webhooks/exotel/resume": (302, "", "text/plain"),
        "/webhooks/exotel/connect": (200, '{"destination":{"numbers":["+15550123"]}}', "application/json"),
    }
    async with ScriptedGateway(answers) as gateway:
        report = await run(gateway, carriers=("exotel",), calls=2)
    assert report.reasons == {"refused: forwarded": 2}


async def test_calls_fail_each_for_its_reason() -> None:
    async with ScriptedGateway({"/webhooks/twilio/voice": (500, "", "text/plain")}) as gateway:
        report = await run(gateway, carriers=("twilio", "plivo"))
        gateway.answers = {"/webhooks/twilio/voice": (200, HANGUP, "text/xml")}
        no_stream = await run(gateway, calls=1)
        gateway.answers, gateway.refuse_streams = {}, 9
        refused = await run(gateway, calls=1)
    assert (report.totals.failed, report.carriers["plivo"].whole) == (1, 1)
    assert report.reasons == {"failed: 11200 the gateway answered 500": 1}
    assert no_stream.reasons == {"failed: no stream was opened": 1}
    assert refused.totals.failed == 1
    assert "403" in next(iter(refused.reasons))


async def test_a_silent_bot_has_not_answered() -> None:
    async def silent(websocket: WebSocket, log: list[Any]) -> None:
        while True:
            await read(websocket, log)

    async with ScriptedGateway(on_stream=silent) as gateway:
        report = await run(gateway, seconds=0.2, calls=1)
    assert report.reasons == {"failed: nothing was heard": 1}


async def test_a_bot_that_is_no_echo_answers_all_the_same() -> None:
    noise = np.random.default_rng(5).integers(-9000, 9000, 8000 * 2).astype(np.int16)
    async with ScriptedGateway(on_stream=playing(noise)) as gateway:
        report = await run(gateway, calls=1)
    assert (report.totals.answered, report.totals.whole, report.echo_found, report.without_echo) == (1, 1, False, 0)
    assert report.calls[0].frames_lost is None
    assert report.calls[0].echo is False
    assert report.totals.echo.count == 0
    assert report.ok


async def test_held_then_answered() -> None:
    async with ScriptedGateway(on_stream=playing(HOLD[:4000], echo_twilio)) as gateway:
        report = await run(gateway, calls=1, seconds=2.0)
    totals = report.totals
    assert (totals.held, totals.answered, totals.whole, totals.echoed) == (1, 1, 1, 1)
    assert totals.hold.p50 is not None
    assert totals.hold.p50 >= 0.5
    # A held caller's echo is behind by what waited for the bot: not the gateway's delay.
    assert totals.echo.count == totals.first_audio.count == 0
    assert report.ok


async def test_held_for_good() -> None:
    answers = {"/webhooks/twilio/resume": (200, REJECT, "text/xml")}
    async with ScriptedGateway(answers, on_stream=playing(HOLD[:4000])) as gateway:
        busy = await run(gateway, calls=1, seconds=60.0)
    async with ScriptedGateway(answers, on_stream=playing(HOLD, for_ever=True)) as gateway:
        patient = await run(gateway, calls=1, seconds=0.3)
    assert (busy.totals.held, busy.totals.answered) == (1, 0)
    assert busy.reasons == {"refused: busy after hold": 1}
    assert (patient.totals.held, patient.totals.answered) == (1, 0)
    assert patient.reasons == {"failed: still on hold when the caller gave up": 1}


async def test_hold_audio_that_is_not_known_is_not_taken_for_hold() -> None:
    async with ScriptedGateway(on_stream=playing(HOLD[:2000], echo_twilio)) as gateway:
        report = await run(gateway, calls=1, seconds=0.5, hold_audio=None)
    assert report.totals.held == 0
    assert report.totals.answered == 1


async def test_a_call_that_is_cut_short_is_not_whole() -> None:
    async def hang_up(websocket: WebSocket, log: list[Any]) -> None:
        try:
            async with asyncio.timeout(0.4):
                await echo_twilio(websocket, log)
        except TimeoutError:
            await websocket.close()

    async with ScriptedGateway(on_stream=hang_up) as gateway:
        report = await run(gateway, calls=1, seconds=3.0)
    assert (report.totals.answered, report.totals.whole) == (1, 0)
    assert report.reasons == {"not whole: the gateway ended it early": 1}


async def test_a_violation_is_told() -> None:
    async def wrong(websocket: WebSocket, log: list[Any]) -> None:
        await read(websocket, log)
        await websocket.send_text('{"event":"weather"}')
        await read(websocket, log)

    async with ScriptedGateway(on_stream=wrong) as gateway:
        report = await run(gateway, calls=1)
    assert report.totals.whole == 0
    assert report.reasons


async def test_frames_that_were_lost_are_counted() -> None:
    async def hole(websocket: WebSocket, log: list[Any]) -> None:
        class Holed:
            count = 0

            async def receive(self) -> Any:
                return await websocket.receive()

            async def send_text(self, text: str) -> None:
                self.count += 1
                if self.count not in (20, 21, 22):
                    await websocket.send_text(text)

        await echo_twilio(Holed(), log)  # type: ignore[arg-type]

    async with ScriptedGateway(on_stream=hole) as gateway:
        report = await run(gateway, calls=1, seconds=2.0)
    assert report.totals.lost == 3
    assert report.reasons == {"not whole: frames were lost": 1}


async def test_a_late_load_reports_no_delays() -> None:
    async def blocks() -> None:
        while True:
            time.sleep(0.06)
            await asyncio.sleep(0.02)

    async with ScriptedGateway() as gateway:
        blocking = asyncio.create_task(blocks())
        report = await Load(load_plan(gateway, calls=1, seconds=0.5)).run()
        blocking.cancel()
    assert any(fault.startswith("frames were sent") for fault in report.late)
    assert not report.ok
    said = report.to_json()
    assert said["late"] == report.late
    assert (said["totals"]["webhook_ms"], said["totals"]["first_audio_ms"], said["totals"]["echo_ms"]) == (None,) * 3
    assert said["calls"][0]["webhook_ms"] is None
    assert said["totals"]["asked"] == 1


async def test_a_stop_ends_the_calls_and_reports() -> None:
    async with ScriptedGateway() as gateway:
        load = Load(load_plan(gateway, calls=50, rate=20.0, seconds=60.0), LAX)
        assert load.progress().started == 0
        running = asyncio.create_task(load.run())
        await until(lambda: load.progress().talking >= 2)
        now = load.progress()
        load.stop()
        report = await running
    assert (now.asked, now.on_hold, now.answered) == (50, 0, 0)
    assert now.seconds > 0
    assert report.interrupted
    assert not report.ok
    assert 2 <= report.totals.asked < 50
    assert report.totals.lost == 0
    assert report.wall < 30


class Mute(ScriptedGateway):
    """Never answers a webhook."""

    async def _http(self, request: Request) -> Response:
        if request.method == "POST":
            await asyncio.sleep(30)
        return await super()._http(request)


async def test_a_call_that_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.simulator.load.driver.END_SECONDS", 0.1)
    async with Mute() as gateway:
        load = Load(load_plan(gateway, calls=1), LAX)
        running = asyncio.create_task(load.run())
        await until(lambda: load.progress().started)
        load.stop()
        report = await running
    assert report.reasons == {"failed: did not end when it was told to": 1}


async def test_an_exception_in_one_call_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.simulator.load.calls import LoadCall

    original = LoadCall.summary
    seen: list[LoadCall] = []

    def breaks(self: LoadCall, *arguments: Any) -> CallSummary:
        seen.append(self)
        if len(seen) == 1:
            raise LookupError("oops")
        return original(self, *arguments)

    monkeypatch.setattr(LoadCall, "summary", breaks)
    async with ScriptedGateway() as gateway:
        report = await run(gateway, seconds=0.3)
    assert report.reasons == {"failed: simulator: LookupError: oops": 1}
    assert report.totals.whole == 1


async def test_a_gateway_that_is_not_there_is_a_users_error() -> None:
    plan = LoadPlan(carriers=("twilio",), base_url="http://127.0.0.1:9", calls=1, rate=1, seconds=1, audio=speech(1))
    with pytest.raises(UserError, match=r"--url: nothing answers at http://127.0.0.1:9 "):
        await Load(plan).run()


def test_a_voice_without_end() -> None:
    voice = EndlessVoice(speech(0.1), MULAW)
    assert voice.payload(7) == voice.payload(2)
    assert voice.base64(7) == base64.b64encode(voice.payload(2))
    assert voice.payload(len(voice)) == b"\xff" * 160


def test_what_the_caller_of_a_recording_said() -> None:
    recording = Recording.read(Path(__file__).parents[2] / "fixtures" / "exotel.jsonl")
    said = caller_audio(recording)
    assert said.dtype == np.int16
    assert 3 * 8000 < len(said) < 6 * 8000
    assert np.abs(said).max() > 5000


def test_a_recording_in_which_nothing_was_said() -> None:
    with pytest.raises(RecordingError, match="nothing was said"):
        caller_audio(Recording("twilio", entries=[Entry(0.0, "message", "carrier", text='{"event":"start"}')]))


def summary(**more: Any) -> CallSummary:
    values: dict[str, Any] = {
        "at": 0.0, "carrier": "twilio", "result": "answered", "reason": "", "webhook_ms": 1.0, "first_audio_ms": 2.0,
        "held": None, "seconds": 1.0, "frames_sent": 50, "frames_received": 50, "frames_lost": 0, "echo": True,
        "faults": (),
    }  # fmt: skip
    return CallSummary(**values | more)


def test_one_without_echo_among_many_with_it_falls_short() -> None:
    report = LoadReport(asked=3, carriers={"twilio": Totals()})
    report.note(summary(), [Percentiles()])
    report.note(summary(echo=None, frames_lost=None), [])
    assert report.without_echo == 0
    report.note(summary(echo=False, frames_lost=None), [])
    assert report.without_echo == 1
    assert report.totals.whole == 3
    assert not report.ok


def test_reasons_are_bounded() -> None:
    report = LoadReport(asked=3, carriers={"twilio": Totals()})
    for number in range(3 * MAX_REASONS):
        report.note(summary(result="failed", reason=str(number)), [])
    assert len(report.reasons) == MAX_REASONS + 1
    assert report.reasons["failed: other"] == 2 * MAX_REASONS
