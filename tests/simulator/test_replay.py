"""Recording a call, and playing the recording.

What is masked, what is renewed, what is said again.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from twilio.request_validator import RequestValidator

from gateway.errors import RecordingError, UserError
from gateway.recording import Entry, Recording
from gateway.simulator import CARRIERS, Recorder, place_call, replay
from gateway.simulator.plan import Faults

from .plans import TOKENS, TWILIO, plan, speech
from .scripted_gateway import ScriptedGateway, read


async def record(carrier: str, **more: Any) -> Recording:
    recorder = Recorder()
    async with ScriptedGateway(public="https://voice.example.com", **more) as gateway:
        await place_call(
            plan(
                carrier,
                gateway.url,
                public_url="https://voice.example.com",
                audio=speech(0.3),
                from_number="+442071234567",
                to_number="+919494865411",
                status=False,
                faults=Faults(dtmf=((0.1, "7"),), binary_junk=True),
            ),
            recorder=recorder,
        )
    return recorder.recording("a test")


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_recorded_call_can_be_played_again(carrier: str, tmp_path: Path) -> None:
    (await record(carrier)).write(tmp_path / "c.jsonl")
    recording = Recording.read(tmp_path / "c.jsonl")
    recorder = Recorder()
    async with ScriptedGateway() as gateway:
        report = await replay(recording, gateway.url, credentials=TOKENS, recorder=recorder, linger=0.3)
    assert (report.outcome, report.ended_by, report.lost_frames) == ("completed", "caller", 0)
    # The same audio, and the same fields; but another call, by the credentials' account.
    old = [entry for entry in recording.entries if entry.kind == "message" and entry.party == "carrier"]
    media = sum('"media"' in entry.text for entry in old)
    assert report.frames_sent == media * report.streams[0].wire.frame_ms // 20
    text = json.dumps(gateway.messages[0], default=repr)
    assert recording.call["call_id"] not in text
    assert recording.call["stream_id"] not in text
    request = next(entry for entry in recording.entries if entry.kind == "request")
    seen = gateway.requests[0]
    sent = seen.body.decode() or seen.url
    assert all(f"{name}=" in sent for name, _ in request.form if "[" not in name)


async def test_a_replayed_webhook_is_signed_anew() -> None:
    recording = await record("twilio")
    recorder = Recorder()
    async with ScriptedGateway() as gateway:
        await replay(
            recording, gateway.url, credentials=TOKENS, query={"serviceHost": "a.b"}, recorder=recorder, linger=0.1
        )
    seen = gateway.requests[0]
    from urllib.parse import parse_qsl

    form = dict(parse_qsl(seen.body.decode(), keep_blank_values=True))
    signature = seen.headers["x-twilio-signature"]
    url = f"{gateway.url}/webhooks/twilio/voice?serviceHost=a.b"
    assert form["AccountSid"] == TWILIO.account_sid
    assert RequestValidator("12345").validate(url, form, signature)


async def test_numbers_digits_accounts_and_tokens_are_masked() -> None:
    token = "a" * 40
    xml = f'<Response><Connect><Stream url="{{ws}}/ws/twilio/{token}"/></Connect></Response>'
    recording = await record("twilio", answers={"/webhooks/twilio/voice": (200, xml, "text/xml")})
    whole = repr(recording)
    for secret in ("+442071234567", "+919494865411", "2071234567", TWILIO.account_sid, token):
        assert secret not in whole
    assert recording.call["from"] == "+15550100067"
    assert re.search(r'"digit":"0"', whole)
    assert '"digit":"7"' not in whole
    assert recording.what == "a test"
    assert (recording.encoding, recording.rate) == ("PCMU", 8000)


async def test_what_answered_the_gateway_is_not_said_again() -> None:
    recording = Recording(
        "twilio",
        call={"call_id": "CA0", "stream_id": "MZ0", "public_url": "https://h"},
        entries=[
            Entry(0, "request", "carrier", method="POST", url="https://h/webhooks/twilio/voice"),
            Entry(1, "open", "carrier", url="wss://h/ws"),
            Entry(2, "message", "carrier", text='{"event":"connected"}'),
            Entry(2, "message", "carrier", text='{"event":"start","streamSid":"MZ0"}'),
            Entry(3, "message", "carrier", text='{"event":"mark","mark":{"name":"old"}}'),
            Entry(4, "message", "carrier", text="{not json"),
            Entry(4, "message", "carrier", text="[]"),
            Entry(5, "message", "carrier", text='{"event":"media","media":{"payload":"?"}}'),
            Entry(6, "message", "gateway", text="{}"),
        ],
    )

    async def marking(websocket: Any, log: list[Any]) -> None:
        await read(websocket, log)
        sid = (await read(websocket, log))["streamSid"]
        await websocket.send_text(json.dumps({"event": "mark", "streamSid": sid, "mark": {"name": "new"}}))
        while True:
            await read(websocket, log)

    async with ScriptedGateway(on_stream=marking) as gateway:
        report = await replay(recording, gateway.url, linger=0.2)
    log = gateway.messages[0]
    assert [message["mark"]["name"] for message in log if isinstance(message, dict) and "mark" in message] == ["new"]
    assert "{not json" in log
    assert [] in log
    assert log[-1]["event"] == "stop"
    assert report.marks == ["new"]


async def test_another_codec_than_the_recorded_one_is_noted() -> None:
    recording = await record("plivo")
    xml = (
        '<Response><Stream bidirectional="true" keepCallAlive="true" contentType="audio/x-l16;rate=8000">'
        "{ws}/ws/plivo/t</Stream></Response>"
    )
    async with ScriptedGateway(answers={"/webhooks/plivo/voice": (200, xml, "text/xml")}) as gateway:
        report = await replay(recording, gateway.url, linger=0.1)
    assert "asked for ('L16', 8000)" in report.notes[0]


async def test_a_second_stream_that_was_not_recorded_is_silent() -> None:
    recording = await record("twilio")
    again = '<Response><Connect><Stream url="{ws}/ws/twilio/again"/></Connect></Response>'

    async def bye(websocket: Any, log: list[Any]) -> None:
        await read(websocket, log)
        if len(gateway.messages) == 1:
            await websocket.close(1000)
            return
        while True:
            await read(websocket, log)

    answers = {"/webhooks/twilio/resume": (200, again, "text/xml")}
    async with ScriptedGateway(answers=answers, on_stream=bye) as gateway:
        report = await replay(recording, gateway.url, linger=0.1)
    assert len(report.streams) == 2
    assert [message["event"] for message in gateway.messages[1]] == ["stop"]


async def test_nothing_to_replay_is_an_error() -> None:
    with pytest.raises(RecordingError, match="nothing to replay"):
        await replay(Recording("twilio"), "http://127.0.0.1:1")
    entries = [Entry(0, "request", "carrier"), Entry(1, "open", "carrier")]
    with pytest.raises(UserError, match="vonage"):
        await replay(Recording("vonage", entries=entries), "http://127.0.0.1:1")


def test_a_recorder_is_bounded() -> None:
    recorder = Recorder(limit=2)
    for _ in range(3):
        recorder.message("carrier", "{}")
    recording = recorder.recording()
    assert len(recording.entries) == 2
    assert recording.truncated
