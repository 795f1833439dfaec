"""The answer to a ringing call, attribute by attribute, and with hostile values in every parameter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.acceptance.carriers import (
    CARRIERS,
    FORM,
    NAMES,
    Answer,
    Carrier,
    Exotel,
    Plivo,
    Telnyx,
    Twilio,
    http,
    read_xml,
)
from tests.acceptance.program import Gateway, service, settings
from tests.kit.bots import place_bot
from tests.kit.golden import golden_bytes

WITH_XML = ("twilio", "telnyx", "plivo")
HOSTILE = {
    "markup": "\"><&'</Parameter><Hangup/>",
    "cdata": "]]><!--<?xml ?>",
    "entity": "&amp;&lt;&#0;&xxe;",
    "control": "a\x00b\x01c\x08d\x0be\x1ff\x7fg",
    "newlines": "a\r\nb\tc",
    "right-to-left": "\u202emoc.live\u202c \u05e9\u05dc\u05d5\u05dd",
    "emoji": "\U0001f4de\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "not-characters": "\ufffe\uffff",
    "long": "x" * 100_000,
    "long-markup": "<&\">'" * 20_000,
    "percent": "%25%00%FF+ +",
    "empty": "",
}


@pytest.fixture(scope="module")
def hd_bot(folder: Path) -> Path:
    return place_bot("echo", folder)


@pytest.fixture(scope="module")
def gateway(folder: Path, echo_bot: Path) -> Iterator[Gateway]:
    plain = service("echo.acme", echo_bot, default=True, min_warm=1, max=500)
    wide = service("wide.acme", echo_bot, min_warm=0, codec="l16", sample_rate=24000, max=500)
    numbered = service("numbered.acme", echo_bot, min_warm=0, numbers=["+15550100077", "+915550100077"], max=500)
    with Gateway.of(folder, settings(plain, wide, numbered)) as running:
        yield running
        assert running.alive()
        running.assert_clean()


def session_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["gw_session"][0]


async def test_twilio(gateway: Gateway) -> None:
    answer = await Twilio(gateway.url).voice(Twilio("").new_call("+15550100002", "+15550100004"), "campaign=spring")
    root = answer.xml
    assert [child.tag for child in root] == ["Connect", "Redirect"]
    (stream,) = root[0]
    assert stream.tag == "Stream"
    assert set(stream.keys()) <= {"url", "name", "track", "statusCallback", "statusCallbackMethod"}
    base = gateway.public_url.replace("http", "ws", 1)
    assert stream.get("url", "").startswith(f"{base}/ws/twilio/")
    assert "?" not in stream.get("url", ""), "Twilio strips a query"
    assert stream.get("track") in (None, "inbound_track")
    assert stream.get("statusCallback", "").startswith(f"{gateway.public_url}/webhooks/twilio/stream?gw_session=")
    assert answer.parameters == {"from_number": "+15550100002", "to_number": "+15550100004", "campaign": "spring"}
    redirect = root[1]
    assert redirect.get("method") in (None, "POST")
    assert answer.resume.startswith(f"{gateway.public_url}/webhooks/twilio/resume?")
    assert session_of(answer.resume) == session_of(stream.get("statusCallback", ""))
    assert session_of(answer.resume) in stream.get("url", "")


async def test_telnyx(gateway: Gateway) -> None:
    answer = await Telnyx(gateway.url).voice(Telnyx("").new_call(), "campaign=spring")
    root = answer.xml
    assert [child.tag for child in root] == ["Connect", "Redirect"]
    (stream,) = root[0]
    assert stream.get("url", "").startswith(gateway.public_url.replace("http", "ws", 1) + "/ws/telnyx/")
    assert stream.get("bidirectionalMode") == "rtp", "the default is mp3: silence"
    assert stream.get("bidirectionalCodec") == "PCMU"
    assert stream.get("bidirectionalSamplingRate") in (None, "8000")
    assert stream.get("enableReconnect") == "false"
    assert stream.get("track") in (None, "inbound_track")
    assert answer.parameters["campaign"] == "spring"
    assert answer.resume.startswith(f"{gateway.public_url}/webhooks/telnyx/resume?")


async def test_plivo(gateway: Gateway) -> None:
    answer = await Plivo(gateway.url).voice(Plivo("").new_call(), "campaign=spring")
    root = answer.xml
    assert [child.tag for child in root] == ["Stream", "Redirect"]
    stream = root[0]
    assert answer.stream.startswith(gateway.public_url.replace("http", "ws", 1) + "/ws/plivo/")
    assert len(answer.stream) <= 2048
    assert stream.get("bidirectional") == "true"
    assert stream.get("keepCallAlive") == "true", "without it the call ends with 4010"
    assert stream.get("contentType") == "audio/x-mulaw;rate=8000", "the default is in doubt: always sent"
    assert stream.get("audioTrack") in (None, "inbound")
    assert len(stream.get("extraHeaders", "")) <= 512
    assert stream.get("statusCallbackUrl", "").startswith(gateway.public_url)
    assert answer.resume.startswith(f"{gateway.public_url}/webhooks/plivo/resume?")
    wide = await Plivo(gateway.url).voice(Plivo("").new_call(), "serviceHost=wide.acme")
    assert wide.xml[0].get("contentType") == "audio/x-l16;rate=16000"


async def test_exotel(gateway: Gateway) -> None:
    answer = await Exotel(gateway.url).voice(Exotel("").new_call())
    assert answer.response.headers["content-type"].split(";")[0] == "application/json"
    assert list(answer.response.json()) == ["url"]
    assert answer.stream.startswith(gateway.public_url.replace("http", "ws", 1) + "/ws/exotel/")
    assert len(answer.stream) < 600
    assert len(answer.parameters) <= 3
    assert len(urlsplit(answer.stream).query) <= 256


async def test_exotel_as_captured(gateway: Gateway) -> None:
    path = golden_bytes("exotel-01-dynamic-url-get-outbound.url").decode().strip()
    query = urlsplit(path).query
    async with http() as client:
        from tests.acceptance.program import EXOTEL_SECRET

        response = await client.get(f"{gateway.url}/webhooks/exotel/voice?{query}", auth=("x", EXOTEL_SECRET))
    assert response.json()["url"].startswith("ws")


async def test_plivo_as_captured(gateway: Gateway) -> None:
    from urllib.parse import parse_qsl

    form = dict(parse_qsl(golden_bytes("plivo-01-answer-post-outbound.form").decode().strip(), keep_blank_values=True))
    carrier = Plivo(gateway.url)
    answer = carrier.obey(await carrier.post(f"{gateway.url}/webhooks/plivo/voice", form))
    assert answer.stream


async def test_exotel_status_as_captured(gateway: Gateway) -> None:
    from tests.acceptance.program import EXOTEL_SECRET

    raw = golden_bytes("exotel-04-statuscallback.multipart")
    kind = {"content-type": "multipart/form-data; boundary=form-data-boundary-lebu8d9e3h8xzvhf"}
    crlf = raw if b"\r\n" in raw else raw.replace(b"\n", b"\r\n")
    async with http() as client:
        url = f"{gateway.url}/webhooks/exotel/status"
        response = await client.post(url, content=crlf, headers=kind, auth=("x", EXOTEL_SECRET))
    assert response.status_code == 200


@pytest.mark.parametrize("name", NAMES)
async def test_repeated_webhook_same_bytes(name: str, gateway: Gateway) -> None:
    """Also when its second runs out in between, and at once."""
    import asyncio

    carrier = CARRIERS[name](gateway.url)
    call = carrier.new_call()
    first = await carrier.voice(call, "campaign=spring")
    if name == "twilio":
        await asyncio.sleep(1.1)
    again = await asyncio.gather(*(carrier.voice(call, "campaign=spring") for _ in range(5)))
    assert first.stream
    assert {one.response.content for one in again} == {first.response.content}


@pytest.mark.parametrize("name", NAMES)
async def test_unknown_service_host_is_refused_on_the_wire(name: str, gateway: Gateway) -> None:
    carrier = CARRIERS[name](gateway.url)
    before = len(gateway.lines)
    answer = await carrier.voice(carrier.new_call(), "serviceHost=nobody.nowhere")
    if name == "exotel":
        assert answer.response.status_code == 503
    else:
        (only,) = answer.xml
        assert only.tag == ("Hangup" if name == "plivo" else "Reject")
        assert only.get("reason") == "rejected"
    gateway.log("refused", before)


@pytest.mark.parametrize("name", NAMES)
async def test_service_host_by_query_then_number_then_default(name: str, gateway: Gateway) -> None:
    """Seen in the token: which is ours to read only as far as that the three differ."""
    carrier = CARRIERS[name](gateway.url)
    to = {"plivo": "15550100077", "exotel": "05550100077"}.get(name, "+15550100077")
    sender = carrier.new_call().sender
    for query in ("serviceHost=wide.acme", "", "serviceHost=numbered.acme", "serviceHost=echo.acme"):
        answer = await carrier.voice(carrier.new_call(sender, to), query)
        assert answer.stream, answer.response.text


@pytest.mark.parametrize("name", WITH_XML)
@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_value_in_every_field(name: str, kind: str, gateway: Gateway) -> None:
    """Signed as it is, so it comes from the carrier: well-formed XML, nothing injected, or an honest refusal."""
    carrier = CARRIERS[name](gateway.url)
    value = HOSTILE[kind]
    for field in ("From", "To", "CallerName", "Direction", 'x"><y'):
        call = carrier.new_call()
        form = carrier.fields(call) | {field: value}
        response = await carrier.post(f"{gateway.url}/webhooks/{name}/voice", form)
        whole(carrier, carrier.obey(response), field)


@pytest.mark.parametrize("name", WITH_XML)
@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_value_in_the_query(name: str, kind: str, gateway: Gateway) -> None:
    """What does not fit is left out; what fits comes through, apart from what XML cannot hold."""
    carrier = CARRIERS[name](gateway.url)
    value = HOSTILE[kind]
    value = value[:2000]  # a far longer request line is refused by any HTTP server
    answer = await carrier.voice(carrier.new_call(), f"note={quote(value, safe='')}&campaign=spring")
    whole(carrier, answer, "note")
    assert answer.stream, answer.response.text
    if name == "plivo":
        assert "campaign=spring" in answer.parameters[""]
    else:
        assert answer.parameters["campaign"] == "spring"
        if kind in ("markup", "cdata", "entity", "right-to-left", "emoji", "percent", "newlines"):
            assert answer.parameters["note"] == value


@pytest.mark.parametrize("name", WITH_XML)
async def test_hostile_name_in_the_query(name: str, gateway: Gateway) -> None:
    carrier = CARRIERS[name](gateway.url)
    for key, value in HOSTILE.items():
        answer = await carrier.voice(carrier.new_call(), f"{quote(value[:2000], safe='')}={key}")
        whole(carrier, answer, key)


async def test_exotel_hostile_values(gateway: Gateway) -> None:
    carrier = Exotel(gateway.url)
    for key, value in HOSTILE.items():
        for field in ("CallFrom", "CallTo", "CustomField", "digits", "Direction"):
            answer = await carrier.voice(carrier.new_call(), **{field: value[:3000]})
            assert answer.response.status_code < 500 or answer.response.status_code == 503, (key, field)
            if answer.stream:
                assert len(answer.stream) < 600, (key, field)
                assert answer.stream.isascii() and answer.stream.isprintable() and " " not in answer.stream
                assert len(answer.parameters) <= 3
                assert len(urlsplit(answer.stream).query) <= 256


def whole(carrier: Carrier, answer: Answer, field: str) -> None:
    """A well-formed answer of the shape that is always sent, or a refusal; never an error of ours."""
    code = answer.response.status_code
    assert code < 500, (field, code, answer.response.text[:300])
    if code != 200:
        assert code in (400, 403, 413), (field, code)
        return
    root = read_xml(answer.response)
    tags = [child.tag for child in root]
    assert tags in (["Connect", "Redirect"], ["Stream", "Redirect"], ["Reject"], ["Hangup"], []), (field, tags)
    assert len(answer.response.content) < 100_000, "Plivo takes 100 KB"
    for name, value in answer.parameters.items():
        if carrier.name == "twilio":
            assert len(name) + len(value) < 500, (field, name, len(value))
    if carrier.name == "plivo":
        assert len(answer.parameters.get("", "").encode()) <= 512
    assert len(answer.stream) < 2048


async def test_own_keys_are_stripped(gateway: Gateway) -> None:
    """``key``, ``serviceHost`` and the session are ours: no bot and no carrier's log gets them as parameters."""
    for name in ("twilio", "telnyx"):
        carrier = CARRIERS[name](gateway.url)
        answer = await carrier.voice(carrier.new_call(), "key=abc&serviceHost=echo.acme&session=1&color=red")
        assert answer.parameters["color"] == "red"
        assert not {"key", "session"} & set(answer.parameters), answer.parameters


@pytest.mark.parametrize("capture", ["telnyx-01-webhook-call.initiated.json", "telnyx-02-webhook-call.answered.json"])
async def test_telnyx_call_control_event_at_voice(capture: str, gateway: Gateway) -> None:
    """200, so that it is not sent again, and one line that says what to do."""
    body = golden_bytes(capture)
    before = len(gateway.lines)
    async with http() as client:
        headers = Telnyx("").sign(body) | {"content-type": "application/json"}
        response = await client.post(f"{gateway.url}/webhooks/telnyx/voice", content=body, headers=headers)
    assert response.status_code == 200
    assert "Stream" not in response.text
    lines = gateway.lines[before : gateway.fence()]
    assert sum("use texml" in line.lower() for line in lines) == 1, lines
    assert "5501000" not in "".join(lines), "a whole number is in the log"


STATUS = {
    "twilio": {"CallStatus": "completed", "CallbackSource": "call-progress-events", "SequenceNumber": "3"},
    "telnyx": {"CallStatus": "completed", "CallbackSource": "call-progress-events", "HangupCause": "normal_clearing"},
    "plivo": {"CallStatus": "completed", "Event": "Hangup", "HangupCause": "NORMAL_CLEARING"},
}


@pytest.mark.parametrize("name", WITH_XML)
@pytest.mark.parametrize("status", ["initiated", "ringing", "in-progress", "completed"])
async def test_status_callback_at_voice_is_answered_empty(name: str, status: str, gateway: Gateway) -> None:
    carrier = CARRIERS[name](gateway.url)
    if name == "plivo" and status != "completed":
        event = {"Event": "Ring", "CallStatus": status, "CallerName": "+15550100002"}
    else:
        event = STATUS[name] | {"CallStatus": status}
    answer = await carrier.voice(carrier.new_call(), **event)
    assert answer.response.status_code == 200
    assert not answer.stream, answer.response.text
    assert not answer.response.content or len(answer.xml) == 0, answer.response.text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("known", [True, False], ids=["known", "overtaken"])
async def test_a_call_that_has_ended_is_hung_up(name: str, known: bool, gateway: Gateway) -> None:
    """The hang-up event may also overtake the webhook: no slot is taken for nobody."""
    carrier = CARRIERS[name](gateway.url)
    call = carrier.new_call()
    if known:
        assert (await carrier.voice(call)).stream
    response = await carrier.status(call)
    assert response.status_code == 200
    answer = await carrier.voice(call)
    assert not answer.stream, answer.response.text


@pytest.mark.parametrize("name", NAMES)
async def test_head_and_empty_form(name: str, gateway: Gateway) -> None:
    carrier = CARRIERS[name](gateway.url)
    if name == "exotel":
        return
    response = await carrier.post(f"{gateway.url}/webhooks/{name}/voice", {})
    assert response.status_code in (200, 400, 403), response.status_code
    async with http() as client:
        assert (await client.head(f"{gateway.url}/webhooks/{name}/voice", headers=FORM)).status_code in (403, 405)
