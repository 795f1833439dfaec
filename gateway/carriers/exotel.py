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

from gateway.carriers import exotel_rest
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
from gateway.carriers.config import AccountConfig, AccountId, CarrierConfig
from gateway.carriers.exotel_fields import (
    CALL_STATUS,
    OUTCOME,
    SCHEMA,
    STREAM_STATE,
    kind_of,
    own_in,
    own_parameters,
    parties,
    stream_report,
)
from gateway.carriers.form import offered_keys, parse_request, read
from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RestCall
from gateway.carriers.parameters import KEY, with_query
from gateway.carriers.plugin import CarrierPlugin
from gateway.carriers.secrets import Secrets, accounts_with_secret, secret_of
from gateway.carriers.twiml import answered_by, caller_name
from serializers.base import MediaFormat, Serializer
from serializers.exotel import ExotelSerializer
from serializers.numbers import e164

STREAM_URL_LIMIT = 600
"""The whole wss URL stays below this."""
CUSTOM_COUNT = 3
CUSTOM_CHARACTERS = 256
_RATES = (8000, 16000, 24000)
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


class Account(AccountConfig):
    """One Exotel account."""

    account_sid: AccountId = ""
    api_key: Secrets = ()
    api_token: Secrets = ()
    flow_id: AccountId = ""
    """The flow that a call which we place is led to; without one it gets its stream and nothing else."""
    webhook_secret: Secrets = ()
    """Exotel signs nothing: this, as the Basic password (of any user) or as `?key=`."""

    @property
    def id(self) -> str:
        return self.account_sid or "default"

    def lacks(self) -> str:
        return "" if self.webhook_secret else "webhook_secret"

    def lacks_to_dial(self) -> str:
        return next((key for key in ("account_sid", "api_key", "api_token") if not getattr(self, key)), "")


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
    can: ClassVar[Capabilities] = Capabilities(
        digits=False,
        body_signed=False,
        place_calls=True,
        digits_why="Exotel has no way to press keys in a running call.",
    )
    dial_route: ClassVar[str] = "connect"

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
        fields, own, custom_params = parsed.fields, parsed.own, dict(parsed.custom_params)
        custom_field = fields.one("CustomField")
        if own_in(custom_field):
            own = own_parameters(request, custom_field)
        elif custom_field:  # of a call that the user placed
            custom_params["CustomField"] = custom_field
        stream = stream_report(fields)
        kind = kind_of(request, fields, stream)
        word = fields.one("Status", "CallStatus", "EventType") if kind is Kind.STATUS else ""
        status = in_table(CALL_STATUS, word)
        outbound = fields.one("Direction").startswith("outbound")
        raw_from, raw_to = parties(fields, outbound)
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
            # Of its webhooks neither is documented; its REST resource has AnsweredBy, in Twilio's words.
            answered_by=answered_by(fields.one("AnsweredBy")),
            caller_name=caller_name(fields.one("CallerName")),
            stream=in_table(STREAM_STATE, stream.get("status", "") or fields.one("EventType")),
            forwarded_from=e164(fields.one("ForwardedFrom"), self.region),
            own=own,
            custom_params=custom_params,
        )

    def goes_on(self, account: str) -> bool:
        owner = self.config.account(account) if self.config is not None else None
        return owner is not None and owner.flow_id != ""

    def place_call(self, order: CallOrder, account: str) -> RestCall | None:
        owner = self._owner(account)
        if owner is None or not (owner.flow_id or order.stream_url):
            return None
        return exotel_rest.place(*self._login(owner), owner.flow_id, order)

    def read_placed(self, status: int, body: bytes, headers: Mapping[str, str]) -> Placed | CarrierRefusal:
        return exotel_rest.read_placed(status, body, headers, self.serializer.ids)

    def ask_call_request(self, call_id: str, account: str) -> RestCall | None:
        owner = self._owner(account)
        return exotel_rest.ask(*self._login(owner), call_id) if owner else None

    def read_call(self, status: int, body: bytes) -> CallState:
        return exotel_rest.read_state(status, body)

    def _owner(self, account: str) -> Account | None:
        """The account, None without a key to its REST API."""
        owner = self.config.account(account) if self.config is not None else None
        return owner if owner is not None and not owner.lacks_to_dial() else None

    def _login(self, owner: Account) -> tuple[str, str, tuple[str, str]]:
        """Root, account, and key and token of the REST API."""
        login = owner.api_key[0].get_secret_value(), owner.api_token[0].get_secret_value()
        return self.rest_url(owner, "https://api.exotel.com"), owner.account_sid, login

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

        Connect asks for the number by itself: see `answer_number`.
        """
        return HttpAnswer(content_type=_TEXT, status=302)

    def answer_number(self, to: str, *, caller: str) -> HttpAnswer:
        """Tell a Connect applet whom to dial.

        Without a number the flow leads back to Voicebot.
        """
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
    simulator="gateway.simulator.exotel_flow:SIMULATOR",
)
