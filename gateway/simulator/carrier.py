"""What every simulated carrier is: requests to send, and a stream's wire to speak.

`SimulatedCarrier` is one call over HTTP, `Wire` one media stream of it. Each carrier's file implements both, from
that carrier's own documentation and captures, and imports nothing of the gateway's readers and writers: a misreading
on one side of the wire has to show on the other.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlencode

import orjson

from gateway.simulator.account import Account
from gateway.simulator.plan import CallPlan, DialResult
from gateway.simulator.voice import FRAME_MS, Encoding

Fields = list[tuple[str, str]]

TELEPHONE = re.compile(r"^\+?[0-9]{5,16}$")


# ---------------------------------------------------------------------------------------------------- over HTTP


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, before it is signed.

    `url` is the public one; GET fields are appended to its query.
    """

    method: str
    url: str
    fields: Fields = field(default_factory=list)
    multipart: bool = False

    @property
    def full_url(self) -> str:
        if self.method != "GET" or not self.fields:
            return self.url
        return self.url + ("&" if "?" in self.url else "?") + urlencode(self.fields)


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """The stream that an answer asked for.

    Its URL, its attributes as they were written, its custom parameters.
    """

    url: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    bidirectional: bool = True


class SimulatedCarrier(ABC):
    """One call, seen from its carrier.

    `call_id` and the like are made once, in the carrier's own shapes.
    """

    name: ClassVar[str]
    account_type: ClassVar[type[Account]] = Account
    account: Account
    """Whose call it is; a random one where the plan names none."""
    signing: Account | None
    """Whose secrets sign; None: nothing is signed."""
    handshake_retries: ClassVar[int] = 0
    """How often a refused or failed WebSocket handshake is tried again."""
    fetch_error: ClassVar[str] = ""
    """What the carrier calls an answer URL that did not answer 200."""
    content_type_error: ClassVar[str] = ""
    """What it calls an answer that is no XML by its content type."""
    followed_redirects: ClassVar[frozenset[int]] = frozenset()
    """The HTTP statuses that it takes for redirects; none where it documents none."""
    read_timeout: ClassVar[float] = 15.0
    static_attributes: ClassVar[Mapping[str, str]] = {}
    """Of a stream that was set up at the carrier by hand, and rightly."""

    def __init__(self, plan: CallPlan) -> None:
        self.plan = plan
        faults = plan.faults
        account = (plan.credentials or {}).get(self.name)
        self.account = account or self.account_type.generate()
        if faults.unsigned:
            account = None
        elif faults.bad_signature and account is not None:
            account = account.forged()
        self.signing = account
        self._late = 3600.0 if faults.stale_timestamp else 0.0
        self.call_id = ""
        self.from_number = plan.from_number
        self.to_number = plan.to_number
        self.started = time.time()

    @property
    def account_id(self) -> str:
        """The account, as it stands in webhooks and in `start`."""
        return self.account.id

    def facts(self) -> dict[str, str]:
        """Return the strings that identify this call wherever they stand.

        A recording masks them, a replay renews them.
        """
        return {
            "call_id": self.call_id,
            "account_id": self.account_id,
            "from": self.from_number,
            "to": self.to_number,
        }

    def now(self) -> float:
        """Tell the time as this carrier believes it to be.

        An hour slow when it is asked to sign stale times.
        """
        return time.time() - self._late

    @property
    def voice_url(self) -> str:
        """The answer URL as its user set it up at the carrier."""
        query = "?" + urlencode(list(self.plan.query.items())) if self.plan.query else ""
        return f"{self.plan.public}/webhooks/{self.name}/voice{query}"

    @property
    def status_url(self) -> str:
        return f"{self.plan.public}/webhooks/{self.name}/status"

    @abstractmethod
    def instructions(self, url: str, method: str, *, answered: bool, more: Fields | None = None) -> Request:
        """Make the request for what to do next.

        answered: not while it rings, but later in the call.
        """

    def fetch_failure(self, status: int, error: str, location: str) -> str:
        """Say how the carrier reports an answer other than 200.

        error: why there was none. location: of a redirect.
        """
        del location
        return f"{self.fetch_error} the gateway answered {error or status}".strip()

    @abstractmethod
    def headers(self, request: Request, body: bytes) -> dict[str, str]:
        """Sign a request, or say in another way who is calling."""

    def dial_fields(self, result: DialResult) -> Fields:
        """Return what the action URL of a <Dial> is told."""
        return [("DialCallStatus", result)]

    @abstractmethod
    def ended(self, outcome: str, seconds: int) -> list[Request]:
        """Make the status callbacks of the call's end."""

    def stream_event(self, wire: Wire, spec: StreamSpec, event: str, error: str = "") -> Request | None:
        """Make the callback for a stream's "started", "stopped" or "error".

        None if the answer asked for none.
        """
        return None

    @abstractmethod
    def open_stream(self, spec: StreamSpec) -> Wire:
        """Make a new stream of this call. Raises UnsupportedCodec."""

    def upgrade_headers(self, url: str) -> dict[str, str]:
        """Return the headers of the WebSocket upgrade to `url`, the public one."""
        return {}

    def reconnects(self, spec: StreamSpec) -> bool:
        """Tell whether a stream lost without a close frame is opened again at its URL."""
        return False


# ---------------------------------------------------------------------------------------------- over a WebSocket


@dataclass(frozen=True, slots=True)
class Play:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Clear:
    pass


@dataclass(frozen=True, slots=True)
class Mark:
    name: str


@dataclass(frozen=True, slots=True)
class Dtmf:
    digits: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The carrier complains in band."""

    message: str


@dataclass(frozen=True, slots=True)
class Fatal:
    """The carrier ends the stream for this."""

    error: str


Outgoing = Play | Clear | Mark | Dtmf | Reply | Fatal | None


class Wire(ABC):
    """One media stream as its carrier writes and reads it.

    Sequence numbers are counted here.

    inbound, outbound   what the caller's and the gateway's payloads are
    violations          what the gateway wrote that this carrier's documents forbid, a sentence each
    """

    frame_ms: ClassVar[int] = FRAME_MS
    numbers_are_strings: ClassVar[bool] = True

    def __init__(self, carrier: SimulatedCarrier, spec: StreamSpec, inbound: Encoding, outbound: Encoding) -> None:
        self.carrier = carrier
        self.spec = spec
        self.inbound = inbound
        self.outbound = outbound
        self.stream_id = ""
        self.sequence = 0
        self.chunk = 0
        self.violations: list[str] = []
        faults = carrier.plan.faults
        strings = faults.numbers_as_strings or (self.numbers_are_strings and not faults.numbers_as_ints)
        self._numbers_as_strings = strings
        self._d = b'"%d"' if strings else b"%d"

    # To the gateway

    def connected(self) -> str | None:
        """Write the greeting that comes before `start`, where there is one."""
        return None

    @abstractmethod
    def start(self) -> str: ...

    def media(self, at_ms: int, payload: bytes, *, chunk: int | None = None) -> bytes:
        """Write one media message.

        payload: base64. chunk: its number, where it is not the next one.
        """
        self.sequence += 1
        if chunk is None:
            self.chunk += 1
            chunk = self.chunk
        return self._media(at_ms, payload, chunk)

    @abstractmethod
    def _media(self, at_ms: int, payload: bytes, chunk: int) -> bytes: ...

    def foreign_media(self, message: bytes) -> bytes:
        """Put the same message on the other track."""
        return message.replace(b'"track":"inbound"', b'"track":"outbound"')

    @abstractmethod
    def dtmf(self, digit: str) -> str: ...

    @abstractmethod
    def mark(self, name: str) -> str:
        """Say that everything before the mark has been played."""

    def cleared(self, overtaken: Sequence[str]) -> list[str]:
        """Answer a clear, and the marks that it overtook.

        Most carriers return the marks.
        """
        return [self.mark(name) for name in overtaken]

    def stop(self, reason: str) -> str | None:
        """reason: "callended" or "stopped"."""
        return None

    # From the gateway

    def read(self, data: str | bytes) -> Outgoing:
        """Read one message of the gateway's, as strictly as this carrier reads."""
        if isinstance(data, bytes):
            return self._malformed("a binary message")
        try:
            message = orjson.loads(data)
        except ValueError:
            return self._malformed("a message that is not JSON")
        if not isinstance(message, dict):
            return self._malformed("a message that is not a JSON object")
        return self._read(message)

    @abstractmethod
    def _read(self, message: dict[str, Any]) -> Outgoing: ...

    def _malformed(self, what: str) -> Outgoing:
        """Take note of what was sent and cannot be read; most carriers drop it."""
        self._violation(what)
        return None

    # Helpers of the implementations

    def _next(self) -> Any:
        """Return the next sequence number, as this carrier writes numbers."""
        self.sequence += 1
        return self._number(self.sequence)

    def _number(self, value: int) -> Any:
        return str(value) if self._numbers_as_strings else value

    def _violation(self, text: str) -> None:
        if len(self.violations) < 1000:
            self.violations.append(f"{self.carrier.name}: {text}")


def compact(message: Mapping[str, Any]) -> str:
    """JSON as the carriers write it: no spaces."""
    return json.dumps(message, separators=(",", ":"))


def decoded(payload: Any) -> bytes | None:
    """Decode a payload; None when it is not base64 to the letter."""
    if not isinstance(payload, str):
        return None
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        return None


def national_or_e164(number: str, prefix: str) -> str:
    """Replace the plus of a telephone number by `prefix`; leave the rest as it is."""
    return prefix + number.lstrip("+") if TELEPHONE.match(number) else number
