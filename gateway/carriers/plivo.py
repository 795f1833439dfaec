"""Plivo: its own XML; who may send it a webhook is told in `plivo_signature`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar
from urllib.parse import quote

from pydantic import Field

from gateway.carriers import xml
from gateway.carriers.base import (
    Carrier,
    HttpAnswer,
    HttpRequest,
    Kind,
    Refused,
    RestCall,
    Stir,
    StreamAnswer,
    Verified,
    Webhook,
    in_table,
)
from gateway.carriers.config import AccountConfig, CarrierConfig
from gateway.carriers.form import (
    Fields,
    WebhookSchema,
    has_long_url,
    parse_request,
    read,
    read_query,
    readable,
)
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
    call_id=("CallUUID",),
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

CALL_STATUS = {
    "ringing": "ringing",
    "in-progress": "answered",
    "completed": "ended",
    "busy": "ended",
    "failed": "ended",
    "timeout": "ended",
    "no-answer": "ended",
    "cancel": "ended",
    "canceled": "ended",
}
OUTCOME = {
    "completed": "completed",
    "busy": "busy",
    "failed": "failed",
    "timeout": "no-answer",  # rang for as long as it was told to
    "no-answer": "no-answer",
    "cancel": "canceled",  # DialStatus
    "canceled": "canceled",
}
STREAM_STATE = {
    "startstream": "started",
    "started": "started",
    "stopstream": "stopped",
    "stopped": "stopped",
    "droppedstream": "failed",
    "failed": "failed",
    "degradedstream": "degraded",
}

EXTRA_HEADERS_LIMIT = 512
STREAM_SECONDS = 86400
_PARK_WAITS = 24
_WAIT_SECONDS = 3600


class Account(AccountConfig):
    """One Plivo account (MA…) or subaccount (SA…)."""

    auth_id: str = Field(min_length=1)
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
            from_number=e164_of_digits(raw_from, raw_to, self.region),
            to_number=e164_of_digits(raw_to, raw_from, self.region),
            raw_from=raw_from,
            raw_to=raw_to,
            direction="outbound" if fields.one("Direction") == "outbound" else "inbound",
            status=status if kind is not Kind.STREAM else "",
            detail=_detail(fields, kind, status),
            outcome=in_table(OUTCOME, call_status) if status == "ended" else "",
            dial=in_table(OUTCOME, fields.one("DialStatus")),
            answered_by={"true": "machine", "false": "human"}.get(fields.one("Machine").lower(), ""),
            stream=in_table(STREAM_STATE, event) if kind is Kind.STREAM else "",
            caller_name=fields.one("CallerName"),
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

    def hang_up_request(self, call_id: str, account: str) -> RestCall | None:
        owner = self.config.account(account) if self.config is not None else None
        if owner is None or not owner.auth_token:
            return None
        base = self.rest_url(owner, "https://api.plivo.com")
        return RestCall(
            "DELETE",
            f"{base}/v1/Account/{quote(owner.auth_id, safe='')}/Call/{quote(call_id, safe='')}/",
            auth=(owner.auth_id, owner.auth_token[0].get_secret_value()),
            done=("404",),  # over already
        )

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


def _detail(fields: Fields, kind: Kind, status: str) -> str:
    if kind is Kind.STREAM:
        return fields.one("Error", "StatusReason")
    return fields.one("HangupCauseName", "HangupCause", "CallStatus") if status == "ended" else ""


def _stir(fields: Fields) -> Stir | None:
    grades: Mapping[str, Stir] = {"A": "A", "B": "B", "C": "C"}
    if in_table({"not-verified": "failed", "failed": "failed"}, fields.one("STIRVerification").replace(" ", "-")):
        return "failed"
    return grades.get(fields.one("STIRAttestation").upper())


def _extra_headers(parameters: Iterable[tuple[str, str]]) -> str:
    """Write those parameters that fit into extraHeaders.

    Letters and digits only, 512 bytes in all. Plivo logs them.
    """
    fitting = ""
    for name, value in parameters:
        if not (name.isascii() and name.isalnum() and value.isascii() and value.isalnum()):
            continue
        longer = f"{fitting},{name}={value}" if fitting else f"{name}={value}"
        if len(longer) <= EXTRA_HEADERS_LIMIT:
            fitting = longer
    return fitting


PLUGIN = CarrierPlugin(
    carrier=PlivoCarrier,
    config=Config,
    env={"PLIVO_AUTH_ID": "auth_id", "PLIVO_AUTH_TOKEN": "auth_token"},
    simulator="gateway.simulator.carriers:PLIVO",
)
