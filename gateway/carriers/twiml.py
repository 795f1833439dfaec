"""What Twilio and Telnyx (TeXML) share: the markup, and the fields of their form-encoded callbacks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from gateway.carriers import words, xml
from gateway.carriers.base import Carrier, HttpAnswer, HttpRequest, Kind, Refused, StreamAnswer, Webhook
from gateway.carriers.form import Fields, parse_request
from gateway.protocol.pcm import keys_in
from serializers.numbers import e164

CORE_FIELDS = (
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
)

PARAMETER_LIMIT = 500
"""Name and value of one <Parameter> together stay below this (Twilio's page on <Stream>)."""

_PARK_PAUSES = 24
_PAUSE_SECONDS = 3600


class TwimlCarrier(Carrier):
    """TwiML out, TwiML-shaped callbacks in. Subclasses say what <Stream> needs and what callbacks mean."""

    call_id_fields: ClassVar[tuple[str, ...]] = ("CallSid",)
    account_fields: ClassVar[tuple[str, ...]] = ("AccountSid",)

    @abstractmethod
    def kind_of(self, fields: Fields) -> Kind:
        """What a form-encoded callback is about."""

    @abstractmethod
    def stream_attributes(self, answer: StreamAnswer) -> Mapping[str, str]:
        """The attributes of <Stream> besides its status callback."""

    def parse(self, request: HttpRequest) -> Webhook | Refused:
        said = parse_request(request, once=CORE_FIELDS, call_id=self.call_id_fields)
        if isinstance(said, Refused):
            return said
        foreign = self.parse_foreign(said.fields)
        if foreign is not None:
            return foreign
        if not said.call_id:
            return Refused("no_call_id")
        kind = self.kind_of(said.fields)
        return Webhook(kind=kind, call_id=said.call_id, ours=said.ours, **self._facts(said.fields))

    def parse_foreign(self, fields: Fields) -> Webhook | None:
        """A callback of another product that came to the wrong address, or None."""
        return None

    def ended_by(self, fields: Fields) -> tuple[str, str]:
        """(detail, outcome) of an ended call."""
        word = fields.one("CallStatus")
        return word, words.outcome(word)

    def _facts(self, fields: Fields) -> dict[str, Any]:
        raw_from, raw_to = fields.one("From", "Caller"), fields.one("To", "Called")
        status = words.call_status(fields.one("CallStatus"))
        detail, outcome = self.ended_by(fields) if status == "ended" else ("", "")
        return {
            "account": fields.one(*self.account_fields),
            "from_number": e164(raw_from),
            "to_number": e164(raw_to),
            "raw_from": raw_from,
            "raw_to": raw_to,
            "direction": "outbound" if fields.one("Direction").startswith("outbound") else "inbound",
            "status": status,
            "detail": fields.one("StreamError") or detail,
            "outcome": outcome,
            "dial": words.outcome(fields.one("DialCallStatus")),
            "answered_by": words.answered_by(fields.one("AnsweredBy")),
            "stream": words.stream_state(fields.one("StreamEvent")),
            "stream_id": fields.one("StreamSid"),
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
