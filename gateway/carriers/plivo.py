"""Plivo: its own XML, and signature V3.

V3 is our own implementation of plivo/utils/signature_v3.py (4.63.0): the SDK raises UnicodeEncodeError on a
URL with `?x=%C3%A9`, compares with `in`, changes the caller's dict and knows no wss URL. V2 covers neither
query nor body and is not accepted.

Published recipes for the WebSocket upgrade disagree. We take the algorithm of the SDK, as for GET, over the
stream's URL under http (the one form seen to match on a live call), https, ws or wss. Left out is the third
recipe ("GET" + URL + nonce, without separators): it contradicts the SDK, and lets path and nonce be cut
elsewhere.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field

from gateway.carriers import words, xml
from gateway.carriers.base import (
    Capabilities,
    Carrier,
    HttpAnswer,
    HttpRequest,
    Kind,
    Refused,
    RestCall,
    StreamAnswer,
    Verified,
    Webhook,
)
from gateway.carriers.config import AccountConfig, CarrierConfig
from gateway.carriers.form import Fields, has_long_url, parse_request, read, read_query
from gateway.carriers.secrets import Secrets, same
from gateway.carriers.url import with_scheme
from gateway.protocol.pcm import keys_in
from serializers.base import MediaFormat
from serializers.numbers import e164

SIGNATURE = "x-plivo-signature-v3"
MAIN_SIGNATURE = "x-plivo-signature-ma-v3"
NONCE = "x-plivo-signature-v3-nonce"
_MAX_SIGNATURES = 1000  # one has 44 characters; several, with commas, while tokens are rotated
_MAX_NONCE = 128

CORE_FIELDS = (
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
)

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


def to_sign(method: str, url: str, query: Fields, params: Fields, nonce: str) -> bytes:
    """The bytes that V3 signs. url: without query. Query and parameters are decoded and sorted by name."""
    if method == "GET":
        query, params = Fields([*params.pairs(), *query.pairs()]), Fields()
    joined = "&".join(f"{name}={value}" for name, value in _sorted(query))
    signed = url + ("?" if query or params else "") + joined
    if params:
        signed += ("." if joined else "") + _concatenated(params)
    return f"{signed}.{nonce}".encode("utf-8", "surrogatepass")


def sign(token: str, signed: bytes) -> str:
    """Signature V3."""
    return base64.b64encode(hmac.new(token.encode(), signed, sha256).digest()).decode()


def _sorted(fields: Fields) -> Iterable[tuple[str, str]]:
    return ((name, value) for name in sorted(fields) for value in sorted(fields.getlist(name)))


def _concatenated(params: Fields) -> str:
    if params.tree:
        return _concatenated_tree(params.tree)
    return "".join(f"{name}{value}" for name, value in _sorted(params))


def _concatenated_tree(tree: Mapping[str, Any]) -> str:
    """A JSON body, as the SDK's get_sorted_params_string has it."""
    parts: list[str] = []
    for name in sorted(tree):
        value = tree[name]
        if isinstance(value, list):
            parts += [f"{name}{one}" for one in sorted(map(str, value))]
        elif isinstance(value, dict):
            parts.append(name + _concatenated_tree(value))
        else:
            parts.append(f"{name}{value}")
    return "".join(parts)


class PlivoCarrier(Carrier):
    """See the base class."""

    name: ClassVar[str] = "plivo"
    # 15 s by one page, 40 to 55 s by another.
    can: ClassVar[Capabilities] = Capabilities(webhook_seconds=15.0)

    def __init__(self, config: Config | None, *, public_url: str, dev: bool = False) -> None:
        super().__init__(config, public_url=public_url, dev=dev)
        self.accounts: tuple[Account, ...] = config.accounts if config else ()
        self._upgrade_bases = tuple(with_scheme(public_url, scheme) for scheme in ("http", "https", "ws", "wss"))

    def verify(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        settled = self._settled(request)
        if settled:
            return settled
        fields = read(request, once=CORE_FIELDS)
        if isinstance(fields, Refused):
            return fields
        params = Fields() if request.method == "GET" else fields
        return self._check(request, (self.public_url,), params, fields.one("ParentAuthID"))

    def verify_upgrade(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        return self._settled(request) or self._check(request, self._upgrade_bases, Fields(), "")

    def _settled(self, request: HttpRequest) -> Verified | Refused | None:
        """What can be said before any work is done."""
        if self.open:
            return Verified()
        headers = request.headers
        signatures = headers.get(SIGNATURE, ""), headers.get(MAIN_SIGNATURE, "")
        nonce = headers.get(NONCE, "")
        if not self.accounts:
            return Refused("not_configured")
        if not any(signatures) or not nonce:
            return Refused("missing_signature")
        if max(map(len, signatures)) > _MAX_SIGNATURES or len(nonce) > _MAX_NONCE:
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
        given = [
            one.strip() for header in (SIGNATURE, MAIN_SIGNATURE) for one in request.headers.get(header, "").split(",")
        ]
        try:
            candidates = [to_sign(request.method, base + request.path, query, params, nonce) for base in bases]
        except RecursionError:  # JSON in JSON in JSON
            return Refused("bad_body")
        for account in accounts:
            if _signed_by(account, candidates, given):
                return Verified(account.id, (nonce, _digest(request, query, params)))
        return Refused("bad_signature")

    def parse(self, request: HttpRequest) -> Webhook | Refused:
        said = parse_request(request, once=CORE_FIELDS, call_id=("CallUUID",))
        if isinstance(said, Refused):
            return said
        if not said.call_id:
            return Refused("no_call_id")
        fields = said.fields
        kind = _kind(fields)
        event, call_status = fields.one("Event"), fields.one("CallStatus")
        status = "ended" if event == "Hangup" else words.call_status(call_status)
        raw_from, raw_to = fields.one("From"), fields.one("To")
        return Webhook(
            kind=kind,
            call_id=said.call_id,
            account=fields.one("ParentAuthID"),
            from_number=_number(raw_from),
            to_number=_number(raw_to),
            raw_from=raw_from,
            raw_to=raw_to,
            direction="outbound" if fields.one("Direction") == "outbound" else "inbound",
            status=status if kind is not Kind.STREAM else "",
            detail=_detail(fields, kind, status),
            outcome=words.outcome(call_status) if status == "ended" else "",
            dial=words.outcome(fields.one("DialStatus")),
            answered_by={"true": "machine", "false": "human"}.get(fields.one("Machine").lower(), ""),
            stream=words.stream_state(event) if kind is Kind.STREAM else "",
            stream_id=fields.one("StreamID"),
            ours=said.ours,
        )

    def hang_up(self, call_id: str, account: str) -> RestCall | None:
        owner = self.config.account(account) if self.config is not None else None
        if owner is None or not owner.auth_token:
            return None
        base = self.rest_url(owner, "https://api.plivo.com")
        return RestCall(
            "DELETE",
            f"{base}/v1/Account/{owner.auth_id}/Call/{quote(call_id, safe='')}/",
            auth=(owner.auth_id, owner.auth_token[0].get_secret_value()),
            done=("404",),  # over already
        )

    def asked(self, wanted: MediaFormat) -> MediaFormat:
        # l16 at 24 kHz stands in one of three references only, and there is no A-law.
        if wanted.encoding == "l16":
            return MediaFormat("l16", 8000 if wanted.sample_rate == 8000 else 16000)
        return MediaFormat("mulaw", 8000)

    def answer_stream(self, answer: StreamAnswer) -> HttpAnswer:
        media = self.asked(answer.media)
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


def _digest(request: HttpRequest, query: Fields, params: Fields) -> str:
    """Of all that was signed, and unambiguous where V3 is not (it joins `a=1&b=2` and `a=1%26b=2` to the same
    text): a retry has the same, another request under the same nonce has not.
    """
    said: list[object] = [request.method, request.path, sorted(query.pairs()), sorted(params.pairs())]
    if params.tree:
        said.append(request.body)
    return sha256(repr(said).encode("utf-8", "surrogatepass")).hexdigest()


def _kind(fields: Fields) -> Kind:
    event, call_status = fields.one("Event"), fields.one("CallStatus")
    if words.stream_state(event) or event in ("PlayedStream", "ClearedAudio"):
        return Kind.STREAM
    if event in ("Ring", "Hangup", "MachineDetection") or words.call_status(call_status) == "ended":
        return Kind.STATUS
    if event in ("StartApp", "Redirect") or fields.one("DialStatus"):
        return Kind.VOICE
    return Kind.VOICE if call_status in ("ringing", "in-progress") and not event else Kind.OTHER


def _detail(fields: Fields, kind: Kind, status: str) -> str:
    if kind is Kind.STREAM:
        return fields.one("Error", "StatusReason")
    return fields.one("HangupCauseName", "HangupCause", "CallStatus") if status == "ended" else ""


def _number(raw: str) -> str:
    """Plivo writes the same number with and without its plus, in callbacks of one call. Short codes stay."""
    full = raw.isascii() and raw.isdigit() and len(raw) > 7 and not raw.startswith("0")
    return e164("+" + raw if full else raw)


def _extra_headers(parameters: Iterable[tuple[str, str]]) -> str:
    """Those parameters that fit: letters and digits only, 512 bytes in all. Plivo logs them."""
    fitting = ""
    for name, value in parameters:
        if not (name.isascii() and name.isalnum() and value.isascii() and value.isalnum()):
            continue
        longer = f"{fitting},{name}={value}" if fitting else f"{name}={value}"
        if len(longer) <= EXTRA_HEADERS_LIMIT:
            fitting = longer
    return fitting
