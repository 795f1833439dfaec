"""An Exotel flow's branches."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.simulator import CallReport, place_call
from gateway.simulator.exotel import ExotelOptions

from .plans import plan, speech
from .scripted_gateway import ScriptedGateway

VOICE, RESUME, CONNECT = (f"/webhooks/exotel/{applet}" for applet in ("voice", "resume", "connect"))


async def hello_and_goodbye(websocket: Any, log: list[Any]) -> None:
    await websocket.close(1000)


async def through(answers: dict[str, tuple[int, str, str]], **more: Any) -> CallReport:
    async with ScriptedGateway(answers=answers, on_stream=hello_and_goodbye) as gateway:
        more.setdefault("audio", speech(0.1))
        return await place_call(plan("exotel", gateway.url, status=False, **more))


async def test_200_at_the_passthru_hangs_up() -> None:
    report = await through({RESUME: (200, "", "text/plain")})
    assert (report.outcome, report.ended_by) == ("completed", "gateway")
    assert report.verbs == ["Voicebot", "Passthru"]
    assert "Stream%5BDisconnectedBy%5D=bot" in report.http[1].path


async def test_302_can_lead_to_connect_which_dials() -> None:
    report = await through(
        {
            RESUME: (302, "", "text/plain"),
            CONNECT: (200, '{"destination":{"numbers":["+15550123"]}}', "application/json"),
        },
    )
    assert report.verbs == ["Voicebot", "Passthru", "Connect"]
    assert report.dialled == ["+15550123"]


async def test_an_unanswered_connect_leads_back_and_the_rounds_are_capped() -> None:
    report = await through(
        {
            RESUME: (302, "", "text/plain"),
            CONNECT: (200, '{"destination":{"numbers":["+15550123"]}}', "application/json"),
        },
        dial_result="no-answer",
    )
    assert report.outcome == "failed: more than 20 rounds through the flow"
    assert len(report.dialled) == 20


async def test_connect_without_numbers_leads_back() -> None:
    report = await through(
        {RESUME: (302, "", "text/plain"), CONNECT: (200, '{"destination":{"numbers":[]}}', "application/json")},
    )
    assert report.verbs[:4] == ["Voicebot", "Passthru", "Connect", "Voicebot"]


@pytest.mark.parametrize("answer", [(200, "{}", "application/json"), (500, "", ""), (200, "[]", ""), (200, "<x/>", "")])
async def test_a_connect_that_is_not_understood_fails(answer: tuple[int, str, str]) -> None:
    report = await through({RESUME: (302, "", ""), CONNECT: answer})
    assert report.outcome.startswith("failed: Connect was answered")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((503, "", ""), "busy"),
        ((403, "", ""), "failed: the dynamic URL was answered 403"),
        ((200, "<Response/>", "text/xml"), "failed: the dynamic URL's answer has no wss URL"),
        ((200, '{"url":"https://h"}', "application/json"), "failed: the dynamic URL's answer has no wss URL"),
    ],
)
async def test_the_dynamic_url_decides_the_outcome(answer: tuple[int, str, str], outcome: str) -> None:
    assert (await through({VOICE: answer})).outcome == outcome


async def test_a_passthru_that_is_neither_200_nor_302_is_a_violation() -> None:
    report = await through({RESUME: (500, "", "text/plain")})
    assert report.violations == ["exotel: Passthru was answered 500"]


async def test_a_302_of_the_dynamic_url_goes_on_to_be_forwarded() -> None:
    report = await through(
        {
            VOICE: (302, "", "text/plain"),
            RESUME: (302, "", "text/plain"),
            CONNECT: (200, '{"destination":{"numbers":["+15550123"]}}', "application/json"),
        }
    )
    assert (report.outcome, report.violations) == ("completed", [])
    assert report.verbs == ["Voicebot without a stream", "Passthru", "Connect"]
    assert report.dialled == ["+15550123"]
    assert [exchange.status for exchange in report.http] == [302, 302, 200]


async def test_a_302_of_the_dynamic_url_is_not_followed_for_ever() -> None:
    report = await through(
        {VOICE: (302, "", ""), RESUME: (302, "", "")}, options=ExotelOptions(passthru_302="voicebot")
    )
    assert report.outcome == "failed: more than 20 rounds through the flow"


async def test_applets_after_a_connect_are_told_what_became_of_it() -> None:
    report = await through(
        {
            RESUME: (302, "", ""),
            CONNECT: (200, '{"destination":{"numbers":["+15550123"]}}', "application/json"),
        },
        dial_result="no-answer",
    )
    voicebots = [exchange.path for exchange in report.http if exchange.path.startswith(VOICE)]
    assert ["DialCallStatus=no-answer" in path for path in voicebots[:2]] == [False, True]


async def test_a_503_after_a_stream_lets_the_flow_go_on() -> None:
    async def once(websocket: Any, log: list[Any]) -> None:
        gateway.answers[VOICE] = (503, "", "")
        await websocket.close(1000)

    answers = {RESUME: (302, "", ""), CONNECT: (200, '{"destination":{"numbers":[]}}', "application/json")}
    async with ScriptedGateway(answers=answers, on_stream=once) as gateway:
        report = await place_call(plan("exotel", gateway.url, status=False, audio=speech(0.1)))
    assert report.verbs[:5] == ["Voicebot", "Passthru", "Connect", "Voicebot without a stream", "Passthru"]
