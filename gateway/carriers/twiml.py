"""What Twilio and Telnyx (TeXML) share.

The markup, and the fields of their form-encoded callbacks.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from gateway.carriers import xml
from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest, Kind, Refused, Stir, StreamAnswer, Webhook, in_table
from gateway.carriers.form import Fields, WebhookSchema, parse_request, readable
from gateway.protocol.pcm import keys_in
from serializers.numbers import e164

CORE_FIELDS = frozenset(
    {
        "AccountSid",
        "CallSid",
        "CallSidLegacy",
        "CallStatus",
        "CallbackSource",
        "ConnectionId",
        "DialCallStatus",
        "Direction",
        "From",
        "StreamEvent",
        "StreamSid",
        "To",
    }
)
_PARTIES = ("From", "To", "Caller", "Called")
_PLACES = ("City", "State", "Zip", "Country")
KNOWN_FIELDS = frozenset(
    {
        *(f"{party}{place}" for party in _PARTIES for place in _PLACES),
        "AnsweredBy",
        "ApiVersion",
        "CallControlId",
        "CallDuration",
        "CallInitiatedAt",
        "CallLegId",
        "CallSessionId",
        "CallToken",
        "Called",
        "Caller",
        "CallerId",
        "CallerIdName",
        "CallerName",
        "DialBridged",
        "DialCallDuration",
        "DialCallSid",
        "Digits",
        "Duration",
        "ErrorCode",
        "ErrorMessage",
        "ErrorUrl",
        "ForwardedFrom",
        "HangupCause",
        "HangupSource",
        "ParentCallSid",
        "SequenceNumber",
        "SipCallId",
        "SipDomain",
        "SipDomainSid",
        "SipResponseCode",
        "StirPassportToken",
        "StirVerstat",
        "StreamError",
        "StreamName",
        "Timestamp",
        "msg",
    }
)
KNOWN_PREFIXES = ("SipHeader_", "ShakenStir")

CALL_STATUS = {
    "queued": "ringing",
    "initiated": "ringing",
    "ringing": "ringing",
    "in-progress": "answered",
    "answered": "answered",
    "completed": "ended",
    "busy": "ended",
    "no-answer": "ended",
    "failed": "ended",
    "canceled": "ended",
    "cancelled": "ended",
}
OUTCOME = {
    "completed": "completed",
    "answered": "completed",  # DialCallStatus, when the callee's leg goes on elsewhere
    "busy": "busy",
    "no-answer": "no-answer",
    "failed": "failed",
    "canceled": "canceled",
    "cancelled": "canceled",
}
STREAM_STATE = {
    "stream-started": "started",
    "stream-stopped": "stopped",
    "stream-error": "failed",
    "stream-failed": "failed",  # Telnyx's documents disagree with each other
}
_SIP_HEADER = "SipHeader_"
_OUTBOUND = ("outbound", "outgoing")

PARAMETER_LIMIT = 500
"""Name and value of one <Parameter> together stay below this (Twilio's page on <Stream>)."""

_PARK_PAUSES = 24
_PAUSE_SECONDS = 3600


class TwimlCarrier(Carrier):
    """TwiML out, TwiML-shaped callbacks in.

    Subclasses say what <Stream> needs and what callbacks mean.
    """

    schema: ClassVar[WebhookSchema]
    name_fields: ClassVar[tuple[str, ...]] = ("CallerName", "CallerIdName")
    """Where the caller's name may stand."""

    @abstractmethod
    def kind_of(self, fields: Fields) -> Kind:
        """What a form-encoded callback is about."""

    @abstractmethod
    def stream_attributes(self, answer: StreamAnswer) -> Mapping[str, str]:
        """The attributes of <Stream> besides its status callback."""

    def parse(self, request: HttpRequest) -> Webhook | Refused:
        parsed = parse_request(request, self.schema)
        if isinstance(parsed, Refused):
            return parsed
        foreign = self.parse_foreign(parsed.fields)
        if foreign is not None:
            return foreign
        if not parsed.call_id:
            return Refused("no_call_id")
        return Webhook(
            kind=self.kind_of(parsed.fields),
            call_id=parsed.call_id,
            own=parsed.own,
            custom_params=parsed.custom_params,
            **self._facts(parsed.fields),
        )

    def parse_foreign(self, fields: Fields) -> Webhook | None:
        """A callback of another product that came to the wrong address, or None."""
        return None

    def ended_by(self, fields: Fields) -> tuple[str, str]:
        """(detail, outcome) of an ended call."""
        word = fields.one("CallStatus")
        return word, in_table(OUTCOME, word)

    def attestation(self, fields: Fields) -> Stir | None:
        """How far the carrier vouches for the caller's number."""
        return stir_of(fields.one("StirVerstat"))

    def _facts(self, fields: Fields) -> dict[str, Any]:
        region = self.region
        raw_from, raw_to = fields.one("From", "Caller"), fields.one("To", "Called")
        status = in_table(CALL_STATUS, fields.one("CallStatus"))
        detail, outcome = self.ended_by(fields) if status == "ended" else ("", "")
        return {
            "from_number": e164(raw_from, region),
            "to_number": e164(raw_to, region),
            "raw_from": raw_from,
            "raw_to": raw_to,
            "direction": "outbound" if fields.one("Direction").startswith(_OUTBOUND) else "inbound",
            "status": status,
            "detail": fields.one("StreamError") or detail,
            "outcome": outcome,
            "dial": in_table(OUTCOME, fields.one("DialCallStatus")),
            "answered_by": answered_by(fields.one("AnsweredBy")),
            "stream": in_table(STREAM_STATE, fields.one("StreamEvent")),
            "caller_name": caller_name(fields.one(*self.name_fields)),
            "forwarded_from": e164(fields.one("ForwardedFrom"), region),
            "stir": self.attestation(fields),
            "sip_headers": {
                readable(name.removeprefix(_SIP_HEADER)): fields.one(name)
                for name in fields
                if name.startswith(_SIP_HEADER)
            },
        }

    def answer_stream(self, answer: StreamAnswer) -> HttpAnswer:
        parameters = [
            xml.node("Parameter", name=name, value=value)
            for name, value in answer.parameters
            if name and len(name) + len(value) < PARAMETER_LIMIT
        ]
        stream = xml.node(
            "Stream",
            *parameters,
            **self.stream_attributes(answer),
            statusCallback=answer.status_url or None,
        )
        return xml.answer(xml.node("Connect", stream), *xml.redirect(answer.resume_url))

    def answer_reject(self, reason: str) -> HttpAnswer:
        return xml.answer(xml.node("Reject", reason="busy" if reason == "busy" else "rejected"))

    def answer_hangup(self) -> HttpAnswer:
        return xml.answer(xml.node("Hangup"))

    def answer_dial(self, to: str, *, caller: str, action_url: str) -> HttpAnswer:
        callee = xml.node("Sip" if to.lower().startswith(("sip:", "sips:")) else "Number", to)
        return xml.answer(xml.node("Dial", callee, action=action_url, method="POST", callerId=caller or None))

    def answer_digits(self, digits: str, *, resume_url: str) -> HttpAnswer:
        return xml.answer(xml.node("Play", digits=keys_in(digits)), *xml.redirect(resume_url))

    def answer_park(self) -> HttpAnswer:
        # Pauses for 24 hours, which no carrier lets a call exceed: nothing has to come back to us to go on.
        return xml.answer(*(xml.node("Pause", length=str(_PAUSE_SECONDS)) for _ in range(_PARK_PAUSES)))

    def answer_empty(self) -> HttpAnswer:
        return xml.answer()


def caller_name(text: str) -> str:
    """Leave a caller's name as it is; "" for a number in its place, which says what `From` says."""
    return "" if re.fullmatch("[+]?[0-9 ().-]{5,}", text) else text


def answered_by(word: str) -> str:
    """Say who picked up: "human", "machine" or "" (not known).

    Carriers also say human_residence, machine_end_beep, fax.
    """
    word = word.strip().lower()
    if word.startswith("human"):
        return "human"
    return "machine" if word.startswith(("machine", "fax")) else ""


def stir_of(verstat: str) -> Stir | None:
    """Read the attestation in a verstat (3GPP TS 24.229).

    Like "TN-Validation-Passed-A", or "…-A-Diverted" for a forwarded call; None if nothing was validated.
    """
    verdict = re.fullmatch(r"TN-Validation-(Passed|Failed)(?:-([ABC])(?:-[A-Z]+)?)?", verstat.strip(), re.IGNORECASE)
    if verdict is None:
        return None
    if verdict[1].lower() == "failed":
        return "failed"
    grades: Mapping[str, Stir] = {"A": "A", "B": "B", "C": "C"}
    return grades.get((verdict[2] or "").upper())
