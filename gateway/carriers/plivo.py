"""Plivo: its own XML; who may send it a webhook is told in `plivo_signature`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from pydantic import Field

from gateway.carriers import plivo_rest, xml
from gateway.carriers.base import (
    Capabilities,
    Carrier,
    HttpAnswer,
    HttpRequest,
    Kind,
    Refused,
    Stir,
    StreamAnswer,
    Verified,
    Webhook,
    in_table,
)
from gateway.carriers.config import AccountConfig, AccountId, CarrierConfig
from gateway.carriers.form import (
    Fields,
    WebhookSchema,
    has_long_url,
    parse_request,
    read,
    read_query,
    readable,
)
from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RestCall
from gateway.carriers.parameters import NUMBER_HEADERS
from gateway.carriers.plivo_rest import CALL_STATUS, OUTCOME
from gateway.carriers.plivo_signature import (
    MAIN_SIGNATURE,
    MAX_NONCE,
    NONCE,
    SIGNATURE,
    digest,
    sign,
    signatures_in,
    to_sign,
)
from gateway.carriers.plugin import CarrierPlugin
from gateway.carriers.secrets import Secrets, same
from gateway.carriers.twiml import caller_name
from gateway.carriers.url import with_scheme
from gateway.protocol.pcm import keys_in
from serializers.base import MediaFormat, Serializer
from serializers.numbers import e164_of_digits
from serializers.plivo import PlivoSerializer

SCHEMA = WebhookSchema(
    core=frozenset(
        {
            "CallStatus",
            "CallUUID",
            "DialStatus",
            "Direction",
            "Event",
            "From",
            "ParentAuthID",
            "RequestUUID",
            "StreamID",
            "To",
        }
    ),
    call_id=("CallUUID", "RequestUUID"),
    ids=PlivoSerializer.ids,
    known=frozenset(
        {
            "ALegRequestUUID",
            "ALegUUID",
            "AnswerTime",
            "BillDuration",
            "BillRate",
            "CallerName",
            "ComplianceApplicationId",
            "ComplianceStatus",
            "CountryCode",
            "DialALegUUID",
            "DialBLegUUID",
            "DialHangupCause",
            "DialRingStatus",
            "Digits",
            "Duration",
            "EndTime",
            "Error",
            "ForwardedFrom",
            "HangupCause",
            "HangupCauseCode",
            "HangupCauseName",
            "HangupSource",
            "Machine",
            "Name",
            "RouteType",
            "STIRAttestation",
            "STIRVerification",
            "ServiceURL",
            "SessionStart",
            "StartTime",
            "StatusReason",
            "Timestamp",
            "TotalCost",
        }
    ),
    known_prefixes=("X-PH-", "SIP-H-"),
)

STREAM_STATE = {
    "startstream": "started",
    "started": "started",
    "stopstream": "stopped",
    "stopped": "stopped",
    "droppedstream": "failed",
    "failed": "failed",
    "degradedstream": "degraded",
}

_CAUSES = {"1000": "canceled", "3000": "no-answer", "3010": "busy", "3020": "busy", "6000": "no-answer"}
"""HangupCauseCode where CallStatus may say no more than "failed": ended by the API while it rang, not answered, busy,
declined. https://docs.plivo.com/docs/voice/troubleshooting/hangup-causes"""

EXTRA_HEADERS_LIMIT = 512
STREAM_SECONDS = 86400
_PARK_WAITS = 24
_WAIT_SECONDS = 3600


class Account(AccountConfig):
    """One Plivo account (MA…) or subaccount (SA…)."""

    auth_id: AccountId = Field(min_length=1)
    auth_token: Secrets

    @property
    def id(self) -> str:
        return self.auth_id


class Config(CarrierConfig[Account]):
    """`[carriers.plivo]`."""


class PlivoCarrier(Carrier):
    """See the base class."""

    name: ClassVar[str] = "plivo"
    serializer: ClassVar[type[Serializer]] = PlivoSerializer
    can: ClassVar[Capabilities] = Capabilities(place_calls=True, machine_detection=True, cancel_ringing=True)
    replay_header: ClassVar[str] = NONCE
    list_headers: ClassVar[frozenset[str]] = frozenset({SIGNATURE, MAIN_SIGNATURE})

    def __init__(self, config: Config | None, *, public_url: str, dev: bool = False) -> None:
        super().__init__(config, public_url=public_url, dev=dev)
        self.accounts: tuple[Account, ...] = config.accounts if config else ()
        self._upgrade_bases = tuple(with_scheme(public_url, scheme) for scheme in ("http", "https", "ws", "wss"))

    def verify(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        settled = self._settled(request)
        if settled:
            return settled
        fields = read(request, SCHEMA)
        if isinstance(fields, Refused):
            return fields
        params = Fields() if request.method == "GET" else fields
        return self._check(request, (self.public_url,), params, fields.one("ParentAuthID"))

    def verify_upgrade(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        return self._settled(request) or self._check(request, self._upgrade_bases, Fields(), "")

    def _settled(self, request: HttpRequest) -> Verified | Refused | None:
        """What can be said before any work is done."""
        if self.unauthenticated:
            return Verified()
        nonce = request.headers.get(NONCE, "")
        if not self.accounts:
            return Refused("not_configured")
        if not nonce or not (request.headers.get(SIGNATURE) or request.headers.get(MAIN_SIGNATURE)):
            return Refused("missing_signature")
        if len(nonce) > MAX_NONCE or not signatures_in(request):
            return Refused("bad_signature")
        return Refused("too_large") if has_long_url(request) else None

    def _check(self, request: HttpRequest, bases: Iterable[str], params: Fields, parent: str) -> Verified | Refused:
        # ParentAuthID names the main account, so it says nothing against a subaccount of it.
        accounts = [a for a in self.accounts if parent in ("", a.auth_id) or a.auth_id.startswith("SA")]
        if not accounts:
            return Refused("foreign_account")
        query = read_query(request.query)
        if isinstance(query, Refused):
            return query
        nonce = request.headers[NONCE]
        given = signatures_in(request)
        try:
            candidates = [to_sign(request.method, base + request.path, query, params, nonce) for base in bases]
        except ValueError:
            return Refused("bad_body")
        for account in accounts:
            if _signed_by(account, candidates, given):
                return Verified(account.id, (nonce, digest(request, query, params)))
        return Refused("bad_signature")

    def parse(self, request: HttpRequest) -> Webhook | Refused:
        parsed = parse_request(request, SCHEMA)
        if isinstance(parsed, Refused):
            return parsed
        if not parsed.call_id:
            return Refused("no_call_id")
        fields = parsed.fields
        kind = _kind(fields)
        event, call_status = fields.one("Event"), fields.one("CallStatus")
        status = "ended" if event == "Hangup" else in_table(CALL_STATUS, call_status)
        raw_from, raw_to = fields.one("From"), fields.one("To")
        return Webhook(
            kind=kind,
            call_id=parsed.call_id,
            alias=_alias(fields, parsed.call_id),
            from_number=e164_of_digits(raw_from, raw_to, self.region),
            to_number=e164_of_digits(raw_to, raw_from, self.region),
            raw_from=raw_from,
            raw_to=raw_to,
            direction="outbound" if fields.one("Direction") == "outbound" else "inbound",
            status=status if kind is not Kind.STREAM else "",
            detail=_detail(fields, kind, status),
            outcome=_outcome(fields) if status == "ended" else "",
            dial=in_table(OUTCOME, fields.one("DialStatus")),
            answered_by={"true": "machine", "false": "human"}.get(fields.one("Machine").lower(), ""),
            stream=in_table(STREAM_STATE, event) if kind is Kind.STREAM else "",
            caller_name=caller_name(fields.one("CallerName")),
            forwarded_from=e164_of_digits(fields.one("ForwardedFrom"), raw_to, self.region),
            stir=_stir(fields),
            sip_headers={
                readable(name.removeprefix("SIP-H-")): fields.one(name)
                for name in fields
                if name.startswith(SCHEMA.known_prefixes)
            },
            own=parsed.own,
            custom_params=parsed.custom_params,
        )

    def place_call(self, order: CallOrder, account: str) -> RestCall | None:
        login = self._login(account)
        return plivo_rest.place(*login, order) if login else None

    def read_placed(self, status: int, body: bytes, headers: Mapping[str, str]) -> Placed | CarrierRefusal:
        return plivo_rest.read_placed(status, body, headers, self.serializer.ids)

    def hang_up_request(self, call_id: str, account: str) -> RestCall | None:
        login = self._login(account)
        return plivo_rest.hang_up(*login, call_id) if login else None

    def cancel_call(self, call_id: str, alias: str, account: str) -> RestCall | None:
        # By its own id it is ended in any state; by its request's only until it is answered.
        by_call, login = self.hang_up(call_id, account), self._login(account)
        if by_call is None and login and self.serializer.ids.is_call(alias):
            return plivo_rest.cancel(*login, alias)
        return by_call

    def ask_call_request(self, call_id: str, account: str) -> RestCall | None:
        login = self._login(account)
        return plivo_rest.ask(*login, call_id) if login else None

    def read_call(self, status: int, body: bytes) -> CallState:
        return plivo_rest.read_state(status, body)

    def _login(self, account: str) -> tuple[str, str, str] | None:
        """Root, user and password of the REST API, None where we have none."""
        owner = self.config.account(account) if self.config is not None else None
        if owner is None or not owner.auth_token:
            return None
        return self.rest_url(owner, "https://api.plivo.com"), owner.auth_id, owner.auth_token[0].get_secret_value()

    def negotiate(self, wanted: MediaFormat) -> MediaFormat:
        # l16 at 24 kHz stands in one of three references only, and there is no A-law.
        if wanted.encoding == "l16":
            return MediaFormat("l16", 8000 if wanted.sample_rate == 8000 else 16000)
        return MediaFormat("mulaw", 8000)

    def answer_stream(self, answer: StreamAnswer) -> HttpAnswer:
        media = self.negotiate(answer.media)
        stream = xml.node(
            "Stream",
            answer.url,
            bidirectional="true",
            keepCallAlive="true",  # <Redirect> waits for the end of the stream; else the call ends soon
            contentType=f"audio/x-{media.encoding};rate={media.sample_rate}",
            audioTrack="inbound",
            streamTimeout=str(STREAM_SECONDS),
            statusCallbackUrl=answer.status_url or None,
            extraHeaders=_extra_headers(answer.parameters) or None,
        )
        return xml.answer(stream, *xml.redirect(answer.resume_url))

    def answer_reject(self, reason: str) -> HttpAnswer:
        return xml.answer(xml.node("Hangup", reason="busy" if reason == "busy" else "rejected"))

    def answer_hangup(self) -> HttpAnswer:
        return xml.answer(xml.node("Hangup"))

    def answer_dial(self, to: str, *, caller: str, action_url: str) -> HttpAnswer:
        callee = xml.node("User" if to.lower().startswith(("sip:", "sips:")) else "Number", to)
        return xml.answer(xml.node("Dial", callee, action=action_url, method="POST", callerId=caller or None))

    def answer_digits(self, digits: str, *, resume_url: str) -> HttpAnswer:
        return xml.answer(xml.node("DTMF", keys_in(digits)), *xml.redirect(resume_url))

    def answer_park(self) -> HttpAnswer:
        # For 24 hours, the longest that time_limit allows.
        return xml.answer(*(xml.node("Wait", length=str(_WAIT_SECONDS)) for _ in range(_PARK_WAITS)))

    def answer_empty(self) -> HttpAnswer:
        return xml.answer()


def _signed_by(account: Account, candidates: Iterable[bytes], given: Iterable[str]) -> bool:
    """Whether a token of the account made one of the signatures. Looks at all of them."""
    found = False
    for token in account.auth_token:
        for signed in candidates:
            computed = sign(token.get_secret_value(), signed)
            for one in given:
                found |= same(computed, one)
    return found


def _kind(fields: Fields) -> Kind:
    event, call_status = fields.one("Event"), fields.one("CallStatus")
    if in_table(STREAM_STATE, event) or event in ("PlayedStream", "ClearedAudio"):
        return Kind.STREAM
    if event in ("Ring", "Hangup", "MachineDetection") or in_table(CALL_STATUS, call_status) == "ended":
        return Kind.STATUS
    if event in ("StartApp", "Redirect") or fields.one("DialStatus"):
        return Kind.VOICE
    return Kind.VOICE if call_status in ("ringing", "in-progress") and not event else Kind.OTHER


def _alias(fields: Fields, call_id: str) -> str:
    """The id of the request that placed the call, where it is another: in 2015 it was, in 2024 it was not."""
    request = fields.one("RequestUUID", "ALegRequestUUID")
    return request if request != call_id and SCHEMA.ids.is_call(request) else ""


def _detail(fields: Fields, kind: Kind, status: str) -> str:
    if kind is Kind.STREAM:
        return fields.one("Error", "StatusReason")
    return fields.one("HangupCauseName", "HangupCause", "CallStatus") if status == "ended" else ""


def _outcome(fields: Fields) -> str:
    return _CAUSES.get(fields.one("HangupCauseCode")) or in_table(OUTCOME, fields.one("CallStatus"))


def _stir(fields: Fields) -> Stir | None:
    """Read the attestation; "Not Verified" is a B, a C or an unsigned call, and no failure.

    https://docs.plivo.com/docs/voice/concepts/stir-shaken
    """
    grades: Mapping[str, Stir] = {"A": "A", "B": "B", "C": "C"}
    verified: Mapping[str, Stir] = {"verified": "A", "failed": "failed"}
    return grades.get(fields.one("STIRAttestation").upper()) or verified.get(fields.one("STIRVerification").lower())


def _extra_headers(parameters: Iterable[tuple[str, str]]) -> str:
    """Write those parameters that fit into extraHeaders.

    Letters and digits only, 512 bytes in all, so numbers go without their plus. Plivo logs them.
    """
    fitting, written = "", set[str]()
    for name, value in parameters:
        if name in NUMBER_HEADERS:
            name, value = NUMBER_HEADERS[name], value.removeprefix("+")
        if name in written or not (name.isascii() and name.isalnum() and value.isascii() and value.isalnum()):
            continue
        longer = f"{fitting},{name}={value}" if fitting else f"{name}={value}"
        if len(longer) <= EXTRA_HEADERS_LIMIT:
            fitting = longer
            written.add(name)
    return fitting


PLUGIN = CarrierPlugin(
    carrier=PlivoCarrier,
    config=Config,
    env={"PLIVO_AUTH_ID": "auth_id", "PLIVO_AUTH_TOKEN": "auth_token"},
    bot_env=("PLIVO_AUTH_ID", "PLIVO_AUTH_TOKEN"),
    simulator="gateway.simulator.plivo:SIMULATOR",
)
