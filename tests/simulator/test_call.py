"""Whole calls against a small independent gateway, in real time.

Each talks for less than half a second.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from gateway.errors import UserError
from gateway.simulator import CARRIERS, CallReport, Faults, place_call
from gateway.simulator.plan import CallPlan
from gateway.simulator.telnyx import TelnyxAccount

from .plans import plan, speech
from .scripted_gateway import XML, ScriptedGateway, echo_twilio, read

TALK = 0.3

STREAM_AGAIN = '<Response><Connect><Stream url="{ws}/ws/twilio/again"/></Connect></Response>'


def talking(carrier: str, gateway: ScriptedGateway, **more: Any) -> CallPlan:
    more.setdefault("audio", speech(TALK))
    return plan(carrier, gateway.url, **more)


async def call(carrier: str, gateway: ScriptedGateway, **faults: Any) -> CallReport:
    return await place_call(talking(carrier, gateway, faults=Faults(**faults)))


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_an_echo_is_whole(carrier: str) -> None:
    async with ScriptedGateway() as gateway:
        report = await place_call(talking(carrier, gateway))
    assert (report.outcome, report.ended_by) == ("completed", "caller")
    assert (report.violations, report.notes, report.lost_frames) == ([], [], 0)
    assert report.frames_sent >= TALK * 50
    assert report.first_audio_ms is not None
    assert report.end_ms is not None
    assert report.answer
    delays = report.echo_delays_ms()
    assert len(delays) >= TALK * 1000 / report.streams[0].wire.frame_ms
    assert min(delays) > 0
    # What was heard is, to the byte, the beginning of what was said.
    assert report.sent_wire.startswith(report.heard_wire)
    assert len(report.heard_pcm) >= TALK * 8000
    assert report.heard_pcm.dtype == np.int16
    assert report.http[0].path.startswith(f"/webhooks/{carrier}/voice")
    assert report.http[-1].path == f"/webhooks/{carrier}/status"
    assert len(gateway.upgrades) == 1
    signed = (
        "x-twilio-signature" in gateway.upgrades[0].headers or "x-plivo-signature-v3" in gateway.upgrades[0].headers
    )
    assert signed == (carrier in ("twilio", "plivo"))


async def test_an_unsigned_call_signs_nothing() -> None:
    async with ScriptedGateway() as gateway:
        report = await place_call(talking("twilio", gateway, credentials=None, status=False))
    assert report.outcome == "completed"
    assert "x-twilio-signature" not in gateway.requests[0].headers
    assert len(gateway.requests) == 1


async def test_public_urls_lead_to_where_the_gateway_listens() -> None:
    async with ScriptedGateway(public="https://voice.example.com/gw") as gateway:
        report = await place_call(talking("twilio", gateway, public_url="https://voice.example.com/gw"))
    assert report.outcome == "completed"
    assert report.stream_urls == ["wss://voice.example.com/gw/ws/twilio/t"]
    assert gateway.upgrades[0].path == "/ws/twilio/t"


async def test_the_start_has_what_the_xml_and_the_call_say() -> None:
    async with ScriptedGateway() as gateway:
        await place_call(talking("twilio", gateway))
    connected, start, media = gateway.messages[0][:3]
    assert connected["event"] == "connected"
    assert start["start"]["customParameters"] == {"k": "v"}
    assert media["media"]["chunk"] == "1"
    assert gateway.messages[0][-1]["event"] == "stop"


@pytest.mark.parametrize("way", ["drop_stream_at", "close_stream_at"])
async def test_a_lost_stream_leads_to_resume_and_the_talk_goes_on_in_time(way: str) -> None:
    async with ScriptedGateway(answers={"/webhooks/twilio/resume": (200, STREAM_AGAIN, "text/xml")}) as gateway:
        report = await call("twilio", gateway, **{way: 0.2})
    assert report.verbs == ["Stream", "Redirect", "Stream"]
    assert [log.ended_by for log in report.streams] == ["carrier", "caller"]
    first, second = report.streams
    gap = round((second.sent[0].at - first.sent[-1].at) / 0.02)
    talked = speech(TALK)
    voice = first.wire.inbound.encode(talked)
    assert report.sent_wire[: 160 * len(first.sent)] == voice[: 160 * len(first.sent)]
    at = 160 * (len(first.sent) + gap - 1)
    assert second.sent[0].payload == voice[at : at + 160]


async def test_exotel_comes_back_by_its_passthru() -> None:
    async with ScriptedGateway(answers={"/webhooks/exotel/resume": (302, "", "text/plain")}) as gateway:
        report = await call("exotel", gateway, close_stream_at=0.2)
    assert report.verbs == ["Voicebot", "Passthru", "Connect", "Voicebot"]
    assert len(report.streams) == 2


async def test_telnyx_reconnects_by_itself_unless_told_not_to() -> None:
    xml = XML["telnyx"].replace(' enableReconnect="false"', "")
    async with ScriptedGateway(answers={"/webhooks/telnyx/voice": (200, xml, "text/xml")}) as gateway:
        report = await call("telnyx", gateway, drop_stream_at=0.2)
    assert report.verbs == ["Stream"]
    assert [path.path for path in gateway.upgrades] == ["/ws/telnyx/t"] * 2
    assert [messages[1]["event"] for messages in gateway.messages] == ["start", "start"]


@pytest.mark.parametrize(("carrier", "handshakes"), [("twilio", 1), ("telnyx", 1), ("plivo", 3), ("exotel", 2)])
async def test_a_refused_handshake_is_tried_again_as_that_carrier_tries(carrier: str, handshakes: int) -> None:
    async with ScriptedGateway(refuse_streams=9) as gateway:
        report = await place_call(talking(carrier, gateway))
    assert len(gateway.upgrades) == handshakes
    assert report.ended_by == "gateway"
    assert "403" in report.notes[0]
    assert report.first_audio_ms is None
    assert report.echo_delays_ms() == []


async def test_the_gateway_may_end_the_call() -> None:
    async def bye(websocket: Any, log: list[Any]) -> None:
        await read(websocket, log)
        await read(websocket, log)
        await websocket.close(1000)

    async with ScriptedGateway(on_stream=bye) as gateway:
        report = await place_call(talking("twilio", gateway))
    assert (report.outcome, report.ended_by) == ("completed", "gateway")
    assert report.verbs == ["Stream", "Redirect", "Hangup"]
    assert report.end_ms is not None


async def test_a_close_with_an_error_is_noted() -> None:
    async def bad(websocket: Any, log: list[Any]) -> None:
        await websocket.close(1011, "no bot")

    async with ScriptedGateway(on_stream=bad) as gateway:
        report = await place_call(talking("twilio", gateway))
    assert report.notes == ["stream 1: closed 1011 no bot"]


async def test_what_twilio_does_not_take_kills_the_stream() -> None:
    async def chatty(websocket: Any, log: list[Any]) -> None:
        await read(websocket, log)
        start = await read(websocket, log)
        await websocket.send_text(json.dumps({"event": "hello", "streamSid": start["streamSid"]}))
        await echo_twilio(websocket, log)

    async with ScriptedGateway(on_stream=chatty) as gateway:
        report = await place_call(talking("twilio", gateway))
    assert report.streams[0].error == "31924"
    assert "31924" in report.violations[0]
    assert report.streams[0].ended_by == "carrier"


async def test_marks_are_returned_when_they_were_played_and_by_a_clear() -> None:
    async def marking(websocket: Any, log: list[Any]) -> None:
        await read(websocket, log)
        sid = (await read(websocket, log))["streamSid"]

        async def say(event: str, **more: Any) -> None:
            await websocket.send_text(json.dumps({"event": event, "streamSid": sid, **more}))

        payload = "/" * 4  # three bytes
        await say("media", media={"payload": payload * 40 * 8})  # 120 ms
        await say("mark", mark={"name": "played"})
        await say("media", media={"payload": payload * 40 * 800})  # 12 s
        await say("mark", mark={"name": "cleared"})
        while True:
            message = await read(websocket, log)
            if message["event"] == "mark" and message["mark"]["name"] == "played":
                await say("clear")

    async with ScriptedGateway(on_stream=marking) as gateway:
        report = await place_call(talking("twilio", gateway, linger=0.2))
    names = [message["mark"]["name"] for message in gateway.messages[0] if message["event"] == "mark"]
    assert names == ["played", "cleared"]
    assert report.marks == ["played"]
    assert len(report.heard_wire) < 8000
    assert report.lost_frames > 0


async def test_the_caller_hangs_up_when_the_plan_says_so() -> None:
    async with ScriptedGateway() as gateway:
        report = await call("plivo", gateway, hangup_at=0.2)
    assert report.frames_sent == 10
    assert report.ended_by == "caller"


async def test_the_caller_stays_silent_after_the_audio_when_told_to_stay() -> None:
    async with ScriptedGateway() as gateway:
        report = await place_call(talking("twilio", gateway, audio=speech(0.2), seconds=0.6))
    assert report.frames_sent >= 30
    assert report.sent_wire.endswith(b"\xff" * 160)


async def test_digits_cross_both_ways() -> None:
    async def dialling(websocket: Any, log: list[Any]) -> None:
        await read(websocket, log)
        await websocket.send_text('{"event":"sendDTMF","dtmf":"42#"}')
        while True:
            await read(websocket, log)

    async with ScriptedGateway(on_stream=dialling) as gateway:
        report = await call("plivo", gateway, dtmf=((0.1, "5"), (0.2, "#")), hangup_at=0.3)
    assert report.dtmf == ["42#"]
    pressed = [message["dtmf"]["digit"] for message in gateway.messages[0] if message["event"] == "dtmf"]
    assert pressed == ["5", "#"]


# ------------------------------------------------------------------------------------------------- bad behaviour


async def test_a_webhook_can_come_twice() -> None:
    async with ScriptedGateway() as gateway:
        report = await call("twilio", gateway, duplicate_webhook=True, hangup_at=0.1)
    voice = [seen for seen in gateway.requests if seen.path.endswith("/voice")]
    assert len(voice) == 2
    assert voice[0].body == voice[1].body
    assert report.violations == []


async def test_messages_of_every_kind_can_be_mixed_in() -> None:
    async with ScriptedGateway() as gateway:
        report = await call(
            "twilio",
            gateway,
            connected_twice=True,
            unknown_events=True,
            binary_junk=True,
            duplicate_media=True,
            foreign_track=True,
            shuffle_media=True,
        )
    log = gateway.messages[0]
    assert [message["event"] for message in log[:3]] == ["connected", "connected", "start"]
    assert bytes(range(256)) in log
    assert any(isinstance(message, dict) and message["event"] == "weather" for message in log)
    media = [message["media"] for message in log if isinstance(message, dict) and message["event"] == "media"]
    inbound = [int(one["chunk"]) for one in media if one["track"] == "inbound"]
    assert inbound != sorted(inbound)
    assert len(inbound) > len(set(inbound)) >= 15
    assert any(one["track"] == "outbound" for one in media)
    assert report.outcome == "completed"


async def test_bad_json_and_a_second_start_can_be_sent() -> None:
    async def patient(websocket: Any, log: list[Any]) -> None:
        while True:
            await read(websocket, log)

    async with ScriptedGateway(on_stream=patient) as gateway:
        await place_call(
            talking("twilio", gateway, seconds=1.1, linger=0, faults={"bad_json": True, "second_start": True})
        )
    log = gateway.messages[0]
    assert "{" in log
    assert sum(1 for message in log if isinstance(message, dict) and message["event"] == "start") == 2


@pytest.mark.parametrize("way", ["invalid_utf8", "oversized"])
async def test_a_message_that_no_server_takes_can_be_sent(way: str) -> None:
    async with ScriptedGateway() as gateway:
        report = await place_call(talking("twilio", gateway, faults={way: True}, audio=speech(0.8)))
    assert report.outcome == "completed"


async def test_a_stream_that_never_starts_waits_for_the_gateway() -> None:
    async def impatient(websocket: Any, log: list[Any]) -> None:
        await read(websocket, log)
        await asyncio.sleep(0.05)
        await websocket.close(1008)

    async with ScriptedGateway(on_stream=impatient) as gateway:
        report = await call("twilio", gateway, never_start=True)
    assert report.streams[0].close_code == 1008
    assert report.frames_sent == 0


async def test_a_half_open_stream_sends_and_takes_nothing_more() -> None:
    async with ScriptedGateway() as gateway:
        plan_ = talking("twilio", gateway, linger=0.2, faults={"half_open_at": 0.1})
        report = await place_call(plan_)
    assert report.frames_sent <= 6
    assert not any(message["event"] == "stop" for message in gateway.messages[0])


async def test_a_slow_reader_hears_late() -> None:
    async with ScriptedGateway() as gateway:
        report = await place_call(talking("twilio", gateway, linger=0.8, faults={"slow_reader": True}))
    assert report.first_audio_ms is not None
    assert report.first_audio_ms > 500


@pytest.mark.parametrize(("close", "said"), [(True, "closed 1008"), (False, "accepted")])
async def test_a_used_stream_url_is_opened_again(close: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.simulator.call.REPLAY_WAIT", 0.2)

    async def once(websocket: Any, log: list[Any]) -> None:
        if close and len(gateway.messages) > 1:
            await read(websocket, log)
            await read(websocket, log)
            await websocket.close(1008)
            return
        await echo_twilio(websocket, log)

    async with ScriptedGateway(on_stream=once) as gateway:
        report = await call("twilio", gateway, replay_token=True, hangup_at=0.1)
    assert report.replayed == said
    assert gateway.messages[0][1]["streamSid"] == gateway.messages[1][1]["streamSid"]


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_static_stream_asks_no_webhook(carrier: str) -> None:
    path = f"/ws/{carrier}/s/support.acme/key"
    async with ScriptedGateway() as gateway:
        report = await place_call(
            talking(carrier, gateway, faults={"stream_path": path}, parameters={"serviceHost": "a.b"})
        )
    assert report.outcome == "completed"
    assert report.lost_frames == 0
    assert gateway.requests == []
    assert gateway.upgrades[0].path == path
    text = json.dumps(gateway.messages[0][:2])
    assert ('"serviceHost": "a.b"' in text) == (carrier != "plivo")  # Plivo's `start` has no parameters


async def test_a_static_stream_may_be_refused() -> None:
    async with ScriptedGateway(refuse_streams=1) as gateway:
        report = await call("twilio", gateway, stream_path="/ws/twilio/x")
    assert report.outcome == "failed: the handshake was answered 403"


# --------------------------------------------------------------------------------------------------------- errors


async def test_an_unknown_carrier_is_a_users_error() -> None:
    with pytest.raises(UserError, match="'vonage' is not one of twilio, telnyx, plivo, exotel"):
        await place_call(plan("vonage"))


async def test_a_bad_seed_is_a_users_error() -> None:
    with pytest.raises(UserError, match="TELNYX_SIGNING_SEED"):
        await place_call(plan("telnyx", credentials={"telnyx": TelnyxAccount("00")}))


async def test_many_calls_at_once_are_all_whole() -> None:
    async with ScriptedGateway() as gateway:
        reports = await asyncio.gather(*[place_call(talking("twilio", gateway)) for _ in range(10)])
    assert [report.lost_frames for report in reports] == [0] * 10
    assert len({report.streams[0].wire.stream_id for report in reports}) == 10
