"""Twilio as a client: form webhooks signed with HMAC-SHA1, TwiML, Media Streams.

From twilio.com/docs/voice/twiml/stream, /voice/media-streams/websocket-messages, /usage/security, and captured
traffic. What Twilio does not document is not simulated.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from gateway.simulator.account import Account
from gateway.simulator.call import Call, Simulator
from gateway.simulator.carrier import (
    Clear,
    Fatal,
    Fields,
    Mark,
    Outgoing,
    Play,
    Request,
    SimulatedCarrier,
    StreamSpec,
    Wire,
    compact,
    decoded,
)
from gateway.simulator.plan import CallPlan, DialResult
from gateway.simulator.twiml import STREAM, VERBS, read_verb
from gateway.simulator.voice import Encoding
from gateway.simulator.xml import Dialect, words
from gateway.simulator.xml_flow import xml_flow

MULAW = Encoding("PCMU", 8000)

TWIML = Dialect(
    "TwiML",
    VERBS,
    {"Stream": STREAM | words("connectorName audioFormat sampleRate"), "Parameter": words("name value")},
    read_verb,
    malformed="12100",
    unknown_verb="12200",
    size_limit=64_000,
    stream_query=False,
)


@dataclass(frozen=True, slots=True)
class TwilioAccount(Account):
    """A Twilio account and the token that signs for it."""

    account_sid: str = ""
    auth_token: str = field(default="", repr=False)

    env: ClassVar[Mapping[str, str]] = {"account_sid": "TWILIO_ACCOUNT_SID", "auth_token": "TWILIO_AUTH_TOKEN"}

    @classmethod
    def generate(cls) -> Self:
        return cls("AC" + secrets.token_hex(16), secrets.token_hex(16))


class SimulatedTwilio(SimulatedCarrier):
    """One call as Twilio leads it."""

    name: ClassVar[str] = "twilio"
    account_type = TwilioAccount
    account: TwilioAccount
    signing: TwilioAccount | None
    fetch_error = "11200"
    content_type_error = "12300"
    followed_redirects = frozenset({301, 302, 303, 307})  # twilio.com/docs/api/errors/11216

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan)
        self.call_id = "CA" + secrets.token_hex(16)

    def _fields(self, status: str) -> Fields:
        # The field set and its order are a captured call's. The empty ones are sent, and signed.
        outbound = self.plan.direction == "outbound"
        return [
            ("Called", self.to_number),
            ("ToState", "KS"),
            ("CallerCountry", "US"),
            ("Direction", "outbound-api" if outbound else "inbound"),
            ("CallerState", ""),
            ("ToZip", ""),
            ("CallSid", self.call_id),
            ("To", self.to_number),
            ("CallerZip", ""),
            ("ToCountry", "US"),
            ("ApiVersion", "2010-04-01"),
            ("CalledZip", ""),
            ("CalledCity", ""),
            ("CallStatus", status),
            ("From", self.from_number),
            ("AccountSid", self.account_id),
            ("CalledCountry", "US"),
            ("CallerCity", ""),
            ("Caller", self.from_number),
            ("FromCountry", "US"),
            ("ToCity", ""),
            ("FromCity", ""),
            ("CalledState", "KS"),
            ("FromZip", ""),
            ("FromState", ""),
        ]

    def instructions(self, url: str, method: str, *, answered: bool, more: Fields | None = None) -> Request:
        status = "in-progress" if answered or self.plan.direction == "outbound" else "ringing"
        return Request(method, url, self._fields(status) + (more or []))

    def fetch_failure(self, status: int, error: str, location: str) -> str:
        # twilio.com/docs/api/errors/11215 and 11216
        if status in self.followed_redirects and location and urlsplit(location).scheme in ("", "http", "https"):
            return f"11215 the gateway answered {status} once too often"
        if 300 <= status < 400:
            return f"11216 the gateway answered {status}, which is no redirect without a Location"
        return super().fetch_failure(status, error, location)

    def headers(self, request: Request, body: bytes) -> dict[str, str]:
        del body
        signed = {} if request.method == "GET" else dict(request.fields)
        return self._signature("X-Twilio-Signature", request.full_url, signed)

    def upgrade_headers(self, url: str) -> dict[str, str]:
        # The upgrade is signed over its wss:// URL, and its header comes in lower case (twilio-aspnet issue 162).
        return self._signature("x-twilio-signature", url, {})

    def _signature(self, header: str, url: str, form: dict[str, str]) -> dict[str, str]:
        if self.signing is None or not self.signing.auth_token:
            return {}
        from twilio.request_validator import RequestValidator

        validator = RequestValidator(self.signing.auth_token)
        return {header: validator.compute_signature(url, form)}

    def dial_fields(self, result: DialResult) -> Fields:
        fields = [("DialCallStatus", result), ("DialCallSid", "CA" + secrets.token_hex(16))]
        if result == "completed":
            fields.append(("DialCallDuration", str(int(self.plan.dial_seconds))))
        return fields

    def ended(self, outcome: str, seconds: int) -> list[Request]:
        status = {"rejected": "no-answer", "busy": "busy"}.get(
            outcome, "failed" if outcome.startswith("failed") else "completed"
        )
        more = [
            ("Timestamp", format_datetime(datetime.now(UTC))),
            ("CallbackSource", "call-progress-events"),
            ("SequenceNumber", "0"),
            ("Duration", str((seconds + 59) // 60)),
            ("CallDuration", str(seconds)),
        ]
        return [Request("POST", self.status_url, self._fields(status) + more)]

    def stream_event(self, wire: Wire, spec: StreamSpec, event: str, error: str = "") -> Request | None:
        url = spec.attributes.get("statusCallback")
        if not url:
            return None
        fields = [
            ("AccountSid", self.account_id),
            ("CallSid", self.call_id),
            ("StreamSid", wire.stream_id),
            ("StreamName", spec.attributes.get("name", wire.stream_id)),
            ("StreamEvent", f"stream-{event}"),
            # Captured with nanoseconds.
            ("Timestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "368Z"),
        ]
        if error:
            fields.append(("StreamError", error))
        return Request(spec.attributes.get("statusCallbackMethod", "POST"), url, fields)

    def open_stream(self, spec: StreamSpec) -> Wire:
        return TwilioWire(self, spec)


class TwilioWire(Wire):
    """Only media, mark and clear may be sent to Twilio.

    Anything else is error 31924 and the stream's end.
    """

    def __init__(self, carrier: SimulatedTwilio, spec: StreamSpec) -> None:
        super().__init__(carrier, spec, MULAW, MULAW)
        self.stream_id = "MZ" + secrets.token_hex(16)
        d = self._d
        self._template = (
            b'{"event":"media","sequenceNumber":%b,"media":{"track":"inbound","chunk":%b,"timestamp":%b,'
            b'"payload":"%%b"},"streamSid":"%b"}' % (d, d, d, self.stream_id.encode())
        )

    def connected(self) -> str:
        return '{"event":"connected","protocol":"Call","version":"1.0.0"}'

    def start(self) -> str:
        return compact(
            {
                "event": "start",
                "sequenceNumber": self._next(),
                "start": {
                    "accountSid": self.carrier.account_id,
                    "streamSid": self.stream_id,
                    "callSid": self.carrier.call_id,
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                    "customParameters": dict(self.spec.parameters),
                },
                "streamSid": self.stream_id,
            }
        )

    def _media(self, at_ms: int, payload: bytes, chunk: int) -> bytes:
        # The first timestamp of a captured stream was 155, not 0.
        return self._template % (self.sequence, chunk, at_ms + 155, payload)

    def dtmf(self, digit: str) -> str:
        return compact(
            {
                "event": "dtmf",
                "streamSid": self.stream_id,
                "sequenceNumber": self._next(),
                "dtmf": {"track": "inbound_track", "digit": digit},
            }
        )

    def mark(self, name: str) -> str:
        return compact(
            {
                "event": "mark",
                "sequenceNumber": self._next(),
                "streamSid": self.stream_id,
                "mark": {"name": name},
            }
        )

    def stop(self, reason: str) -> str:
        return compact(
            {
                "event": "stop",
                "sequenceNumber": self._next(),
                "streamSid": self.stream_id,
                "stop": {"accountSid": self.carrier.account_id, "callSid": self.carrier.call_id},
            }
        )

    def _read(self, message: dict[str, Any]) -> Outgoing:
        event = message.get("event")
        if message.get("streamSid") != self.stream_id:
            return self._malformed(f"{event!r} with streamSid {message.get('streamSid')!r}")
        if event == "media":
            media = message.get("media")
            payload = decoded(media.get("payload")) if isinstance(media, dict) else None
            if payload is None:
                return self._malformed("media without a base64 payload")
            if payload[:4] == b"RIFF":
                self._violation("a file header in a payload; Twilio plays it as noise")
            return Play(payload)
        if event == "clear":
            return Clear()
        if event == "mark":
            mark = message.get("mark")
            if not isinstance(mark, dict) or not isinstance(mark.get("name"), str):
                return self._malformed("mark without its name")
            return Mark(mark["name"])
        return self._malformed(f"event {event!r}")

    def _malformed(self, what: str) -> Outgoing:
        self._violation(f"31924 protocol error: {what}")
        return Fatal("31924")


async def flow(call: Call) -> None:
    """Lead the call by the TwiML that it is answered with."""
    await xml_flow(call, TWIML)


SIMULATOR = Simulator(SimulatedTwilio, flow)
