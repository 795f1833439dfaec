"""Telnyx as a client: TeXML fetches signed with Ed25519, media over WebSockets.

From developers.telnyx.com (TeXML, media streaming, webhooks); a Call Control application is not simulated.
"""

from __future__ import annotations

import base64
import secrets
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
    Fields,
    Mark,
    Outgoing,
    Play,
    Reply,
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

TEXML = Dialect(
    "TeXML",
    {name: attributes for name, attributes in VERBS.items() if name not in ("Pay", "Prompt")},
    {
        "Stream": STREAM
        | words("codec bidirectionalMode bidirectionalCodec bidirectionalSamplingRate bidirectionalTargetLegs")
        | words("enableReconnect"),
        "Parameter": words("name value"),
    },
    read_verb,
    malformed="",
    unknown_verb="",
    size_limit=64_000,
)

RATES = ("8000", "16000", "24000")
MALFORMED_FRAME, INVALID_MEDIA = (100003, "malformed_frame"), (100004, "invalid_media")


@dataclass(frozen=True, slots=True)
class TelnyxAccount(Account):
    """A Telnyx application.

    seed: the private Ed25519 key that signs for Telnyx, as 32 bytes or 64 hexadecimal digits. api_key: for its REST
    API, where that is simulated, too.
    """

    seed: str | bytes = field(default="", repr=False)
    connection_id: str = "1000000000000000001"
    api_key: str = field(default="", repr=False)

    env: ClassVar[Mapping[str, str]] = {"seed": "TELNYX_SIGNING_SEED", "connection_id": "TELNYX_CONNECTION_ID"}

    @classmethod
    def generate(cls) -> Self:
        return cls(secrets.token_hex(32), str(10**18 + secrets.randbelow(10**18)))

    @property
    def seed_bytes(self) -> bytes:
        """The seed as 32 bytes. Raises ValueError, in the words that its user needs."""
        try:
            raw = self.seed if isinstance(self.seed, bytes) else bytes.fromhex(self.seed)
        except ValueError:
            raw = b""
        if len(raw) != 32:
            raise ValueError("TELNYX_SIGNING_SEED: the signing seed is 32 bytes, or 64 hexadecimal digits")
        return raw

    @property
    def public_key(self) -> str:
        """The public key that belongs to the seed, base64, as the portal shows it."""
        from nacl.signing import SigningKey

        return base64.b64encode(bytes(SigningKey(self.seed_bytes).verify_key)).decode()

    def settings(self) -> dict[str, str]:
        rest = {"api_key": self.api_key, "connection_id": self.connection_id} if self.api_key else {}
        return {"public_key": self.public_key, **rest}


class SimulatedTelnyx(SimulatedCarrier):
    """One call as Telnyx leads it."""

    name: ClassVar[str] = "telnyx"
    account_type = TelnyxAccount
    account: TelnyxAccount
    signing: TelnyxAccount | None
    fetch_error = "voice URL:"
    content_type_error = "voice URL:"
    static_attributes: ClassVar[Mapping[str, str]] = {"bidirectionalMode": "rtp"}

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan)
        self.call_id = f"v3:{secrets.token_hex(21)}-{secrets.token_hex(5)}"
        self.session_id = str(uuid.uuid4())
        self._account = str(uuid.uuid4())

    @property
    def account_id(self) -> str:
        return self._account

    def facts(self) -> dict[str, str]:
        connection = self.account.connection_id
        return {**super().facts(), "session_id": self.session_id, "connection_id": connection}

    def _fields(self, status: str) -> Fields:
        return [
            ("AccountSid", self.account_id),
            ("CallSid", self.call_id),
            ("CallSidLegacy", self.call_id),
            ("CallStatus", status),
            ("ConnectionId", self.account.connection_id),
            ("Direction", self.plan.direction),
            ("From", self.from_number),
            ("To", self.to_number),
        ]

    def instructions(self, url: str, method: str, *, answered: bool, more: Fields | None = None) -> Request:
        status = "in-progress" if answered or self.plan.direction == "outbound" else "ringing"
        return Request(method, url, self._fields(status) + (more or []))

    def headers(self, request: Request, body: bytes) -> dict[str, str]:
        # `timestamp|body`: neither the URL nor the method is signed.
        if self.signing is None or not self.signing.seed:
            return {}
        from nacl.signing import SigningKey

        timestamp = str(int(self.now()))
        signature = SigningKey(self.signing.seed_bytes).sign(timestamp.encode() + b"|" + body).signature
        return {
            "telnyx-timestamp": timestamp,
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
        }

    def dial_fields(self, result: DialResult) -> Fields:
        return [("DialCallStatus", result), ("DialCallSid", f"v3:{secrets.token_hex(21)}")]

    def ended(self, outcome: str, seconds: int) -> list[Request]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        more = [
            ("CallbackSource", "call-progress-events"),
            ("CallDuration", str(seconds)),
            ("CallSessionId", self.session_id),
            ("EndTime", now),
            ("HangupCause", "call_rejected" if outcome in ("rejected", "busy") else "normal_clearing"),
            ("HangupSource", "caller"),
            ("SequenceNumber", "0"),
            ("Timestamp", now),
        ]
        return [Request("POST", self.status_url, self._fields("completed") + more)]

    def stream_event(self, wire: Wire, spec: StreamSpec, event: str, error: str = "") -> Request | None:
        url = spec.attributes.get("statusCallback")
        if not url:
            return None
        fields = [
            ("AccountSid", self.account_id),
            ("CallSid", self.call_id),
            ("CallSidLegacy", self.call_id),
            ("StreamSid", wire.stream_id),
            ("StreamName", spec.attributes.get("name", "")),
            # One page says stream-error, another stream-failed.
            ("StreamEvent", f"stream-{event}"),
            ("Timestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")),
        ]
        if error:
            fields.append(("StreamError", error))
        return Request(spec.attributes.get("statusCallbackMethod", "POST").upper(), url, fields)

    def open_stream(self, spec: StreamSpec) -> Wire:
        return TelnyxWire(self, spec)

    def reconnects(self, spec: StreamSpec) -> bool:
        return spec.attributes.get("enableReconnect", "true").lower() != "false"


class TelnyxWire(Wire):
    """Telnyx complains in band (`error`) and goes on.

    Without mode rtp it plays nothing of what it is sent.
    """

    def __init__(self, carrier: SimulatedTelnyx, spec: StreamSpec) -> None:
        attributes = spec.attributes
        leg = attributes.get("codec", "default")
        inbound = Encoding(carrier.plan.encoding or "PCMU" if leg == "default" else leg, 8000)
        if inbound.name == "L16":
            inbound = Encoding("L16", 16000)
        codec = attributes.get("bidirectionalCodec", "PCMU")
        rate = attributes.get("bidirectionalSamplingRate", "8000")
        if rate not in RATES:
            raise UnsupportedCodec(f"bidirectionalSamplingRate {rate!r}")
        super().__init__(carrier, spec, inbound, Encoding(codec, int(rate)))
        self.stream_id = str(uuid.uuid4())
        d = self._d
        self._template = (
            b'{"event":"media","sequence_number":%b,"media":{"track":"inbound","chunk":%b,"timestamp":%b,'
            b'"payload":"%%b"},"stream_id":"%b"}' % (d, d, d, self.stream_id.encode())
        )
        self._mp3 = attributes.get("bidirectionalMode", "mp3") != "rtp"

    def connected(self) -> str:
        return '{"event":"connected","version":"1.0.0"}'

    def start(self) -> str:
        carrier = self.carrier
        assert isinstance(carrier, SimulatedTelnyx)
        start: dict[str, Any] = {
            "user_id": carrier.account_id,
            "call_control_id": carrier.call_id,
            "call_session_id": carrier.session_id,
            "from": carrier.from_number,
            "to": carrier.to_number,
            "tags": [],
            "client_state": "",
            "media_format": {"encoding": self.inbound.name, "sample_rate": self.inbound.rate, "channels": 1},
        }
        if self.spec.parameters:
            start["custom_parameters"] = dict(self.spec.parameters)
        return compact({"event": "start", "sequence_number": self._next(), "start": start, "stream_id": self.stream_id})

    def _media(self, at_ms: int, payload: bytes, chunk: int) -> bytes:
        return self._template % (self.sequence, chunk, at_ms, payload)

    def dtmf(self, digit: str) -> str:
        return compact(
            {
                "event": "dtmf",
                "stream_id": self.stream_id,
                "occurred_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "sequence_number": self._next(),
                "dtmf": {"digit": digit},
            }
        )

    def mark(self, name: str) -> str:
        return compact(
            {
                "event": "mark",
                "stream_id": self.stream_id,
                "sequence_number": self._next(),
                "mark": {"name": name},
            }
        )

    def stop(self, reason: str) -> str:
        carrier = self.carrier
        assert isinstance(carrier, SimulatedTelnyx)
        return compact(
            {
                "event": "stop",
                "sequence_number": self._next(),
                "stop": {"user_id": carrier.account_id, "call_control_id": carrier.call_id},
                "stream_id": self.stream_id,
            }
        )

    def _read(self, message: dict[str, Any]) -> Outgoing:
        event = message.get("event")
        if event == "media":
            return self._read_media(message.get("media"))
        if event == "clear":
            return Clear()
        mark = message.get("mark")
        if event == "mark" and isinstance(mark, dict) and isinstance(mark.get("name"), str):
            return Mark(mark["name"])
        return self._malformed(f"event {event!r}")

    def _read_media(self, media: Any) -> Outgoing:
        payload = decoded(media.get("payload")) if isinstance(media, dict) else None
        if payload is None:
            return self._error(INVALID_MEDIA, "media without a base64 payload")
        if self._mp3:
            # The default mode takes whole MP3 files: raw audio is dropped without a word.
            if not self.violations:
                self._violation('bidirectionalMode is not "rtp": all outbound audio is silently dropped')
            return None
        seconds = len(payload) / self.outbound.bytes_per_second
        if seconds > 30:
            return self._error(MALFORMED_FRAME, f"{seconds:.1f} s of audio in one message; 30 s at most")
        if seconds < 0.02:
            self._violation(f"{seconds * 1000:.1f} ms of audio in one message; 20 ms at least")
        return Play(payload)

    def _malformed(self, what: str) -> Outgoing:
        return self._error(MALFORMED_FRAME, what)

    def _error(self, error: tuple[int, str], what: str) -> Outgoing:
        code, title = error
        self._violation(f"{code} {title}: {what}")
        payload = {"code": code, "title": title, "detail": what}
        return Reply(compact({"event": "error", "payload": payload, "stream_id": self.stream_id}))


async def flow(call: Call) -> None:
    """Lead the call by the TeXML that it is answered with."""
    await xml_flow(call, TEXML)


SIMULATOR = Simulator(SimulatedTelnyx, flow)
