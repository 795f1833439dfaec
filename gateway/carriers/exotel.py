"""Exotel: no markup and no signatures.

What a call does is drawn as a flow of applets, which ask us by the way.

The flow that we serve:

    Voicebot ──▶ Passthru ──200──▶ hang up
       ▲            └─────302──▶ Connect ──dialled──▶ hang up
       └────────────────────────────┘ none to dial

- Voicebot asks `/voice` for `{"url": "wss://…"}`.
- When the stream has ended, Passthru asks `/resume`: 200 goes on to the end of the call, 302 goes to Connect.
- Connect asks `/connect` whom to dial. No number leads back to Voicebot, which is how a call is attached
  again. A flow without Connect may lead 302 straight back to Voicebot: it then cannot transfer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import orjson
from pydantic import Field

from gateway.carriers.base import (
    Capabilities,
    Carrier,
    HttpAnswer,
    HttpRequest,
    Kind,
    Refused,
    StreamAnswer,
    Verified,
    Webhook,
    in_table,
)
from gateway.carriers.config import AccountConfig, CarrierConfig
from gateway.carriers.form import Fields, WebhookSchema, offered_keys, parse_request, read, readable
from gateway.carriers.parameters import KEY, with_query
from gateway.carriers.plugin import CarrierPlugin
from gateway.carriers.secrets import Secrets, accounts_with_secret, secret_of
from serializers.base import MediaFormat, Serializer
from serializers.exotel import ExotelSerializer
from serializers.numbers import e164

SCHEMA = WebhookSchema(
    core=frozenset({"CallSid", "CallFrom", "CallTo", "Direction", "AccountSid", "Status", "EventType", "Stream"}),
    call_id=("CallSid",),
    ids=ExotelSerializer.ids,
    known=frozenset(
        {
            "CallStatus",
            "CallType",
            "ConversationDuration",
            "Created",
            "CurrentTime",
            "CustomField",
            "DateCreated",
            "DateUpdated",
            "DialCallDuration",
            "DialCallStatus",
            "DialWhomNumber",
            "DisconnectedBy",
            "EndTime",
            "ForwardedFrom",
            "From",
            "HangupLatencyStartTime",
            "HangupLatencyStartTimeExocc",
            "PhoneNumberSid",
            "ProcessStatus",
            "RecordingUrl",
            "StartTime",
            "StreamSid",
            "StreamUrl",
            "To",
            "digits",
            "flow_id",
            "passthru",
            "tenant_id",
        }
    ),
    known_prefixes=("Stream[", "Legs[", "RecordingAvailableBy", "OutgoingPhoneNumber"),
    multipart=True,
)

CALL_STATUS = {
    "queued": "ringing",
    "ringing": "ringing",
    "in-progress": "answered",
    "answered": "answered",
    "terminal": "ended",  # EventType
    "completed": "ended",
    "busy": "ended",
    "no-answer": "ended",
    "failed": "ended",
    "canceled": "ended",
}
OUTCOME = {
    "completed": "completed",
    "busy": "busy",
    "no-answer": "no-answer",
    "failed": "failed",
    "canceled": "canceled",
}
STREAM_STATE = {
    "stream-start": "started",
    "started": "started",
    "stream-stop": "stopped",
    "stopped": "stopped",
    "completed": "stopped",
    "failed": "failed",
}

STREAM_URL_LIMIT = 600
"""The whole wss URL stays below this."""
CUSTOM_COUNT = 3
CUSTOM_CHARACTERS = 256
_RATES = (8000, 16000, 24000)
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


class Account(AccountConfig):
    """One Exotel account."""

    account_sid: str = ""
    api_key: Secrets = ()
    api_token: Secrets = ()
    webhook_secret: Secrets = ()
    """Exotel signs nothing: this, as the Basic password (of any user) or as `?key=`."""

    @property
    def id(self) -> str:
        return self.account_sid or "default"

    def lacks(self) -> str:
        return "" if self.webhook_secret else "webhook_secret"


class Config(CarrierConfig[Account]):
    """`[carriers.exotel]`."""

    region: str = Field(default="IN", pattern="^[A-Z]{2}$")
    """Exotel writes 09494865411."""

    @classmethod
    def _first_key(cls) -> str:
        return "webhook_secret"


class ExotelCarrier(Carrier):
    """See the base class, and above for the flow."""

    name: ClassVar[str] = "exotel"
    serializer: ClassVar[type[Serializer]] = ExotelSerializer
    can: ClassVar[Capabilities] = Capabilities(digits=False, body_signed=False)

    def __init__(self, config: Config | None, *, public_url: str, dev: bool = False) -> None:
        super().__init__(config, public_url=public_url, dev=dev)
        self.accounts: tuple[Account, ...] = config.accounts if config else ()

    @property
    def region(self) -> str:
        return self.config.region if self.config is not None else "IN"

    def verify(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        if self.unauthenticated:
            return Verified()
        if not any(account.webhook_secret for account in self.accounts):
            return Refused("not_configured")
        offered = offered_keys(request)
        if not any(offered):
            return Refused("missing_key")
        shown = accounts_with_secret(self.accounts, offered)
        if not shown:
            return Refused("bad_key")
        fields = read(request, SCHEMA)
        if isinstance(fields, Refused):
            return fields
        account_sid = fields.one("AccountSid")
        for account in shown:
            if not account_sid or account.account_sid in ("", account_sid):
                return Verified(account.id)
        return Refused("foreign_account")

    def callback_url(self, url: str, account: str) -> str:
        secret = secret_of(self.accounts, account)
        return with_query(url, KEY, secret) if secret else url

    def parse(self, request: HttpRequest) -> Webhook | Refused:
        parsed = parse_request(request, SCHEMA)
        if isinstance(parsed, Refused):
            return parsed
        if not parsed.call_id:
            return Refused("no_call_id")
        fields, custom_params = parsed.fields, dict(parsed.custom_params)
        if fields.one("CustomField"):  # what /v1/calls gave the call
            custom_params["CustomField"] = fields.one("CustomField")
        stream = _stream(fields)
        kind = _kind(request, fields, stream)
        word = fields.one("Status", "CallStatus", "EventType") if kind is Kind.STATUS else ""
        status = in_table(CALL_STATUS, word)
        outbound = fields.one("Direction").startswith("outbound")
        raw_from, raw_to = _parties(fields, outbound)
        return Webhook(
            kind=kind,
            call_id=parsed.call_id,
            from_number=e164(raw_from, self.region),
            to_number=e164(raw_to, self.region),
            raw_from=raw_from,
            raw_to=raw_to,
            direction="outbound" if outbound else "inbound",
            status=status,
            detail=word if status == "ended" else stream.get("disconnectedby", ""),
            outcome=in_table(OUTCOME, word),
            dial=in_table(OUTCOME, fields.one("DialCallStatus")),
            stream=in_table(STREAM_STATE, stream.get("status", "") or fields.one("EventType")),
            forwarded_from=e164(fields.one("ForwardedFrom"), self.region),
            own=parsed.own,
            custom_params=custom_params,
        )

    def negotiate(self, wanted: MediaFormat) -> MediaFormat:
        return MediaFormat("l16", wanted.sample_rate if wanted.sample_rate in _RATES else 8000)

    def answer_stream(self, answer: StreamAnswer) -> HttpAnswer:
        rate = self.negotiate(answer.media).sample_rate
        # Exotel counts every query parameter of this URL as a custom one.
        wanted = [("sample-rate", str(rate))] if rate != 8000 else []
        url = _with_parameters(answer.url, [*wanted, *answer.parameters])
        return HttpAnswer(orjson.dumps({"url": url}), _JSON)

    def answer_attach(self, answer: StreamAnswer) -> HttpAnswer:
        """Branch B of Passthru; Voicebot asks for the URL by itself."""
        return HttpAnswer(content_type=_TEXT, status=302)

    def answer_reject(self, reason: str) -> HttpAnswer:
        return HttpAnswer(content_type=_TEXT, status=503)

    def answer_over(self) -> HttpAnswer:
        """Voicebot expects a URL; without one the flow goes on."""
        return self.answer_reject("rejected")

    def answer_hangup(self) -> HttpAnswer:
        """Branch A of Passthru, where the flow ends."""
        return HttpAnswer(content_type=_TEXT)

    def answer_dial(self, to: str, *, caller: str, action_url: str) -> HttpAnswer:
        """Lead Passthru to branch B.

        Connect asks for the number by itself: see `answer_connect`.
        """
        return HttpAnswer(content_type=_TEXT, status=302)

    def answer_connect(self, to: str, *, caller: str) -> HttpAnswer:
        answer: dict[str, Any] = {
            "fetch_after_attempt": False,
            "destination": {"numbers": [to] if to else []},
        }
        if to and caller:
            answer["outgoing_phone_number"] = caller
        return HttpAnswer(orjson.dumps(_clean(answer)), _JSON)

    def answer_digits(self, digits: str, *, resume_url: str) -> HttpAnswer:
        """Not possible (see `can`); the call lives on."""
        return HttpAnswer(content_type=_TEXT, status=302)

    def answer_park(self) -> HttpAnswer:
        """The flow goes on without us."""
        return HttpAnswer(content_type=_TEXT)

    def answer_empty(self) -> HttpAnswer:
        return HttpAnswer(content_type=_TEXT)


def _parties(fields: Fields, outbound: bool) -> tuple[str, str]:
    """Raw (from, to).

    CallFrom and CallTo come first, as To may be a third number. For an outbound call Exotel's "from" is the
    person whom it dials and "to" the ExoPhone (capture of a dynamic URL; `From` of the REST API likewise):
    turned round here, so that `from` is ours on every carrier. Status callbacks name the person in From and
    the ExoPhone, where they do, in PhoneNumberSid; their To is the ExoPhone, or empty.
    """
    person, exophone = fields.one("CallFrom", "From"), fields.one("CallTo", "PhoneNumberSid", "To")
    return (exophone, person) if outbound else (person, exophone)


def _stream(fields: Fields) -> dict[str, str]:
    """Read what Passthru says of the Voicebot before it.

    As `Stream[Status]=…`, or as one JSON object, as text or as it is.

    Names in lower case.
    """
    found: Any = fields.tree.get("Stream")
    if not isinstance(found, dict):
        try:
            found = orjson.loads(fields.one("Stream") or b"{}")
        except orjson.JSONDecodeError:
            found = {}
    if not isinstance(found, dict):
        found = {}
    nested = {
        name[len("Stream[") : -1]: readable(value)
        for name, value in fields.pairs()
        if name.startswith("Stream[") and name.endswith("]")
    }
    return {name.lower(): value for name, value in (found | nested).items() if isinstance(value, str)}


def _kind(request: HttpRequest, fields: Fields, stream: Mapping[str, str]) -> Kind:
    if request.method == "GET" or stream or fields.one("CallFrom"):  # an applet asks
        return Kind.VOICE
    if fields.one("EventType").lower().startswith("stream"):
        return Kind.STREAM
    return Kind.STATUS if in_table(CALL_STATUS, fields.one("Status", "CallStatus", "EventType")) else Kind.OTHER


def _with_parameters(url: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Add those parameters to `url` that fit Exotel's limits, in order.

    The token's path is never cut.
    """
    query, count = "", 0
    for name, value in parameters:
        one = f"{quote(_clean(name), safe='')}={quote(_clean(value), safe='')}"
        longer = f"{query}&{one}" if query else one
        fits = len(longer) <= CUSTOM_CHARACTERS and len(url) + 1 + len(longer) < STREAM_URL_LIMIT
        if name and count < CUSTOM_COUNT and fits:
            query, count = longer, count + 1
    return f"{url}?{query}" if query else url


def _clean(value: Any) -> Any:
    """Text without lone surrogates, which neither UTF-8 nor JSON can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "ignore").decode()
    if isinstance(value, dict):
        return {name: _clean(one) for name, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value


PLUGIN = CarrierPlugin(
    carrier=ExotelCarrier,
    config=Config,
    env={
        "EXOTEL_ACCOUNT_SID": "account_sid",
        "EXOTEL_API_KEY": "api_key",
        "EXOTEL_API_TOKEN": "api_token",
        "EXOTEL_WEBHOOK_SECRET": "webhook_secret",
    },
    simulator="gateway.simulator.carriers:EXOTEL",
)
