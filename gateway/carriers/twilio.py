"""Twilio: TwiML, and HMAC over URL and form.

The SDK computes signatures, we choose the URL, the secret and the way to compare (see `_check`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field, SecretStr

from gateway.carriers import words
from gateway.carriers.base import Capabilities, HttpRequest, Kind, Refused, RestCall, StreamAnswer, Verified
from gateway.carriers.config import AccountConfig, CarrierConfig
from gateway.carriers.form import Fields, has_long_url, is_json, read, read_query
from gateway.carriers.secrets import Secrets, same
from gateway.carriers.twiml import CORE_FIELDS, TwimlCarrier
from gateway.carriers.url import port_forms, signed_url, socket_url

SIGNATURE = "x-twilio-signature"
SETTINGS = "x-twilio-webhooks-signature-settings"
_MAX_SIGNATURE = 100  # base64 of SHA-256 has 44 characters


class Account(AccountConfig):
    """One Twilio account or subaccount (each signs with its own token)."""

    account_sid: str = Field(min_length=1)
    auth_token: Secrets
    shared_keys: Mapping[str, Secrets] = {}
    """For webhooks signed with a SharedKey (HMAC_SHA256): key id to secret."""

    @property
    def id(self) -> str:
        return self.account_sid


class Config(CarrierConfig[Account]):
    """`[carriers.twilio]`."""


class TwilioCarrier(TwimlCarrier):
    """See the base class."""

    name: ClassVar[str] = "twilio"
    # 15 s in all, over retries (the page on webhook connection overrides).
    can: ClassVar[Capabilities] = Capabilities(webhook_seconds=15.0, upgrade_signed=True)

    def __init__(self, config: Config | None, *, public_url: str, dev: bool = False) -> None:
        super().__init__(config, public_url=public_url, dev=dev)
        self.accounts: tuple[Account, ...] = config.accounts if config else ()
        # Twilio signs sometimes with the port and sometimes without, so the SDK tries both. Ours knows that
        # wss has 443 (the SDK's add_port gives it 80) and that an IPv6 host is full of colons.
        self._bases = port_forms(public_url)
        self._socket_bases = port_forms(socket_url(public_url))

    def warm_up(self) -> None:
        if not self.open:
            import twilio.request_validator  # noqa: F401 - it is loaded, which is all

    def verify(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        settled = self._settled(request)
        if settled:
            return settled
        fields = read(request, once=CORE_FIELDS)
        if isinstance(fields, Refused):
            return fields
        signed = fields
        if request.method == "GET":
            signed = Fields()  # they are in the URL, which is signed whole
        elif is_json(request):
            # The URL is signed, and the body by its hash in the URL. Without that the body would be anybody's
            # (and the SDK raises TypeError, twilio-python issue 885).
            if not _body_hash_matches(request):
                return Refused("bad_body_hash")
            signed = Fields()
        return self._check(request, self._bases, signed, fields.one("AccountSid"))

    def verify_upgrade(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        """Signed over the wss URL without parameters (twilio-aspnet issue 162). It names no account."""
        return self._settled(request) or self._check(request, self._socket_bases, Fields(), "")

    def _settled(self, request: HttpRequest) -> Verified | Refused | None:
        """What can be said before any work is done."""
        if self.open:
            return Verified()
        signature = request.headers.get(SIGNATURE, "")
        if not self.accounts:
            return Refused("not_configured")
        if not signature:
            return Refused("missing_signature")
        if len(signature) > _MAX_SIGNATURE or len(request.headers.get(SETTINGS, "")) > 4 * _MAX_SIGNATURE:
            return Refused("bad_signature")
        return Refused("too_large") if has_long_url(request) else None

    def _check(
        self, request: HttpRequest, bases: Iterable[str], params: Fields, account_sid: str
    ) -> Verified | Refused:
        accounts = [account for account in self.accounts if account_sid in ("", account.account_sid)]
        if not accounts:
            return Refused("foreign_account")
        settings = _signature_settings(request.headers.get(SETTINGS, ""))
        urls = [signed_url(base, request) for base in bases]
        signature = request.headers[SIGNATURE]
        known = False
        for account in accounts:
            secrets = account.auth_token
            if settings:  # a SharedKey signed it: the auth token does not count then
                secrets = account.shared_keys.get(settings.get("key", ""), ())
            known = known or bool(secrets)
            if _signed_by(secrets, urls, params, signature, settings.get("algorithm", "")):
                return Verified(account.id)
        return Refused("bad_signature" if known else "unknown_key")

    def hang_up(self, call_id: str, account: str) -> RestCall | None:
        owner = self.config.account(account) if self.config is not None else None
        if owner is None or not owner.auth_token:
            return None
        sid, base = owner.account_sid, self.rest_url(owner, "https://api.twilio.com")
        return RestCall(
            "POST",
            f"{base}/2010-04-01/Accounts/{sid}/Calls/{quote(call_id, safe='')}.json",
            auth=(sid, owner.auth_token[0].get_secret_value()),
            form={"Status": "completed"},
            done=("20404", "21220"),  # no such call; not in progress any more
        )

    def kind_of(self, fields: Fields) -> Kind:
        call_status = fields.one("CallStatus")
        if fields.one("StreamEvent") or (fields.one("StreamSid") and not call_status):
            return Kind.STREAM
        if fields.one("CallbackSource"):  # "call-progress-events": a status callback, whatever URL it came to
            return Kind.STATUS
        if call_status in ("ringing", "in-progress"):
            return Kind.VOICE
        if words.call_status(call_status) or fields.one("AnsweredBy"):  # asynchronous AMD has no CallStatus
            return Kind.STATUS
        return Kind.OTHER

    def stream_attributes(self, answer: StreamAnswer) -> Mapping[str, str]:
        # Twilio cuts a query off, or fails with 31920; what has to be said goes into the path and
        # <Parameter>.
        return {"url": answer.url.partition("?")[0]}


def _signature_settings(header: str) -> dict[str, str]:
    """`key=<id>,algorithm=HMAC_SHA256` as a dict; {} where there is no such header: HMAC_SHA1 by the auth
    token.
    """
    pairs = (part.partition("=") for part in header.split(","))
    return {name.strip(): value.strip() for name, separator, value in pairs if separator or name.strip()}


def _signed_by(
    secrets: Iterable[SecretStr], urls: Iterable[str], params: Fields, signature: str, algorithm: str
) -> bool:
    """Whether any of the secrets made the signature, over any form of the URL."""
    found = False
    for secret in secrets:
        for url in urls:
            computed = _compute(secret.get_secret_value(), url, params, algorithm)
            found |= computed != "" and same(computed, signature)
    return found


def _compute(secret: str, url: str, params: Fields, algorithm: str) -> str:
    from twilio.request_validator import RequestValidator

    # A plain name for SHA-1, as the SDK knows the algorithm argument only since 9.13.
    extra: tuple[Any, ...] = (algorithm,) if algorithm.upper() not in ("", "HMAC_SHA1") else ()
    try:
        return str(RequestValidator(secret).compute_signature(url, params, *extra))
    except Exception:  # whatever a hostile request makes the SDK raise, it is not signed
        return ""


def _body_hash_matches(request: HttpRequest) -> bool:
    query = read_query(request.query)
    claimed = query.getlist("bodySHA256") if isinstance(query, Fields) else []
    return len(claimed) == 1 and same(sha256(request.body).hexdigest(), claimed[0].lower())
