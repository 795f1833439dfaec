"""What four carriers send for the same call, and the steps of a test that is run for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.kit.node import Bot, start

UUID = "8f1e5c2a-0b7d-4c3e-9a61-2d4f6b8c0e13"


@dataclass(frozen=True)
class Wire:
    """One carrier's words. call: its id. voice, known, start: fields of the webhook, of what it knows, and the stream's
    first message. status: of a later callback, to which `who` adds who answered.
    """

    call: str
    voice: Mapping[str, str]
    known: Mapping[str, str]
    start: Mapping[str, Any]
    status: Mapping[str, str]
    who: Mapping[str, str]


TELNYX_START = {
    "event": "start",
    "sequence_number": "1",
    "stream_id": UUID,
    "start": {
        "call_control_id": "v3:one",
        "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
    },
}
PLIVO_START = {
    "event": "start",
    "sequenceNumber": 1,
    "start": {
        "callId": UUID,
        "streamId": UUID,
        "accountId": "MA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
    },
}
EXOTEL_START = {
    "event": "start",
    "sequence_number": "1",
    "stream_sid": "ex1",
    "start": {"stream_sid": "ex1", "call_sid": "EX1", "account_sid": "acme", "media_format": {"sample_rate": "8000"}},
}
TWIML_KNOWN = {
    "CallerName": "ACME INC",
    "ForwardedFrom": "+15550100009",
    "StirVerstat": "TN-Validation-Passed-A",
    "SipHeader_X-Campaign": "spring",
}
NUMBERS = {"From": "+15550100001", "To": "+15550100000", "Direction": "inbound", "CallStatus": "ringing"}
WIRES = {
    "twilio": Wire(
        "CA1",
        {"CallSid": "CA1", "AccountSid": "AC1", **NUMBERS},
        TWIML_KNOWN,
        start("CA1"),
        {"CallSid": "CA1", "AccountSid": "AC1"},
        {"AnsweredBy": "machine_start"},
    ),
    "telnyx": Wire(
        "v3:one",
        {"CallSid": "v3:one", **NUMBERS},
        TWIML_KNOWN,
        TELNYX_START,
        {"CallSid": "v3:one"},
        {"AnsweredBy": "machine"},
    ),
    "plivo": Wire(
        UUID,
        {"CallUUID": UUID, "Event": "StartApp", **NUMBERS},
        {
            "CallerName": "ACME INC",
            "ForwardedFrom": "15550100009",
            "STIRAttestation": "A",
            "STIRVerification": "Verified",
            "X-PH-X-Campaign": "spring",
        },
        PLIVO_START,
        {"CallUUID": UUID, "Event": "MachineDetection", "CallStatus": "in-progress"},
        {"Machine": "true"},
    ),
    "exotel": Wire(
        "EX1",
        {"CallSid": "EX1", "CallFrom": "+15550100001", "CallTo": "+15550100000", "Direction": "incoming"},
        {"CallerName": "ACME INC", "ForwardedFrom": "+15550100009"},
        EXOTEL_START,
        {"CallSid": "EX1", "Status": "in-progress"},
        {"AnsweredBy": "machine"},
    ),
}


async def ring(gateway, carrier: str, query: str = "", **fields: str) -> str:
    """A call rings, or comes to /voice again. Returns the path of the stream that the answer asks for, "" if none."""
    form = {**WIRES[carrier].voice, **fields}
    return path_in((await gateway.http.post(f"/webhooks/{carrier}/voice{query}", data=form)).text)


def path_in(answer: str) -> str:
    """The path of the stream that an answer asks for, "" if it asks for none."""
    _, found, rest = answer.partition("/ws/")
    return found + rest.partition('"')[0].partition("<")[0].partition("?")[0]


async def join(gateway, carrier: str, path: str) -> tuple[Bot, Any]:
    """The stream starts. Returns its bot and the stream."""
    stream = await gateway.open(path)
    stream.send(dict(WIRES[carrier].start))
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    return bot, stream
