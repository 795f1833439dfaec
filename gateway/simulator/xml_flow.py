"""Follows XML answers verb by verb, from the voice webhook to the call's end.

As Twilio, Telnyx and Plivo do.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.simulator import xml
from gateway.simulator.call import Call, Step
from gateway.simulator.http import absolute
from gateway.simulator.outcome import Failed, Refused

MAX_DOCUMENTS = 40
XML_TYPES = ("text/xml", "application/xml", "text/html")
LOOSE_STREAM_SECONDS = 3.0
"""How long a call outlives its last verb while a stream that nothing waits for is open (Plivo: "seconds")."""


async def xml_flow(call: Call, dialect: xml.Dialect) -> None:
    """Lead the call until its instructions run out. Raises HungUp, Refused, Failed."""
    step = call.first or Step(call.carrier.voice_url, first=True)
    for _ in range(MAX_DOCUMENTS):
        text, url = await _ask(call, step)
        onward = await _follow(call, _document(call, text, dialect))
        if onward is None:
            await call.linger_in_background(LOOSE_STREAM_SECONDS)
            return
        step = replace(onward, url=absolute(onward.url, url))
    raise Failed(f"more than {MAX_DOCUMENTS} documents in one call")


async def _ask(call: Call, step: Step) -> tuple[str, str]:
    """Return the next document, and the URL that it came from. Raises Failed."""
    if step.document is not None:
        return step.document, step.url
    carrier = call.carrier
    answer = await call.fetch(carrier.instructions(step.url, step.method, answered=not step.first, more=step.more))
    if answer.status != 200:
        raise Failed(carrier.fetch_failure(answer.status, answer.error, answer.location))
    if answer.content_type not in XML_TYPES:
        raise Failed(f"{carrier.content_type_error} content type {answer.content_type!r}")
    return answer.text, answer.url


def _document(call: Call, text: str, dialect: xml.Dialect) -> xml.Document:
    try:
        document = xml.parse(text, dialect)
    except xml.Illegal as illegal:
        raise Failed(str(illegal)) from None
    call.report.violations.extend(f"{call.carrier.name}: {note}" for note in document.notes)
    return document


async def _follow(call: Call, document: xml.Document) -> Step | None:
    """Run the verbs in order. Return where to go next; None if nothing is left to do."""
    for verb in document.verbs:
        call.report.verbs.append(_word(verb))
        match verb:
            # Media streams: later verbs wait for one that keeps the call.
            case xml.Stream(spec, foreground=True):
                await call.stream(spec)
            case xml.Stream(spec):
                call.stream_in_background(spec)
            # What leads elsewhere, or ends the call.
            case xml.Redirect(url, method):
                return Step(url, method)
            case xml.Refuse(reason):
                if not call.answered:  # else it only hangs up
                    raise Refused(reason)
                return None
            case xml.Hangup():
                return None
            # What takes time or another leg, and then lets the next verb run.
            case xml.Pause(seconds):
                await call.wait(seconds)
            case xml.Dial():
                if step := await _dial(call, verb):
                    return step
            # What only sounds. Speech and files take no time here: nothing depends on how long they are.
            case xml.PlayDigits(digits):
                call.report.dtmf.append(digits)
            case xml.Say() | xml.PlayFile():
                call.answered = True
            case xml.Skipped(name, why):
                call.answered = True
                call.report.notes.append(f"<{name}> skipped: {why}")
    return None


async def _dial(call: Call, dial: xml.Dial) -> Step | None:
    call.answered = True
    result, seconds = call.dial(dial.targets)
    if seconds:
        await call.wait(seconds)
    if dial.action and dial.follow:
        return Step(dial.action, dial.method, call.carrier.dial_fields(result))
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
