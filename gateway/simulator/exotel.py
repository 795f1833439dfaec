"""Exotel as a client: GET with a query, JSON with a URL, the Voicebot's stream.

From docs.exotel.com, support.exotel.com and a captured dynamic-URL request. Nothing is signed: a Basic password or a
key in the query is all there is. Numbers are national, with a leading 0.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from gateway.simulator.account import Account
from gateway.simulator.carrier import (
    Clear,
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
from gateway.simulator.plan import CallPlan
from gateway.simulator.voice import Encoding

IST = timezone(timedelta(hours=5, minutes=30))
CHUNK_STEP, CHUNK_MIN, CHUNK_MAX = 320, 3200, 100_000
URL_LIMIT, PARAMETERS_LIMIT, PARAMETERS_COUNT = 600, 256, 3


@dataclass(frozen=True, slots=True)
class ExotelAccount(Account):
    """An Exotel account and the secret that its flows show.

    api_key, api_token: for its REST API, where that is simulated, too.
    """

    account_sid: str = ""
    webhook_secret: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    api_token: str = field(default="", repr=False)

    env: ClassVar[Mapping[str, str]] = {
        "account_sid": "EXOTEL_ACCOUNT_SID",
        "webhook_secret": "EXOTEL_WEBHOOK_SECRET",
    }

    @classmethod
    def generate(cls) -> Self:
        return cls("sim" + secrets.token_hex(4), secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class ExotelOptions:
    """How the flow was drawn.

    passthru_302: where it leads after Passthru was answered 302. key_in_query: the secret stands in the applets' URLs
    as ?key=, rather than as the Basic password.
    """

    passthru_302: Literal["voicebot", "connect"] = "connect"
    key_in_query: bool = False


class SimulatedExotel(SimulatedCarrier):
    """One call as Exotel leads it."""

    name: ClassVar[str] = "exotel"
    account_type = ExotelAccount
    account: ExotelAccount
    signing: ExotelAccount | None
    handshake_retries = 1
    read_timeout = 10.0

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan)
        self.options = plan.options if isinstance(plan.options, ExotelOptions) else ExotelOptions()
        self.call_id = secrets.token_hex(16)
        self.from_number = _national(plan.from_number)
        self.to_number = _national(plan.to_number)
        self._created = datetime.now(IST)

    def applet_url(self, applet: str) -> str:
        """Return an applet's URL as its user wrote it: "voice", "resume" or "connect"."""
        query = dict(self.plan.query)
        if self.options.key_in_query and self.signing is not None:
            query["key"] = self.signing.webhook_secret
        return f"{self.plan.public}/webhooks/exotel/{applet}" + (f"?{urlencode(query)}" if query else "")

    @property
    def voice_url(self) -> str:
        return self.applet_url("voice")

    def instructions(self, url: str, method: str, *, answered: bool, more: Fields | None = None) -> Request:
        del answered
        # Captured. From and To are the leg's; CallFrom and CallTo the call's.
        fields = [
            ("CallSid", self.call_id),
            ("CallFrom", self.from_number),
            ("CallTo", self.to_number),
            ("Direction", "incoming" if self.plan.direction == "inbound" else "outbound-dial"),
            ("Created", self._created.strftime("%a, %d %b %Y %H:%M:%S")),
            ("DialWhomNumber", ""),
            ("HangupLatencyStartTimeExocc", ""),
            ("HangupLatencyStartTime", ""),
            ("From", self.from_number),
            ("To", self.to_number),
            ("CurrentTime", datetime.now(IST).strftime("%Y-%m-%d %H:%M:%S")),
            ("flow_id", "100001"),
            ("tenant_id", "100001"),
        ]
        return Request(method, url, fields + (more or []))

    def headers(self, request: Request, body: bytes) -> dict[str, str]:
        del request, body
        if self.signing is None or not self.signing.webhook_secret or self.options.key_in_query:
            return {}
        return {"Authorization": _basic("exotel:" + self.signing.webhook_secret)}

    def upgrade_headers(self, url: str) -> dict[str, str]:
        # wss://KEY:TOKEN@host/… is sent as Basic; without user information nothing says who is calling.
        user, at, _ = urlsplit(url).netloc.rpartition("@")
        return {"Authorization": _basic(user)} if at else {}

    def stream_fields(self, wire: Wire, spec: StreamSpec, by: str, seconds: float, error: str) -> Fields:
        """Return what the applets after a Voicebot are told about it."""
        return [
            ("Stream[StreamSID]", wire.stream_id),
            ("Stream[Status]", "failed" if error else "completed"),
            ("Stream[Duration]", str(int(seconds))),
            ("Stream[StreamUrl]", spec.url),
            ("Stream[DisconnectedBy]", {"gateway": "bot", "caller": "user"}.get(by, "NA")),
            ("Stream[DetailedStatus]", "Streaming_call_throttled" if error else "Stream_Success"),
            ("Stream[Error]", error),
        ]

    def ended(self, outcome: str, seconds: int) -> list[Request]:
        fields = [
            ("CallSid", self.call_id),
            ("Status", "completed" if outcome == "completed" else "failed"),
            ("DateUpdated", datetime.now(IST).strftime("%Y-%m-%d %H:%M:%S")),
            ("EventType", "terminal"),
            ("From", self.from_number),
            ("To", self.to_number),
            ("ConversationDuration", str(seconds)),
        ]
        return [Request("POST", self.applet_url("status"), fields, multipart=True)]

    def open_stream(self, spec: StreamSpec) -> Wire:
        return ExotelWire(self, spec)


class ExotelWire(Wire):
    """About 100 ms in each message inward; outward multiples of 320 bytes, from 3200."""

    frame_ms = 100

    def __init__(self, carrier: SimulatedExotel, spec: StreamSpec) -> None:
        query = dict(parse_qsl(urlsplit(spec.url).query, keep_blank_values=True))
        spoken = query.pop("sample-rate", query.pop("sample_rate", "8000"))
        rate = int(spoken) if spoken in ("8000", "16000", "24000") else 8000
        super().__init__(carrier, spec, Encoding("L16", rate), Encoding("L16", rate))
        self.stream_id = secrets.token_hex(16)
        self._parameters = {**query, **spec.parameters}
        self._check_url(spec.url, spoken)
        d = self._d
        self._template = (
            b'{"event":"media","sequence_number":%b,"stream_sid":"%b","media":{"chunk":%b,'
            b'"timestamp":"%%d","payload":"%%b"}}' % (d, self.stream_id.encode(), d)
        )

    def _check_url(self, url: str, rate: str) -> None:
        if len(url) >= URL_LIMIT:
            self._violation(f"a stream URL of {len(url)} characters; fewer than {URL_LIMIT} are kept")
        if len(self._parameters) > PARAMETERS_COUNT:
            self._violation(f"{len(self._parameters)} custom parameters; {PARAMETERS_COUNT} at most")
        if len(urlencode(self._parameters)) > PARAMETERS_LIMIT:
            self._violation(f"custom parameters longer than {PARAMETERS_LIMIT} characters")
        if rate not in ("8000", "16000", "24000"):
            self._violation(f"sample-rate {rate!r}")

    def connected(self) -> str:
        return '{"event":"connected"}'

    def start(self) -> str:
        return compact(
            {
                "event": "start",
                "sequence_number": self._next(),
                "stream_sid": self.stream_id,
                "start": {
                    "stream_sid": self.stream_id,
                    "call_sid": self.carrier.call_id,
                    "account_sid": self.carrier.account_id,
                    "from": self.carrier.from_number,
                    "to": self.carrier.to_number,
                    "custom_parameters": self._parameters,
                    "media_format": {
                        "encoding": "base64",
                        "sample_rate": str(self.inbound.rate),
                        "bit_rate": "128kbps",
                    },
                },
            }
        )

    def _media(self, at_ms: int, payload: bytes, chunk: int) -> bytes:
        return self._template % (self.sequence, chunk, at_ms, payload)

    def dtmf(self, digit: str) -> str:
        return compact(
            {
                "event": "dtmf",
                "sequence_number": self._next(),
                "stream_sid": self.stream_id,
                "dtmf": {"digit": digit, "duration": "100"},
            }
        )

    def mark(self, name: str) -> str:
        return compact(
            {
                "event": "mark",
                "sequence_number": self._next(),
                "stream_sid": self.stream_id,
                "mark": {"name": name},
            }
        )

    def stop(self, reason: str) -> str:
        return compact(
            {
                "event": "stop",
                "sequence_number": self._next(),
                "stream_sid": self.stream_id,
                "stop": {"call_sid": self.carrier.call_id, "account_sid": self.carrier.account_id, "reason": reason},
            }
        )

    def _read(self, message: dict[str, Any]) -> Outgoing:
        event = message.get("event")
        if message.get("stream_sid", message.get("streamSid")) != self.stream_id:
            return self._malformed(f"{event!r} with stream_sid {message.get('stream_sid')!r}")
        if event == "media":
            media = message.get("media")
            payload = decoded(media.get("payload")) if isinstance(media, dict) else None
            if payload is None:
                return self._malformed("media without a base64 payload")
            self._check_chunk(len(payload))
            return Play(payload)
        if event == "clear":
            return Clear()
        mark = message.get("mark")
        if event == "mark" and isinstance(mark, dict) and isinstance(mark.get("name"), str):
            return Mark(mark["name"])
        return self._malformed(f"event {event!r}")

    def _check_chunk(self, size: int) -> None:
        if size % CHUNK_STEP:
            self._violation(f"a chunk of {size} bytes is no multiple of {CHUNK_STEP}")
        elif not CHUNK_MIN <= size <= CHUNK_MAX:
            self._violation(f"a chunk of {size} bytes; {CHUNK_MIN} to {CHUNK_MAX} play without gaps")


def _national(number: str) -> str:
    """Exotel's form: +919494865411 comes as 09494865411.

    What it makes of other countries' numbers is not documented: they are left as they are.
    """
    return national_or_e164(number.removeprefix("+91"), "0") if number.startswith("+91") else number


def _basic(user_and_password: str) -> str:
    return "Basic " + base64.b64encode(user_and_password.encode()).decode()
