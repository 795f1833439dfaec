"""Follows an XML answer verb by verb, as Twilio, Telnyx and Plivo do, from the voice webhook to the call's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.simulator import xml
from gateway.simulator.carrier import Fields
from gateway.simulator.http import Answer, absolute
from gateway.simulator.outcome import Failed, Refused

if TYPE_CHECKING:
    from gateway.simulator.call import Call

MAX_DOCUMENTS = 40
XML_TYPES = ("text/xml", "application/xml", "text/html")
LOOSE_STREAM_SECONDS = 3.0
"""How long a call outlives its last verb while a stream that nothing waits for is open (Plivo: "seconds")."""


@dataclass(frozen=True, slots=True)
class Next:
    """Where the next document is."""

    url: str
    method: str
    more: Fields


async def xml_flow(call: Call, dialect: xml.Dialect) -> None:
    """Until the instructions run out. Raises HungUp, Refused, Failed."""
    side = call.side
    url = side.voice_url
    request = side.instructions(url, "POST", answered=False)
    for _ in range(MAX_DOCUMENTS):
        answer = await call.fetch(request)
        document = _document(call, answer, dialect)
        step = await _follow(call, document)
        if step is None:
            await call.linger_in_background(LOOSE_STREAM_SECONDS)
            return
        url = absolute(step.url, url)
        request = side.instructions(url, step.method, answered=True, more=step.more)
    raise Failed(f"more than {MAX_DOCUMENTS} documents in one call")


def _document(call: Call, answer: Answer, dialect: xml.Dialect) -> xml.Document:
    if answer.status != 200:
        said = answer.error or str(answer.status)
        raise Failed(f"{call.side.fetch_error} the gateway answered {said}")
    if answer.content_type not in XML_TYPES:
        raise Failed(f"{call.side.content_type_error} content type {answer.content_type!r}")
    try:
        document = xml.parse(answer.text, dialect)
    except xml.Illegal as illegal:
        raise Failed(str(illegal)) from None
    call.report.violations.extend(f"{call.side.name}: {note}" for note in document.notes)
    return document


async def _follow(call: Call, document: xml.Document) -> Next | None:
    """Run the verbs in order; where to go next, or None when there is nothing more to do."""
    for verb in document.verbs:
        call.report.verbs.append(_word(verb))
        match verb:
            case xml.Stream(spec, foreground=True):
                await call.stream(spec)
            case xml.Stream(spec):
                call.stream_in_background(spec)
            case xml.Redirect(url, method):
                return Next(url, method, [])
            case xml.Refuse(reason):
                if not call.answered:
                    raise Refused(reason)
                return None
            case xml.Hangup():
                return None
            case xml.Pause(seconds):
                await call.wait(seconds)
            case xml.Dial():
                if step := await _dial(call, verb):
                    return step
            case xml.PlayDigits(digits):
                call.report.dtmf.append(digits)
            case xml.Say() | xml.PlayFile():
                # Speech and files take no time here: nothing depends on how long they are.
                call.answered = True
            case xml.Skipped(name, why):
                call.answered = True
                call.report.notes.append(f"<{name}> skipped: {why}")
    return None


async def _dial(call: Call, dial: xml.Dial) -> Next | None:
    call.answered = True
    call.report.dialled.extend(dial.targets)
    result = call.plan.dial_result
    if result == "completed":
        await call.wait(call.plan.dial_seconds)
    if dial.action and dial.follow:
        return Next(dial.action, dial.method, call.side.dial_fields(result))
    return None


def _word(verb: xml.Verb) -> str:
    match verb:
        case xml.Stream():
            return "Stream" if verb.foreground else "Stream in background"
        case xml.Refuse(reason):
            return f"Refuse {reason}"
        case xml.Pause(seconds):
            return f"Pause {seconds:g}"
        case xml.Skipped(name, _):
            return name
    return type(verb).__name__
