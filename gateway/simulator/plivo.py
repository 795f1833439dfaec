"""Plivo as a client: form webhooks signed with V3, its own XML, audio streaming.

From docs.plivo.com (XML request, Stream, audio streaming reference), plivo/utils/signature_v3.py and captured
traffic. Numbers come without a plus.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

from gateway.errors import UnsupportedCodec
from gateway.simulator.account import Account
from gateway.simulator.call import Call, Simulator
from gateway.simulator.carrier import (
    Clear,
    Dtmf,
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
    national_or_e164,
)
from gateway.simulator.plan import CallPlan, DialResult
from gateway.simulator.plivo_xml import PLIVO_XML
from gateway.simulator.voice import Encoding
from gateway.simulator.xml_flow import xml_flow

MESSAGE_LIMIT = 64 * 1024
BUFFER_SECONDS = 60  # the guide; the best practices say 40, so what is between the two passes here

CONTENT_TYPES = {
    "audio/x-mulaw;rate=8000": Encoding("PCMU", 8000),
    "audio/x-l16;rate=8000": Encoding("L16", 8000),
    "audio/x-l16;rate=16000": Encoding("L16", 16000),
    "audio/x-l16;rate=24000": Encoding("L16", 24000),
}
DEFAULT_CONTENT_TYPE = "audio/x-l16;rate=8000"

STREAM_EVENTS = {"started": "StartStream", "stopped": "StopStream", "error": "DroppedStream"}


@dataclass(frozen=True, slots=True)
class PlivoAccount(Account):
    """A Plivo account and the token that signs for it."""

    auth_id: str = ""
    auth_token: str = field(default="", repr=False)

    env: ClassVar[Mapping[str, str]] = {"auth_id": "PLIVO_AUTH_ID", "auth_token": "PLIVO_AUTH_TOKEN"}

    @classmethod
    def generate(cls) -> Self:
        return cls("MA" + secrets.token_hex(9).upper(), secrets.token_hex(20))


class SimulatedPlivo(SimulatedCarrier):
    """One call as Plivo leads it."""

    name: ClassVar[str] = "plivo"
    account_type = PlivoAccount
    account: PlivoAccount
    signing: PlivoAccount | None
    handshake_retries = 2
    fetch_error = "7011"
    content_type_error = "8011"
    static_attributes: ClassVar[Mapping[str, str]] = {
        "bidirectional": "true",
        "keepCallAlive": "true",
        "contentType": "audio/x-mulaw;rate=8000",
    }
    read_timeout = 40.0

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan)
        self.call_id = str(uuid.uuid4())
        self.from_number = national_or_e164(plan.from_number, "")
        self.to_number = national_or_e164(plan.to_number, "")
        self._session_start = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

    def _fields(self, status: str, event: str) -> Fields:
        outbound = self.plan.direction == "outbound"
        # The documents give ALegUUID and ALegRequestUUID to outbound calls only.
        leg = [("ALegRequestUUID", self.call_id), ("ALegUUID", self.call_id)] if outbound else []
        return [
            *leg,
            ("BillRate", "0.005"),
            ("CallStatus", status),
            ("CallUUID", self.call_id),
            ("CountryCode", "US"),
            ("Direction", self.plan.direction),
            ("Event", event),
            ("From", self.from_number),
            ("ParentAuthID", self.account_id),
            ("RequestUUID", self.call_id),
            ("RouteType", "Domestic_Anchored"),
            ("STIRAttestation", "Not Applicable"),
            ("STIRVerification", "Not Applicable"),
            ("SessionStart", self._session_start),
            ("To", self.to_number),
        ]

    def instructions(self, url: str, method: str, *, answered: bool, more: Fields | None = None) -> Request:
        if answered:
            fields = self._fields("in-progress", "Redirect")
        else:
            fields = self._fields("in-progress" if self.plan.direction == "outbound" else "ringing", "StartApp")
        return Request(method, url, fields + (more or []))

    def headers(self, request: Request, body: bytes) -> dict[str, str]:
        del body
        form = {} if request.method == "GET" else dict(request.fields)
        return self._signature(request.full_url, form)

    def upgrade_headers(self, url: str) -> dict[str, str]:
        # Three recipes are published; this one, http:// in the place of wss://, is the only one that was seen to
        # match a live call.
        return self._signature("http://" + url.partition("://")[2], {})

    def _signature(self, url: str, form: dict[str, str]) -> dict[str, str]:
        if self.signing is None or not self.signing.auth_token:
            return {}
        from plivo.utils import signature_v3

        nonce = secrets.token_hex(10)
        signed = signature_v3.construct_post_url(url, form).decode()
        signature = signature_v3.get_signature_v3(self.signing.auth_token.encode(), signed, nonce).decode()
        return {
            "X-Plivo-Signature-V3": signature,
            "X-Plivo-Signature-Ma-V3": signature,
            "X-Plivo-Signature-V3-Nonce": nonce,
        }

    def dial_fields(self, result: DialResult) -> Fields:
        return [
            ("DialStatus", result),
            ("DialRingStatus", "true"),
            ("DialHangupCause", {"completed": "NORMAL_CLEARING", "busy": "USER_BUSY"}.get(result, "NO_ANSWER")),
            ("DialALegUUID", self.call_id),
            ("DialBLegUUID", str(uuid.uuid4()) if result == "completed" else ""),
        ]

    def ended(self, outcome: str, seconds: int) -> list[Request]:
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        refused = outcome in ("rejected", "busy")
        more = [
            ("AnswerTime", "" if refused else now),
            ("BillDuration", str((seconds + 59) // 60 * 60)),
            ("Duration", str(seconds)),
            ("EndTime", now),
            ("HangupCause", "USER_BUSY" if refused else "NORMAL_CLEARING"),
            ("HangupCauseCode", "3010" if refused else "4000"),
            ("HangupCauseName", "Busy Line" if refused else "Normal Hangup"),
            ("HangupSource", "Caller"),
            ("StartTime", now),
            ("TotalCost", "0.00500"),
        ]
        return [Request("POST", self.status_url, self._fields("completed", "Hangup") + more)]

    def stream_event(self, wire: Wire, spec: StreamSpec, event: str, error: str = "") -> Request | None:
        url = spec.attributes.get("statusCallbackUrl")
        if not url:
            return None
        fields = [
            ("From", self.from_number),
            ("To", self.to_number),
            ("CallUUID", self.call_id),
            ("Event", STREAM_EVENTS[event]),
            ("StreamID", wire.stream_id),
            ("ServiceURL", spec.url),
            ("ParentAuthID", self.account_id),
            ("Timestamp", datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")),
        ]
        if error:
            fields.append(("StatusReason", error))
        return Request(spec.attributes.get("statusCallbackMethod", "POST"), url, fields)

    def open_stream(self, spec: StreamSpec) -> Wire:
        return PlivoWire(self, spec)


class PlivoWire(Wire):
    """The first message is `start`, there is no `connected`; numbers are numbers.

    playFailed and error are seen on the wire, in shapes that no document gives: what cannot be read is lost, no more.
    """

    numbers_are_strings = False

    def __init__(self, carrier: SimulatedPlivo, spec: StreamSpec) -> None:
        wanted = spec.attributes.get("contentType", DEFAULT_CONTENT_TYPE).replace(" ", "")
        encoding = CONTENT_TYPES.get(wanted)
        if encoding is None:
            raise UnsupportedCodec(f"invalid_content_type: {wanted}")
        super().__init__(carrier, spec, encoding, encoding)
        self.stream_id = str(uuid.uuid4())
        self._content_type = wanted.partition(";")[0]
        self._extra = compact({"extra_headers": spec.attributes.get("extraHeaders", "{}")})[1:]
        self._buffered_until = 0.0
        d = self._d
        self._template = (
            b'{"event":"media","sequenceNumber":%b,"streamId":"%b","media":{"track":"inbound",'
            b'"timestamp":"%%d","chunk":%b,"payload":"%%b"},%b'
            % (d, self.stream_id.encode(), d, self._extra.encode().replace(b"%", b"%%"))
        )

    def _with_extra(self, message: dict[str, Any]) -> str:
        return compact(message)[:-1] + "," + self._extra

    def start(self) -> str:
        return self._with_extra(
            {
                "event": "start",
                "sequenceNumber": self._next(),
                "start": {
                    "callId": self.carrier.call_id,
                    "streamId": self.stream_id,
                    "accountId": self.carrier.account_id,
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": self._content_type, "sampleRate": self.inbound.rate},
                },
            }
        )

    def _media(self, at_ms: int, payload: bytes, chunk: int) -> bytes:
        del at_ms  # its timestamps are the wall clock's
        return self._template % (self.sequence, int(time.time() * 1000), chunk, payload)

    def dtmf(self, digit: str) -> str:
        return self._with_extra(
            {
                "event": "dtmf",
                "sequenceNumber": self._next(),
                "streamId": self.stream_id,
                "dtmf": {"track": "inbound", "digit": digit, "timestamp": str(int(time.time() * 1000))},
            }
        )

    def mark(self, name: str) -> str:
        return compact(
            {
                "event": "playedStream",
                "sequenceNumber": self._next(),
                "streamId": self.stream_id,
                "name": name,
            }
        )

    def cleared(self, overtaken: object) -> list[str]:
        """Checkpoints that were not reached are forgotten."""
        del overtaken
        return [compact({"event": "clearedAudio", "sequenceNumber": self._next(), "streamId": self.stream_id})]

    def read(self, data: str | bytes) -> Outgoing:
        if len(data) > MESSAGE_LIMIT:
            return self._malformed(f"a message of {len(data)} bytes; {MESSAGE_LIMIT} at most")
        return super().read(data)

    def _read(self, message: dict[str, Any]) -> Outgoing:
        event = message.get("event")
        if message.get("streamId", self.stream_id) != self.stream_id:
            return self._malformed(f"{event!r} with streamId {message['streamId']!r}")
        if event == "playAudio":
            return self._read_audio(message.get("media"))
        if event == "clearAudio":
            self._buffered_until = 0.0
            return Clear()
        name, digits = message.get("name"), message.get("dtmf")
        if event == "checkpoint" and isinstance(name, str):
            return Mark(name)
        if event == "sendDTMF" and isinstance(digits, str):
            return Dtmf(digits)
        return self._malformed(f"event {event!r}")

    def _read_audio(self, media: Any) -> Outgoing:
        payload = decoded(media.get("payload")) if isinstance(media, dict) else None
        if payload is None:
            return self._malformed("playAudio without a base64 payload")
        if media.get("contentType") != self._content_type:
            return self._malformed(f"playAudio.contentType {media.get('contentType')!r}")
        if media.get("sampleRate") != self.outbound.rate:
            return self._malformed(f"playAudio.sampleRate {media.get('sampleRate')!r}")
        now = time.monotonic()
        until = max(now, self._buffered_until) + len(payload) / self.outbound.bytes_per_second
        if until - now > BUFFER_SECONDS:
            return self._malformed(f"buffer_overflow: more than {BUFFER_SECONDS} s unplayed")
        self._buffered_until = until
        return Play(payload)


async def flow(call: Call) -> None:
    """Lead the call by the XML that it is answered with."""
    await xml_flow(call, PLIVO_XML)


SIMULATOR = Simulator(SimulatedPlivo, flow)
