"""The carrier's HTTP side: verify, parse, answer.

Values in, values out; no I/O, no clock, no settings.

One subclass per carrier, in its own file, beside its pydantic `Config` (the schema of `[carriers.<name>]`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeAlias

from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RestCall
from gateway.carriers.parameters import OwnParameters
from serializers.base import MediaFormat, Serializer


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A webhook as it came.

    method: upper case, as on the wire. path: raw, percent-encoded, as the carrier called it, but without the
    path that `public_url` itself has: the URL called is `public_url + path`. query: raw, without "?".
    headers: names in lower case. body: raw bytes.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What the carrier is answered."""

    body: bytes = b""
    content_type: str = "text/xml; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verified:
    """The request is from the carrier.

    account: which of ours (its id), "" in --dev. nonce: of the signature, where there is one: (nonce, digest of all
    that was signed).
    """

    account: str = ""
    nonce: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is not to be believed, or not to be understood.

    reason: a short word for metric and log.
    """

    reason: str


Stir: TypeAlias = Literal["A", "B", "C", "failed"]


def in_table(table: Mapping[str, str], word: str) -> str:
    """Translate a carrier's word into ours.

    It comes in any case, with dashes or underscores; "" for one that is not there.
    """
    return table.get(word.strip().lower().replace("_", "-"), "")


class Kind(StrEnum):
    """What a webhook says, as far as /voice, /resume and /status care."""

    VOICE = "voice"  # the call rings, or our outbound call was answered: it wants instructions
    STATUS = "status"  # the call's state changed
    STREAM = "stream"  # the stream's state changed
    FOREIGN = "foreign"  # understood, and not for us: see `Webhook.note`
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A parsed webhook, the same for all carriers.

    alias: another id of the same call, by which the answer to our order named it (Plivo's RequestUUID), "" for none.
    from_number, to_number: E.164 where they are telephone numbers; raw_*: as they came. direction: "inbound" or
    "outbound". status: the call's: "ringing", "answered", "ended" or "". detail: how it ended, in the carrier's words
    (busy, no-answer, …). dial: the outcome of a <Dial>, "" if none: "completed", "busy", "no-answer", "failed",
    "canceled". outcome: the same words for the call itself, once it has ended. answered_by: "human", "machine" or ""
    (not known). stream: the state of its stream: "started", "stopped", "failed", "degraded" or "".
    caller_name, forwarded_from, stir, sip_headers: as in `CallData`. own: what our own parameters in the URL say.
    custom_params: what the flow's author put into the URL (Exotel: `CustomField` too), the call's `body`. note: one
    line for the log, for `Kind.FOREIGN`.
    """

    kind: Kind
    call_id: str
    alias: str = ""
    from_number: str = ""
    to_number: str = ""
    raw_from: str = ""
    raw_to: str = ""
    direction: str = "inbound"
    status: str = ""
    detail: str = ""
    dial: str = ""
    outcome: str = ""
    answered_by: str = ""
    stream: str = ""
    caller_name: str = ""
    forwarded_from: str = ""
    stir: Stir | None = None
    sip_headers: Mapping[str, str] = field(default_factory=dict)
    own: OwnParameters = OwnParameters()
    custom_params: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


NARROWBAND = MediaFormat("mulaw", 8000)


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """What `answer_stream` has to say.

    url: wss URL with the token in its path. resume_url, status_url: by `callback_url`. parameters: for the handshake,
    in order; a carrier that cannot carry one leaves it out. media: what we ask the carrier to speak.
    """

    url: str
    resume_url: str
    status_url: str
    parameters: Sequence[tuple[str, str]] = ()
    media: MediaFormat = NARROWBAND


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a carrier can do; declared, so that no other code asks for its name."""

    transfer: bool = True
    """A continuation can dial another number."""
    digits: bool = True
    """A continuation can press keys."""
    body_signed: bool = True
    """Webhooks are signed. False: a secret of ours in them says who calls, and nothing vouches for the rest."""
    url_signed: bool = True
    """The signature is over the URL, too. False: what the URL says decides nothing about it (Telnyx)."""
    upgrade_signed: bool = False
    """The WebSocket upgrade carries a signature that can stand alone (Twilio)."""
    place_calls: bool = False
    """It has a REST API by which we place calls; see `Carrier.place_call`."""
    machine_detection: bool = False
    """It tells a person from a machine in calls that we place."""
    cancel_ringing: bool = False
    """A call that we placed can be ended before it is answered."""
    transfer_why: str = "This carrier has no way to dial another number in a running call."
    """A sentence for people, where `transfer` is False."""
    digits_why: str = "This carrier has no way to press keys in a running call."
    """The same for `digits`."""


class Carrier(ABC):
    """One carrier with its accounts.

    public_url: what the carrier calls us by, no trailing slash.

    A carrier without credentials exists only in --dev: it believes every request, and says account "". It is made
    so on purpose: by a config of None, or by `dev=True` with a config that lacks what signatures are checked
    by. Without `dev`, such a config refuses every request.
    """

    name: ClassVar[str]
    serializer: ClassVar[type[Serializer]]
    can: ClassVar[Capabilities] = Capabilities()
    dial_route: ClassVar[str] = ""
    """Of a carrier whose answer at /resume cannot carry the number to dial: it asks for the number afterwards, at
    `/webhooks/<name>/<dial_route>`."""
    replay_header: ClassVar[str] = ""
    """The header, in lower case, that no two of its webhooks share; "" where only the whole request tells."""
    list_headers: ClassVar[frozenset[str]] = frozenset()
    """Headers of its own that are lists, in lower case: their lines are joined by commas."""

    def __init__(self, config: Any, *, public_url: str, dev: bool = False) -> None:
        self.config = config
        self.public_url = public_url
        self.unauthenticated: bool = config is None or (dev and config.lacks() != "")

    def negotiate(self, wanted: MediaFormat) -> MediaFormat:
        """Choose what `answer_stream` asks the carrier to speak.

        The nearest to `wanted` that it can.
        """
        return NARROWBAND

    def make_serializer(self, negotiated: MediaFormat | None = None) -> Serializer:
        """Make the wire of one stream.

        negotiated: what our own answer asked of the carrier, None for a static stream.
        """
        return self.serializer(negotiated=negotiated, region=self.region)

    @property
    def region(self) -> str | None:
        """The country whose national numbers this carrier may write, or None."""
        region: str = self.config.region if self.config is not None else ""
        return region or None

    def callback_url(self, url: str, account: str) -> str:
        """Write one of our URLs as this carrier must be given it.

        With a key in it, if it signs nothing. account: of the webhook that is answered (`Verified.account`), whose
        key it is.

        URLs in answers have been through this already.
        """
        return url

    def warm_up(self) -> None:  # noqa: B027 - nothing to do is the rule
        """Import what the first webhook will need.

        SDKs are slow to import, and a call is waiting then.
        """

    @abstractmethod
    def verify(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        """Say whether the carrier sent this webhook, and for which account.

        now: unix time. Never raises.
        """

    def fingerprint(self, request: HttpRequest) -> bytes:
        """Return what a replay of this verified webhook must repeat.

        No other webhook has it.
        """
        if self.replay_header and not self.unauthenticated:
            return request.headers.get(self.replay_header, "").encode(errors="replace")
        return b"\n".join((request.path.encode(errors="replace"), request.query.encode(errors="replace"), request.body))

    def verify_upgrade(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        """The same for the WebSocket upgrade of a stream."""
        return Verified() if self.unauthenticated else Refused("unsigned")

    @abstractmethod
    def parse(self, request: HttpRequest) -> Webhook | Refused:
        """What the webhook says. Only after `verify`. Never raises."""

    # Answers. All text comes from outside: lxml escapes it, what XML cannot hold is taken out.

    @abstractmethod
    def answer_stream(self, answer: StreamAnswer) -> HttpAnswer:
        """Connect the call to our stream, and come to `resume_url` when it has ended."""

    def answer_attach(self, answer: StreamAnswer) -> HttpAnswer:
        """Connect the call to a new stream at /resume, as its stream has ended."""
        return self.answer_stream(answer)

    @abstractmethod
    def answer_reject(self, reason: str) -> HttpAnswer:
        """Refuse a ringing call unanswered. reason: "busy" or "rejected"."""

    @abstractmethod
    def answer_hangup(self) -> HttpAnswer:
        """End the call."""

    def answer_over(self) -> HttpAnswer:
        """End a call at /voice that cannot be refused any more.

        It was answered, or has been served.
        """
        return self.answer_hangup()

    @abstractmethod
    def answer_dial(self, to: str, *, caller: str, action_url: str) -> HttpAnswer:
        """Hand the call over to another number; come to `action_url` when that is over."""

    @abstractmethod
    def answer_digits(self, digits: str, *, resume_url: str) -> HttpAnswer:
        """Press keys, then come to `resume_url`."""

    @abstractmethod
    def answer_park(self) -> HttpAnswer:
        """Keep the call alive without us: the bot moves it by the carrier's own API."""

    @abstractmethod
    def answer_empty(self) -> HttpAnswer:
        """Thank you, nothing to do."""

    def hang_up(self, call_id: str, account: str) -> RestCall | None:
        """Make the request that ends a call at once.

        None where there is none, or for what can be no call's id.

        Plain requests, not the SDKs: Twilio's and Plivo's take no base URL, Plivo's repeats a POST (a call could be
        placed twice), Telnyx' takes 1.2 s to import and repeats too.
        """
        # "." and ".." stay what they are when they are quoted, and would lead the request to another resource.
        return self.hang_up_request(call_id, account) if self.serializer.ids.is_call(call_id) else None

    def hang_up_request(self, call_id: str, account: str) -> RestCall | None:
        """Make that request for a call id of this carrier's form.

        None where the carrier has no such request, or we no key to its API.
        """
        return None

    # Calls that we place. A carrier that cannot has nothing to do here.

    def default_account(self) -> str:
        """Choose the account to place calls with: the first that has the keys for it.

        By the id that its webhooks will have (`Verified.account`): none in --dev. "" where there is none, too.
        """
        if self.unauthenticated or not self.can.place_calls:
            return ""
        return next((str(one.id) for one in self.config.accounts if not one.lacks_to_dial()), "")

    def lacks_to_dial(self) -> str:
        """The key of its section that is missing to place calls, or ""."""
        return str(self.config.lacks_to_dial()) if self.config is not None else "its section"

    def goes_on(self, account: str) -> bool:
        """True if a call that we placed asks us what is next when its stream has ended. Else that is its end."""
        return True

    def place_call(self, order: CallOrder, account: str) -> RestCall | None:
        """Make the request that places a call; None where we have no key to the API.

        It is sent once: what the carrier makes of a repetition is another call.
        """
        return None

    def read_placed(self, status: int, body: bytes, headers: Mapping[str, str]) -> Placed | CarrierRefusal:
        """Read the answer to it. headers: names in lower case. Never raises."""
        return CarrierRefusal("", "This carrier cannot place calls.", "refused")

    def cancel_call(self, call_id: str, alias: str, account: str) -> RestCall | None:
        """Make the request that ends a call which has not been answered, by what `Placed` or a webhook named it.

        None where there is none (`Capabilities.cancel_ringing`), and where neither can be an id.
        """
        return self.hang_up(call_id, account) if self.can.cancel_ringing else None

    def ask_call(self, call_id: str, account: str) -> RestCall | None:
        """Make the request for the state of a call; None as for `hang_up`."""
        return self.ask_call_request(call_id, account) if self.serializer.ids.is_call(call_id) else None

    def ask_call_request(self, call_id: str, account: str) -> RestCall | None:
        """Make that request for a call id of this carrier's form."""
        return None

    def read_call(self, status: int, body: bytes) -> CallState:
        """Read the answer to it. Never raises."""
        return CallState()

    def rest_url(self, account: Any, usual: str) -> str:
        """Choose the root of the REST API.

        The account's own, else the section's, else the carrier's.
        """
        url: str = account.api_url or self.config.api_url or usual
        return url.rstrip("/")

    def answer_number(self, to: str, *, caller: str) -> HttpAnswer:
        """Tell whom to dial, at `dial_route`.

        to: E.164, "" for no one. Carriers that have no such route answer 404.
        """
        return HttpAnswer(content_type="text/plain; charset=utf-8", status=404)
