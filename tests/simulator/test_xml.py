"""Answers as the carriers' documents show them, and what each carrier refuses."""

from __future__ import annotations

import pytest

from gateway.simulator.carrier import StreamSpec
from gateway.simulator.plivo_xml import PLIVO_XML
from gateway.simulator.telnyx import TEXML
from gateway.simulator.twilio import TWIML
from gateway.simulator.xml import (
    Dial,
    Dialect,
    Hangup,
    Illegal,
    Pause,
    PlayDigits,
    PlayFile,
    Redirect,
    Refuse,
    Say,
    Skipped,
    Stream,
    Verb,
    parse,
)


def response(inside: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Response>\n  {inside}\n</Response>'


TWIML_CASES: list[tuple[str, list[Verb]]] = [
    ("", []),
    ("<Say>Hello World</Say>", [Say("Hello World")]),
    ('<Say voice="alice" language="fr-FR" loop="2">Bonjour!</Say>', [Say("Bonjour!")]),
    ('<Play loop="10">https://api.twilio.com/cowbell.mp3</Play>', [PlayFile("https://api.twilio.com/cowbell.mp3")]),
    ('<Play digits="wwww3"/>', [PlayDigits("wwww3")]),
    ('<Pause length="10"/><Say>I just paused 10 seconds</Say>', [Pause(10), Say("I just paused 10 seconds")]),
    ("<Pause/>", [Pause(1)]),
    ("<Redirect>../nextInstructions</Redirect>", [Redirect("../nextInstructions")]),
    ('<Redirect method="get">http://h/next</Redirect>', [Redirect("http://h/next", "GET")]),
    ("<Reject/>", [Refuse("rejected")]),
    ('<Reject reason="busy"/>', [Refuse("busy")]),
    ("<Say>Goodbye</Say><Hangup/>", [Say("Goodbye"), Hangup()]),
    ("<Dial>415-123-4567</Dial>", [Dial(("415-123-4567",))]),
    (
        '<Dial action="/after" method="GET"><Number>+1555</Number><Sip>sip:a@b</Sip></Dial>',
        [Dial(("+1555", "sip:a@b"), "/after", "GET")],
    ),
    ('<Gather input="speech dtmf" timeout="3" numDigits="1"><Say>Press 1</Say></Gather>', None),  # type: ignore[list-item]
    (
        '<Connect><Stream url="wss://mystream.ngrok.io/audiostream"/></Connect>',
        [Stream(StreamSpec("wss://mystream.ngrok.io/audiostream", {"url": "wss://mystream.ngrok.io/audiostream"}))],
    ),
    (
        '<Connect><Stream url="wss://h/s"><Parameter name="aCustomParameter" value="a value"/></Stream></Connect>',
        [Stream(StreamSpec("wss://h/s", {"url": "wss://h/s"}, {"aCustomParameter": "a value"}))],
    ),
    (
        '<Start><Stream name="Example" url="wss://h/s" track="both_tracks"/></Start>',
        [
            Stream(
                StreamSpec(
                    "wss://h/s", {"name": "Example", "url": "wss://h/s", "track": "both_tracks"}, bidirectional=False
                ),
                foreground=False,
            )
        ],
    ),
]


@pytest.mark.parametrize(("inside", "verbs"), TWIML_CASES)
def test_twiml_from_the_documents(inside: str, verbs: list[Verb] | None) -> None:
    document = parse(response(inside), TWIML)
    if verbs is None:
        assert [type(verb) for verb in document.verbs] == [Skipped]
    else:
        assert document.verbs == verbs
    assert document.notes == []


@pytest.mark.parametrize(
    ("inside", "verb"),
    [
        ("<Enqueue>support</Enqueue>", "Enqueue"),
        ("<Record/>", "Record"),
        ("<Connect><VirtualAgent connectorName='x'/></Connect>", "Connect"),
        ("<Refer><Sip>sip:a@b</Sip></Refer>", "Refer"),
    ],
)
def test_verbs_that_mean_nothing_here_are_skipped(inside: str, verb: str) -> None:
    (skipped,) = parse(response(inside), TWIML).verbs
    assert isinstance(skipped, Skipped)
    assert skipped.name == verb


def test_texml_has_the_stream_attributes_of_its_own() -> None:
    document = parse(
        response(
            '<Connect><Stream url="wss://h/s?a=1&amp;b=2" bidirectionalMode="rtp" bidirectionalCodec="PCMU" '
            'bidirectionalSamplingRate="8000" enableReconnect="false"/></Connect><Pause length="2"/>'
        ),
        TEXML,
    )
    stream, pause = document.verbs
    assert isinstance(stream, Stream)
    assert stream.spec.url == "wss://h/s?a=1&b=2"
    assert stream.spec.attributes["bidirectionalMode"] == "rtp"
    assert pause == Pause(2)
    assert document.notes == []


PLIVO_CASES: list[tuple[str, list[Verb]]] = [
    ("<Speak>Hello</Speak>", [Say("Hello")]),
    ("<Play>https://h/a.mp3</Play>", [PlayFile("https://h/a.mp3")]),
    ('<Wait length="10"/>', [Pause(10)]),
    ("<DTMF>123#</DTMF>", [PlayDigits("123#")]),
    ("<Redirect>https://h/next</Redirect>", [Redirect("https://h/next")]),
    ("<Hangup/>", [Hangup()]),
    ('<Hangup reason="rejected"/>', [Refuse("rejected")]),
    ('<Hangup reason="busy"/>', [Refuse("busy")]),
    ("<Dial><Number>15551234567</Number><User>sip:a@phone.plivo.com</User></Dial>", None),  # type: ignore[list-item]
    ('<Dial action="https://h/a" redirect="false"><Number>1</Number></Dial>', None),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("inside", "verbs"), PLIVO_CASES)
def test_plivo_xml_from_the_documents(inside: str, verbs: list[Verb] | None) -> None:
    document = parse(response(inside), PLIVO_XML)
    if verbs is not None:
        assert document.verbs == verbs
    else:
        (dial,) = document.verbs
        assert isinstance(dial, Dial)
        assert dial.follow is ("redirect" not in inside)
    assert document.notes == []


def test_plivos_stream_url_is_its_text() -> None:
    inside = (
        '<Stream bidirectional="true" keepCallAlive="true" contentType="audio/x-mulaw;rate=8000">\n'
        "  wss://h/s?x=1&amp;y=2\n</Stream>"
    )
    (stream,) = parse(response(inside), PLIVO_XML).verbs
    assert isinstance(stream, Stream)
    assert (stream.spec.url, stream.spec.bidirectional, stream.foreground) == ("wss://h/s?x=1&y=2", True, True)


def test_a_plivo_stream_that_does_not_keep_the_call_is_told() -> None:
    document = parse(response('<Stream bidirectional="true">wss://h/s</Stream>'), PLIVO_XML)
    (stream,) = document.verbs
    assert isinstance(stream, Stream)
    assert not stream.foreground
    assert "4010" in document.notes[0]


def test_getdigits_and_record_are_skipped_on_plivo() -> None:
    document = parse(response('<GetDigits action="https://h"/><Record action="https://h"/>'), PLIVO_XML)
    assert [type(verb) for verb in document.verbs] == [Skipped, Skipped]


ILLEGAL: list[tuple[Dialect, str, str]] = [
    (TWIML, "", "12100"),
    (TWIML, "not xml", "12100"),
    (TWIML, '{"url":"wss://h"}', "12100"),
    (TWIML, "<Response><Say>a & b</Say></Response>", "12100"),
    (TWIML, "<response/>", "12100"),
    (TWIML, response("<Say>" + "x" * 64_000 + "</Say>"), "12100"),
    (TWIML, response("<Speak>Hello</Speak>"), "12200"),
    (TWIML, response("<say>hello</say>"), "12200"),
    (TWIML, response("hello"), "12200"),
    (TWIML, response('<Stream url="wss://h/s"/>'), "12200"),
    (TWIML, response("<Connect/>"), "12200"),
    (TWIML, response('<Reject reason="full"/>'), "12200"),
    (TWIML, response('<Pause length="long"/>'), "12200"),
    (TWIML, response('<Connect><Stream url="https://h/s"/></Connect>'), "12200"),
    (TWIML, response('<Connect><Stream url="ws://voice.example.com/s"/></Connect>'), "12200"),
    (TWIML, response('<Connect><Stream url="wss://h/s"><Param name="a" value="b"/></Stream></Connect>'), "12200"),
    (TEXML, response("<Pay/>"), ""),
    (PLIVO_XML, "", "8011"),
    (PLIVO_XML, response("<Say>Hello</Say>"), "8011"),
    (PLIVO_XML, response("<Pause/>"), "8011"),
    (PLIVO_XML, response('<Reject reason="busy"/>'), "8011"),
    (PLIVO_XML, response('<Connect><Stream url="wss://h/s"/></Connect>'), "8011"),
    (PLIVO_XML, response('<Hangup reason="full"/>'), "8011"),
    (PLIVO_XML, response("<Stream>https://h/s</Stream>"), "8011"),
    (PLIVO_XML, response("<Stream>wss://h/" + "s" * 2048 + "</Stream>"), "8011"),
    (PLIVO_XML, response('<Stream bidirectional="true" audioTrack="both">wss://h/s</Stream>'), "8011"),
]


@pytest.mark.parametrize(("dialect", "text", "code"), ILLEGAL)
def test_what_a_carrier_refuses_has_its_number(dialect: Dialect, text: str, code: str) -> None:
    with pytest.raises(Illegal) as refused:
        parse(text, dialect)
    assert refused.value.code == code
    assert str(refused.value).startswith(code)


@pytest.mark.parametrize(
    ("dialect", "inside", "note"),
    [
        (TWIML, '<Connect><Stream url="wss://h/s" bidirectionalMode="rtp"/></Connect>', "bidirectionalMode"),
        (TWIML, '<Hangup reason="busy"/>', "reason"),
        (TWIML, '<Connect><Stream url="wss://h/s?token=1"/></Connect>', "query string"),
        (
            TWIML,
            f'<Connect><Stream url="wss://h/s"><Parameter name="a" value="{"x" * 499}"/></Stream></Connect>',
            "500",
        ),
        (
            PLIVO_XML,
            f'<Stream keepCallAlive="true" extraHeaders="a={"x" * 512}">wss://h/s</Stream>',
            "512 bytes",
        ),
    ],
)
def test_what_a_carrier_swallows_is_noted(dialect: Dialect, inside: str, note: str) -> None:
    assert note in parse(response(inside), dialect).notes[0]


def test_twilio_strips_the_query_of_a_stream_url() -> None:
    (stream,) = parse(response('<Connect><Stream url="wss://h/s?token=1"/></Connect>'), TWIML).verbs
    assert isinstance(stream, Stream)
    assert stream.spec.url == "wss://h/s"


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:1", "[::1]:9"])
def test_plain_ws_is_let_through_on_loopback(host: str) -> None:
    parse(response(f'<Connect><Stream url="ws://{host}/s"/></Connect>'), TWIML)


def test_entities_from_outside_are_not_resolved() -> None:
    text = '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]><Response><Say>&e;</Say></Response>'
    try:
        document = parse(text, TWIML)
    except Illegal:
        return
    assert document.verbs in ([Say("")], [Say("&e;")])
