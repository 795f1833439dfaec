"""Plivo's XML: the dialect, and how its verbs are read."""

from __future__ import annotations

from dataclasses import replace

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
    check_stream_url,
    read_dial,
    read_reason,
    read_seconds,
    text_of,
    words,
)


def _read_verb(element: Element, dialect: Dialect, document: Document) -> Verb:
    """Read one verb. Raises Illegal."""
    name = str(element.tag)
    match name:
        case "Stream":
            return _stream(element, dialect, document)
        case "Redirect":
            return Redirect(text_of(element), element.get("method", "POST").upper())
        case "Hangup" if element.get("reason") is not None:
            return Refuse(read_reason(element, dialect, element.get("reason", "")))
        case "Hangup":
            return Hangup()
        case "Wait":
            return Pause(read_seconds(element, dialect, "1"))
        case "Speak":
            return Say(text_of(element))
        case "Play":
            return PlayFile(text_of(element))
        case "DTMF":
            return PlayDigits(text_of(element))
        case "Dial":
            follow = element.get("redirect", "true").lower() != "false"
            return replace(read_dial(element, ("Number", "User")), follow=follow)
        case "GetDigits" | "GetInput":
            return Skipped(name, "the caller presses nothing")
    return Skipped(name, "not simulated")


def _stream(element: Element, dialect: Dialect, document: Document) -> Verb:
    attributes = attributes_of(element)
    url = text_of(element)
    check_stream_url(url, dialect)
    if len(url) > 2048:
        raise Illegal(dialect.malformed, f"a stream URL of {len(url)} characters; 2048 at most")
    if len(attributes.get("extraHeaders", "").encode()) > 512:
        document.notes.append("extraHeaders longer than 512 bytes")
    bidirectional = attributes.get("bidirectional", "false").lower() == "true"
    if bidirectional and attributes.get("audioTrack", "inbound") != "inbound":
        raise Illegal(dialect.malformed, 'audioTrack other than "inbound" with bidirectional')
    keep = attributes.get("keepCallAlive", "false").lower() == "true"
    if not keep:
        document.notes.append("keepCallAlive is not true: the call ends seconds after its last element (4010)")
    return Stream(StreamSpec(url, attributes, {}, bidirectional), foreground=keep)


PLIVO_XML = Dialect(
    "Plivo XML",
    {
        "Speak": SAY,
        "Play": words("loop"),
        "Wait": words("length silence minSilence beep"),
        "Redirect": words("method"),
        "Hangup": words("reason schedule"),
        "Dial": words(
            "action method hangupOnStar timeLimit timeout callerId callerName confirmSound confirmTimeout"
            " confirmKey dialMusic callbackUrl callbackMethod redirect digitsMatch digitsMatchBLeg sipHeaders"
        ),
        "Stream": words(
            "bidirectional keepCallAlive audioTrack streamTimeout contentType statusCallbackUrl"
            " statusCallbackMethod extraHeaders noiseCancellation noiseCancellationLevel"
        ),
        "DTMF": words("async"),
        **dict.fromkeys(
            ("Conference", "GetDigits", "GetInput", "Message", "MultiPartyCall", "PreAnswer", "Record"),
            GATHER | RECORD,
        ),
    },
    {},
    _read_verb,
    malformed="8011",
    unknown_verb="8011",
    size_limit=100_000,
)
