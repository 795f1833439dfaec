"""TwiML, TeXML and Plivo's XML, verb by verb: what a carrier would do with an answer.

`parse` turns one document into verbs, or raises `Illegal` with the number under which the carrier's debugger would
show it. Following the verbs is `xml_flow`'s business. Unknown attributes are ignored by the carriers, silently: they
are told as notes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lxml import etree

from gateway.simulator.carrier import StreamSpec

Element = etree._Element


class Illegal(Exception):
    """The carrier refuses this document. code: its error number, "" where it has none."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code


# ------------------------------------------------------------------------------------------------------- the verbs


@dataclass(frozen=True, slots=True)
class Stream:
    """A media stream. foreground: later verbs wait for its end."""

    spec: StreamSpec
    foreground: bool = True


@dataclass(frozen=True, slots=True)
class Redirect:
    url: str
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Refuse:
    """As the first verb: the call is never answered, and not billed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hangup:
    pass


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True)
class PlayFile:
    url: str


@dataclass(frozen=True, slots=True)
class PlayDigits:
    digits: str


@dataclass(frozen=True, slots=True)
class Dial:
    targets: tuple[str, ...]
    action: str = ""
    method: str = "POST"
    follow: bool = True
    """What the action URL answers is obeyed (Plivo's `redirect`)."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A verb that means nothing to a simulated call; `why` says so."""

    name: str
    why: str


Verb = Stream | Redirect | Refuse | Hangup | Pause | Say | PlayFile | PlayDigits | Dial | Skipped


@dataclass(slots=True)
class Document:
    verbs: list[Verb] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the carrier swallows though it is not right."""


# ----------------------------------------------------------------------------------------------------- the dialects


@dataclass(frozen=True, slots=True)
class Dialect:
    """One carrier's language: its verbs with their attributes, and what it calls an error."""

    name: str
    verbs: Mapping[str, frozenset[str]]
    nouns: Mapping[str, frozenset[str]]
    malformed: str
    unknown_verb: str
    size_limit: int


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAY = _words("voice language loop")
_GATHER = _words(
    "action method timeout finishOnKey numDigits input language hints speechTimeout partialResultCallback"
    " actionOnEmptyResult bargeIn profanityFilter partialResultCallbackMethod speechModel enhanced debug"
)
_RECORD = _words(
    "action method timeout finishOnKey maxLength playBeep trim recordingStatusCallback recordingChannel"
    " recordingStatusCallbackMethod recordingStatusCallbackEvent transcribe transcribeCallback"
)
_STREAM = _words("url name track statusCallback statusCallbackMethod")
_TWIML_VERBS = {
    "Say": _SAY,
    "Play": _words("loop digits"),
    "Pause": _words("length"),
    "Redirect": _words("method"),
    "Reject": _words("reason"),
    "Hangup": frozenset[str](),
    "Dial": _words(
        "action method timeout timeLimit callerId hangupOnStar record trim answerOnBridge ringTone sequential"
        " recordingStatusCallback recordingStatusCallbackMethod recordingStatusCallbackEvent recordingTrack"
        " referUrl referMethod events fromDisplayName"
    ),
    "Connect": _words("action method"),
    "Start": _words("action method"),
    "Stop": frozenset[str](),
    "Gather": _GATHER,
    "Record": _RECORD,
    "Enqueue": _words("action method waitUrl waitUrlMethod workflowSid maxQueueSize"),
    "Refer": _words("action method"),
    "Leave": frozenset[str](),
    "Sms": _words("to from action method statusCallback"),
    "Message": _words("to from action method statusCallback"),
    "Queue": _words("url method reservationSid postWorkActivitySid"),
    "Pay": _words("action method"),
    "Prompt": _words("for errorType cardType attempt"),
    "Siprec": _words("name connectorName track"),
}
_TEXML_ONLY_STREAM = _words(
    "codec bidirectionalMode bidirectionalCodec bidirectionalSamplingRate bidirectionalTargetLegs enableReconnect"
)

TWIML = Dialect(
    "TwiML",
    _TWIML_VERBS,
    {"Stream": _STREAM | _words("connectorName audioFormat sampleRate"), "Parameter": _words("name value")},
    malformed="12100",
    unknown_verb="12200",
    size_limit=64_000,
)
TEXML = Dialect(
    "TeXML",
    {name: attributes for name, attributes in _TWIML_VERBS.items() if name not in ("Pay", "Prompt")},
    {"Stream": _STREAM | _TEXML_ONLY_STREAM, "Parameter": _words("name value")},
    malformed="",
    unknown_verb="",
    size_limit=64_000,
)
PLIVO_XML = Dialect(
    "Plivo XML",
    {
        "Speak": _SAY,
        "Play": _words("loop"),
        "Wait": _words("length silence minSilence beep"),
        "Redirect": _words("method"),
        "Hangup": _words("reason schedule"),
        "Dial": _words(
            "action method hangupOnStar timeLimit timeout callerId callerName confirmSound confirmTimeout"
            " confirmKey dialMusic callbackUrl callbackMethod redirect digitsMatch digitsMatchBLeg sipHeaders"
        ),
        "Stream": _words(
            "bidirectional keepCallAlive audioTrack streamTimeout contentType statusCallbackUrl"
            " statusCallbackMethod extraHeaders noiseCancellation noiseCancellationLevel"
        ),
        "DTMF": _words("async"),
        **dict.fromkeys(
            ("Conference", "GetDigits", "GetInput", "Message", "MultiPartyCall", "PreAnswer", "Record"),
            _GATHER | _RECORD,
        ),
    },
    {},
    malformed="8011",
    unknown_verb="8011",
    size_limit=100_000,
)

# ------------------------------------------------------------------------------------------------------- the parser


def parse(text: str, dialect: Dialect) -> Document:
    """The verbs of one answer. Raises Illegal."""
    raw = text.encode()
    if len(raw) > dialect.size_limit:
        raise Illegal(dialect.malformed, f"{len(raw)} bytes of {dialect.name}; {dialect.size_limit} at most")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(raw, parser)
    except etree.XMLSyntaxError as error:
        raise Illegal(dialect.malformed, f"not well-formed: {error}") from None
    if root.tag != "Response":
        raise Illegal(dialect.malformed, f"the root is <{root.tag}>, not <Response>")
    if root.text and root.text.strip():
        raise Illegal(dialect.unknown_verb, "text outside of a verb")
    document = Document()
    for element in root:
        name = str(element.tag)
        if name not in dialect.verbs:
            raise Illegal(dialect.unknown_verb, f"<{name}> is no verb of {dialect.name}")
        _check_attributes(element, dialect.verbs[name], document)
        verb = _plivo_verb(element, document) if dialect is PLIVO_XML else _twiml_verb(element, dialect, document)
        document.verbs.append(verb)
    return document


def _check_attributes(element: Element, known: frozenset[str], document: Document) -> None:
    for name in element.attrib:
        if str(name) not in known:
            document.notes.append(f"<{element.tag}> has no attribute {str(name)!r}: ignored")


def _text(element: Element) -> str:
    return "".join(str(part) for part in element.itertext()).strip()


def _attributes(element: Element) -> dict[str, str]:
    return {str(name): str(value) for name, value in element.attrib.items()}


def _twiml_verb(element: Element, dialect: Dialect, document: Document) -> Verb:
    name = str(element.tag)
    match name:
        case "Connect" | "Start":
            return _twiml_stream(element, dialect, document)
        case "Redirect":
            return Redirect(_text(element), element.get("method", "POST").upper())
        case "Reject":
            return Refuse(_reason(element, dialect, element.get("reason", "rejected")))
        case "Hangup":
            return Hangup()
        case "Pause":
            return Pause(_seconds(element, dialect, "1"))
        case "Say":
            return Say(_text(element))
        case "Play" if element.get("digits") is not None:
            return PlayDigits(element.get("digits", ""))
        case "Play":
            return PlayFile(_text(element))
        case "Dial":
            return _dial(element, ("Number", "Sip", "Client", "Conference", "Queue"))
        case "Gather":
            return Skipped(name, "the caller presses nothing")
        case "Enqueue":
            return Skipped(name, "nobody serves the queue")
    return Skipped(name, "not simulated")


def _twiml_stream(element: Element, dialect: Dialect, document: Document) -> Verb:
    verb = str(element.tag)
    stream = element.find("Stream")
    if stream is None:
        if not len(element):
            raise Illegal(dialect.unknown_verb, f"<{verb}> without a noun")
        return Skipped(verb, f"<{element[0].tag}> is not simulated")
    _check_attributes(stream, dialect.nouns["Stream"], document)
    attributes = _attributes(stream)
    parameters: dict[str, str] = {}
    for child in stream:
        if child.tag != "Parameter" or child.get("name") is None or child.get("value") is None:
            raise Illegal(dialect.unknown_verb, f"<{child.tag}> in <Stream>")
        key, value = child.get("name", ""), child.get("value", "")
        if len(key) + len(value) >= 500:
            document.notes.append(f"<Parameter> {key!r} is {len(key) + len(value)} characters; under 500 is kept")
        parameters[key] = value
    url = attributes.get("url", "")
    _check_stream_url(url, dialect)
    if dialect is TWIML and urlsplit(url).query:
        document.notes.append("a query string in a stream URL: Twilio strips it")
        url = url.partition("?")[0]
    bidirectional = verb == "Connect"
    return Stream(StreamSpec(url, attributes, parameters, bidirectional), foreground=bidirectional)


def _plivo_verb(element: Element, document: Document) -> Verb:
    name = str(element.tag)
    match name:
        case "Stream":
            return _plivo_stream(element, document)
        case "Redirect":
            return Redirect(_text(element), element.get("method", "POST").upper())
        case "Hangup" if element.get("reason") is not None:
            return Refuse(_reason(element, PLIVO_XML, element.get("reason", "")))
        case "Hangup":
            return Hangup()
        case "Wait":
            return Pause(_seconds(element, PLIVO_XML, "1"))
        case "Speak":
            return Say(_text(element))
        case "Play":
            return PlayFile(_text(element))
        case "DTMF":
            return PlayDigits(_text(element))
        case "Dial":
            return _dial(element, ("Number", "User"))
        case "GetDigits" | "GetInput":
            return Skipped(name, "the caller presses nothing")
    return Skipped(name, "not simulated")


def _plivo_stream(element: Element, document: Document) -> Verb:
    attributes = _attributes(element)
    url = _text(element)
    _check_stream_url(url, PLIVO_XML)
    if len(url) > 2048:
        raise Illegal("8011", f"a stream URL of {len(url)} characters; 2048 at most")
    if len(attributes.get("extraHeaders", "").encode()) > 512:
        document.notes.append("extraHeaders longer than 512 bytes")
    bidirectional = attributes.get("bidirectional", "false").lower() == "true"
    if bidirectional and attributes.get("audioTrack", "inbound") != "inbound":
        raise Illegal("8011", 'audioTrack other than "inbound" with bidirectional')
    keep = attributes.get("keepCallAlive", "false").lower() == "true"
    if not keep:
        document.notes.append("keepCallAlive is not true: the call ends seconds after its last element (4010)")
    return Stream(StreamSpec(url, attributes, {}, bidirectional), foreground=keep)


def _dial(element: Element, nouns: tuple[str, ...]) -> Dial:
    targets = [_text(child) for child in element if child.tag in nouns]
    if not targets and (text := _text(element)):
        targets = [text]
    follow = element.get("redirect", "true").lower() != "false"
    return Dial(tuple(targets), element.get("action", ""), element.get("method", "POST").upper(), follow)


def _reason(element: Element, dialect: Dialect, reason: str) -> str:
    if reason not in ("rejected", "busy"):
        raise Illegal(dialect.unknown_verb, f"<{element.tag} reason={reason!r}>")
    return reason


def _seconds(element: Element, dialect: Dialect, default: str) -> float:
    length = element.get("length", default)
    if not length.isascii() or not length.isdigit():
        raise Illegal(dialect.unknown_verb, f"<{element.tag} length={length!r}>")
    return float(length)


def _check_stream_url(url: str, dialect: Dialect) -> None:
    """wss only. Plain ws is let through on loopback, where no carrier comes, so that a laptop needs no certificate."""
    parts = urlsplit(url)
    if parts.scheme == "wss" or (parts.scheme == "ws" and _is_loopback(parts.hostname or "")):
        return
    raise Illegal(dialect.unknown_verb, f"a stream URL with scheme {parts.scheme!r}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
