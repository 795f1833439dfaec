"""What answers lead to: refusals, redirects, dialling, carriers' error numbers.

No call talks for long.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest
from twilio.request_validator import RequestValidator

from gateway.simulator import CallReport, place_call
from gateway.simulator.xml_flow import MAX_DOCUMENTS
from tests.kit.waiting import PATIENCE

from .plans import plan, speech
from .scripted_gateway import ScriptedGateway


async def answered(carrier: str, text: str, *, status: int = 200, kind: str = "text/xml", **more: Any) -> CallReport:
    answers = {f"/webhooks/{carrier}/voice": (status, text, kind)}
    answers.update(more.pop("answers", {}))
    more.setdefault("linger", PATIENCE)
    async with ScriptedGateway(answers=answers) as gateway:
        report = await place_call(plan(carrier, gateway.url, status=False, **more))
        report.notes.append(str(len(gateway.requests)))
        return report


@pytest.mark.parametrize(
    ("carrier", "text", "outcome"),
    [
        ("twilio", "<Response><Reject/></Response>", "rejected"),
        ("twilio", '<Response><Reject reason="busy"/></Response>', "busy"),
        ("telnyx", '<Response><Reject reason="busy"/></Response>', "busy"),
        ("plivo", '<Response><Hangup reason="rejected"/></Response>', "rejected"),
        ("plivo", '<Response><Hangup reason="busy"/></Response>', "busy"),
        ("twilio", "<Response/>", "completed"),
        ("twilio", "<Response><Say>Hello</Say><Reject/></Response>", "completed"),
        ("twilio", "<Response><Speak>Hello</Speak></Response>", "failed: 12200 <Speak> is no verb of TwiML"),
        ("plivo", "<Response><Say>Hello</Say></Response>", "failed: 8011 <Say> is no verb of Plivo XML"),
        ("telnyx", "<Response><Speak/></Response>", "failed: <Speak> is no verb of TeXML"),
        ("plivo", '<Response><Stream contentType="a/b" keepCallAlive="true">wss://h/s</Stream></Response>', "failed:"),
    ],
)
async def test_an_answer_decides_the_outcome(carrier: str, text: str, outcome: str) -> None:
    report = await answered(carrier, text)
    assert report.outcome.startswith(outcome)


@pytest.mark.parametrize(
    ("carrier", "number"), [("twilio", "failed: 11200"), ("telnyx", "failed: voice URL"), ("plivo", "failed: 7011")]
)
async def test_an_answer_that_is_not_200_has_the_carriers_number(carrier: str, number: str) -> None:
    report = await answered(carrier, "no", status=403)
    assert report.outcome.startswith(number)
    assert "403" in report.outcome
    assert report.ended_by == "carrier"


@pytest.mark.parametrize(("carrier", "number"), [("twilio", "12300"), ("plivo", "8011")])
async def test_an_answer_that_is_no_xml_by_its_type_fails(carrier: str, number: str) -> None:
    report = await answered(carrier, "{}", kind="application/json")
    assert report.outcome == f"failed: {number} content type 'application/json'"


async def test_redirects_are_followed_and_capped() -> None:
    report = await answered("twilio", "<Response><Redirect/></Response>")
    assert report.outcome == f"failed: more than {MAX_DOCUMENTS} documents in one call"
    assert report.notes == [str(MAX_DOCUMENTS)]


HANGUP = (200, "<Response><Redirect>../deep/over</Redirect></Response>", "text/xml")


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST")])
async def test_twilio_follows_a_redirect_of_http_and_signs_it(status: int, method: str) -> None:
    moved = {"/webhooks/twilio/voice": (status, "/moved/voice?a=1", ""), "/moved/voice": HANGUP}
    over = {"/deep/over": (200, "<Response><Hangup/></Response>", "text/xml")}
    async with ScriptedGateway(answers=moved | over) as gateway:
        report = await place_call(plan("twilio", gateway.url, status=False))
    assert (report.outcome, report.verbs) == ("completed", ["Redirect", "Hangup"])
    assert [exchange.status for exchange in report.http] == [status, 200, 200]
    followed = gateway.requests[1]
    assert followed.method == method
    url = report.http[1].path
    form = dict(parse_qsl(followed.body.decode(), keep_blank_values=True))
    signature = followed.headers["x-twilio-signature"]
    assert RequestValidator("12345").validate(gateway.url + url, form, signature)


@pytest.mark.parametrize(
    ("carrier", "status", "location", "outcome"),
    [
        ("twilio", 302, "voice", "failed: 11215 the gateway answered 302"),
        ("twilio", 302, "", "failed: 11216 the gateway answered 302"),
        ("twilio", 308, "voice", "failed: 11216 the gateway answered 308"),
        ("twilio", 302, "ftp://h/x", "failed: 11216 the gateway answered 302"),
        ("telnyx", 302, "voice", "failed: voice URL: the gateway answered 302"),
        ("plivo", 302, "voice", "failed: 7011 the gateway answered 302"),
    ],
)
async def test_a_redirect_that_is_not_followed_fails(carrier: str, status: int, location: str, outcome: str) -> None:
    report = await answered(carrier, location, status=status)
    assert report.outcome.startswith(outcome)
    assert len(report.http) <= 4


@pytest.mark.parametrize("carrier", ["twilio", "telnyx", "plivo"])
async def test_a_dial_whose_action_dials_again_is_capped(carrier: str) -> None:
    dial = f'<Response><Dial action="{{http}}/webhooks/{carrier}/voice"><Number>+15550123</Number></Dial></Response>'
    report = await answered(carrier, dial)
    assert report.outcome == f"failed: more than {MAX_DOCUMENTS} documents in one call"


async def test_a_relative_redirect_by_get_is_signed_over_its_whole_url() -> None:
    report = await answered(
        "twilio",
        '<Response><Redirect method="GET">resume?a=1</Redirect></Response>',
        answers={"/webhooks/twilio/resume": (200, "<Response><Hangup/></Response>", "text/xml")},
    )
    assert report.verbs == ["Redirect", "Hangup"]
    assert (report.http[1].method, report.http[1].path[:27]) == ("GET", "/webhooks/twilio/resume?a=1")
    assert "CallStatus=in-progress" in report.http[1].path


@pytest.mark.parametrize("result", ["completed", "busy", "no-answer"])
async def test_a_dial_leads_to_its_action_with_its_result(result: str) -> None:
    report = await answered(
        "twilio",
        '<Response><Dial action="{http}/webhooks/twilio/resume?after=dial" method="GET">'
        "<Number>+15550123</Number></Dial><Hangup/></Response>",
        dial_result=result,
        answers={"/webhooks/twilio/resume": (200, "<Response/>", "text/xml")},
    )
    assert report.dialled == ["+15550123"]
    assert report.verbs == ["Dial"]
    assert f"DialCallStatus={result}" in report.http[1].path


async def test_a_dial_without_an_action_goes_on() -> None:
    report = await answered("plivo", "<Response><Dial><User>sip:a@b</User></Dial><DTMF>12#</DTMF><Hangup/></Response>")
    assert report.verbs == ["Dial", "PlayDigits", "Hangup"]
    assert report.dtmf == ["12#"]
    assert report.dialled == ["sip:a@b"]


async def test_the_caller_does_not_wait_forever() -> None:
    report = await answered("twilio", '<Response><Pause length="14400"/><Hangup/></Response>', linger=0.2)
    assert (report.verbs, report.ended_by) == (["Pause 14400"], "caller")
    assert report.seconds < 14400


async def test_skipped_verbs_are_noted() -> None:
    report = await answered("twilio", "<Response><Gather><Say>1</Say></Gather><Enqueue>q</Enqueue></Response>")
    assert report.verbs == ["Gather", "Enqueue"]
    assert "<Gather> skipped: the caller presses nothing" in report.notes


async def test_unknown_attributes_are_violations() -> None:
    report = await answered("twilio", '<Response><Hangup reason="busy"/></Response>')
    assert report.violations == ["twilio: <Hangup> has no attribute 'reason': ignored"]


async def test_a_start_stream_only_receives() -> None:
    report = await answered(
        "twilio",
        '<Response><Start><Stream url="{ws}/ws/twilio/t"/></Start><Pause length="1"/></Response>',
        audio=speech(0.3),
        seconds=2.0,
    )
    assert report.verbs == ["Stream in background", "Pause 1"]
    assert report.frames_sent >= 15
    assert report.frames_received == 0
    assert report.violations == ["audio sent on a stream that only receives"]


async def test_a_plivo_stream_that_does_not_keep_the_call_ends_it() -> None:
    report = await answered(
        "plivo",
        '<Response><Stream bidirectional="true" contentType="audio/x-mulaw;rate=8000">{ws}/ws/plivo/t</Stream>'
        "</Response>",
        audio=speech(0.3),
    )
    assert report.verbs == ["Stream in background"]
    assert "4010" in report.violations[0]
    assert report.frames_received > 0


async def test_stream_callbacks_go_where_the_xml_says() -> None:
    xml = (
        '<Response><Connect><Stream url="{ws}/ws/twilio/t" statusCallback="{http}/webhooks/twilio/stream"/></Connect>'
        "</Response>"
    )
    async with ScriptedGateway(answers={"/webhooks/twilio/voice": (200, xml, "text/xml")}) as gateway:
        await place_call(plan("twilio", gateway.url, audio=speech(0.1)))
    events = [seen.body.decode() for seen in gateway.requests if seen.path == "/webhooks/twilio/stream"]
    assert ["StreamEvent=stream-started" in events[0], "StreamEvent=stream-stopped" in events[1]] == [True, True]
