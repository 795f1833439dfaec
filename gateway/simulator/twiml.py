"""The verbs that TwiML and TeXML share.

Each carrier's file makes its dialect of them.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.simulator.carrier import StreamSpec
from gateway.simulator.xml import (
    GATHER,
    RECORD,
    SAY,
    Dialect,
    Document,
    Element,
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
    attributes_of,
    check_attributes,
    check_stream_url,
    read_dial,
    read_reason,
    read_seconds,
    text_of,
    words,
)

STREAM = words("url name track statusCallback statusCallbackMethod")
VERBS = {
    "Say": SAY,
    "Play": words("loop digits"),
    "Pause": words("length"),
    "Redirect": words("method"),
    "Reject": words("reason"),
    "Hangup": frozenset[str](),
    "Dial": words(
        "action method timeout timeLimit callerId hangupOnStar record trim answerOnBridge ringTone sequential"
        " recordingStatusCallback recordingStatusCallbackMethod recordingStatusCallbackEvent recordingTrack"
        " referUrl referMethod events fromDisplayName"
    ),
    "Connect": words("action method"),
    "Start": words("action method"),
    "Stop": frozenset[str](),
    "Gather": GATHER,
    "Record": RECORD,
    "Enqueue": words("action method waitUrl waitUrlMethod workflowSid maxQueueSize"),
    "Refer": words("action method"),
    "Leave": frozenset[str](),
    "Sms": words("to from action method statusCallback"),
    "Message": words("to from action method statusCallback"),
    "Queue": words("url method reservationSid postWorkActivitySid"),
    "Pay": words("action method"),
    "Prompt": words("for errorType cardType attempt"),
    "Siprec": words("name connectorName track"),
}


def read_verb(element: Element, dialect: Dialect, document: Document) -> Verb:
    """Read one verb of TwiML or TeXML. Raises Illegal."""
    name = str(element.tag)
    match name:
        case "Connect" | "Start":
            return _stream(element, dialect, document)
        case "Redirect":
            return Redirect(text_of(element), element.get("method", "POST").upper())
        case "Reject":
            return Refuse(read_reason(element, dialect, element.get("reason", "rejected")))
        case "Hangup":
            return Hangup()
        case "Pause":
            return Pause(read_seconds(element, dialect, "1"))
        case "Say":
            return Say(text_of(element))
        case "Play" if element.get("digits") is not None:
            return PlayDigits(element.get("digits", ""))
        case "Play":
            return PlayFile(text_of(element))
        case "Dial":
            return read_dial(element, ("Number", "Sip", "Client", "Conference", "Queue"))
        case "Gather":
            return Skipped(name, "the caller presses nothing")
        case "Enqueue":
            return Skipped(name, "no agent serves the queue")
    return Skipped(name, "not simulated")


def _stream(element: Element, dialect: Dialect, document: Document) -> Verb:
    verb = str(element.tag)
    stream = element.find("Stream")
    if stream is None:
        if not len(element):
            raise Illegal(dialect.unknown_verb, f"<{verb}> without a noun")
        return Skipped(verb, f"<{element[0].tag}> is not simulated")
    check_attributes(stream, dialect.nouns["Stream"], document)
    attributes = attributes_of(stream)
    parameters: dict[str, str] = {}
    for child in stream:
        if child.tag != "Parameter" or child.get("name") is None or child.get("value") is None:
            raise Illegal(dialect.unknown_verb, f"<{child.tag}> in <Stream>")
        key, value = child.get("name", ""), child.get("value", "")
        if len(key) + len(value) >= 500:
            document.notes.append(f"<Parameter> {key!r} is {len(key) + len(value)} characters; under 500 is kept")
        parameters[key] = value
    url = attributes.get("url", "")
    check_stream_url(url, dialect)
    if not dialect.stream_query and urlsplit(url).query:
        document.notes.append("a query string in a stream URL: it is stripped")
        url = url.partition("?")[0]
    bidirectional = verb == "Connect"
    return Stream(StreamSpec(url, attributes, parameters, bidirectional), foreground=bidirectional)
