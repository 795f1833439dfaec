"""Twilio: TwiML, and HMAC over URL and form.

The signature is our own implementation of the SDK's request_validator (9.13): that one cannot sign bytes that are not
UTF-8, gives wss the port 80, and raises on a JSON body without its hash (twilio-python issue 885).
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import ClassVar

from pydantic import Field, SecretStr

from gateway.carriers import twilio_rest
from gateway.carriers.base import (
    Capabilities,
    HttpRequest,
    Kind,
    Refused,
    StreamAnswer,
    Verified,
    in_table,
)
from gateway.carriers.config import AccountConfig, AccountId, CarrierConfig
from gateway.carriers.form import Fields, WebhookSchema, has_long_url, is_json, read, read_query, wire
from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RestCall
from gateway.carriers.plugin import CarrierPlugin
from gateway.carriers.secrets import Secrets, same
from gateway.carriers.twiml import CALL_STATUS, CORE_FIELDS, KNOWN_FIELDS, KNOWN_PREFIXES, TwimlCarrier
from gateway.carriers.url import port_forms, signed_url, socket_url
from serializers.base import Serializer
from serializers.twilio import TwilioSerializer

SIGNATURE = "x-twilio-signature"
SETTINGS = "x-twilio-webhooks-signature-settings"
_SIGNATURES = re.compile("[A-Za-z0-9+/]{27}=|[A-Za-z0-9+/]{43}=")
"""Base64 of a SHA-1 or a SHA-256: nothing else can be a signature."""
_MAX_SETTINGS = 400
_DIGESTS = {"": "sha1", "HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}


class Account(AccountConfig):
    """One Twilio account or subaccount (each signs with its own token)."""

    account_sid: AccountId = Field(min_length=1)
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
    serializer: ClassVar[type[Serializer]] = TwilioSerializer
    can: ClassVar[Capabilities] = Capabilities(
        upgrade_signed=True, place_calls=True, machine_detection=True, cancel_ringing=True
    )
    # The same fields can be written in many ways, all under one signature.
    replay_header: ClassVar[str] = SIGNATURE
    list_headers: ClassVar[frozenset[str]] = frozenset({SETTINGS})
    schema: ClassVar[WebhookSchema] = WebhookSchema(
        core=CORE_FIELDS,
        call_id=("CallSid",),
        ids=TwilioSerializer.ids,
        known=KNOWN_FIELDS,
        known_prefixes=KNOWN_PREFIXES,
    )

    def __init__(self, config: Config | None, *, public_url: str, dev: bool = False) -> None:
        super().__init__(config, public_url=public_url, dev=dev)
        self.accounts: tuple[Account, ...] = config.accounts if config else ()
        # Twilio signs sometimes with the port and sometimes without, so the SDK tries both. Ours knows that
        # wss has 443 (the SDK's add_port gives it 80) and that an IPv6 host is full of colons.
        self._bases = port_forms(public_url)
        self._socket_bases = port_forms(socket_url(public_url))

    def verify(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        settled = self._settled(request)
        if settled:
            return settled
        if request.method == "POST" and is_json(request):
            return self._verify_json(request)
        fields = read(request, self.schema)
        if isinstance(fields, Refused):
            return fields
        signed = fields if request.method == "POST" else Fields()  # of a GET they are in the URL, which is signed whole
        return self._check(request, self._bases, signed, fields.one("AccountSid"))

    def _verify_json(self, request: HttpRequest) -> Verified | Refused:
        """Verify the URL's signature, and the body by its hash in the URL.

        The body is read only when both are right.
        """
        if not _body_hash_matches(request):
            return Refused("bad_body_hash")
        verified = self._check(request, self._bases, Fields(), "")
        if isinstance(verified, Refused):
            return verified
        fields = read(request, self.schema)
        if isinstance(fields, Refused):
            return fields
        return verified if fields.one("AccountSid") in ("", verified.account) else Refused("foreign_account")

    def verify_upgrade(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        """Verify the signature over the wss URL without parameters.

        See twilio-aspnet issue 162. It names no account.
        """
        return self._settled(request) or self._check(request, self._socket_bases, Fields(), "")

    def _settled(self, request: HttpRequest) -> Verified | Refused | None:
        """What can be said before any work is done."""
        if self.unauthenticated:
            return Verified()
        signature = request.headers.get(SIGNATURE, "")
        if not self.accounts:
            return Refused("not_configured")
        if not signature:
            return Refused("missing_signature")
        if not _SIGNATURES.fullmatch(signature) or len(request.headers.get(SETTINGS, "")) > _MAX_SETTINGS:
            return Refused("bad_signature")
        return Refused("too_large") if has_long_url(request) else None

    def _check(
        self, request: HttpRequest, bases: Iterable[str], params: Fields, account_sid: str
    ) -> Verified | Refused:
        accounts = [account for account in self.accounts if account_sid in ("", account.account_sid)]
        if not accounts:
            return Refused("foreign_account")
        settings = _signature_settings(request.headers.get(SETTINGS, ""))
        form = _form_to_sign(params)
        signed = [wire(signed_url(base, request)) + form for base in bases]
        signature = request.headers[SIGNATURE]
        known = False
        for account in accounts:
            secrets = account.auth_token
            if settings:  # a SharedKey signed it: the auth token does not count then
                secrets = account.shared_keys.get(settings.get("key", ""), ())
            known = known or bool(secrets)
            if _signed_by(secrets, signed, signature, settings.get("algorithm", "")):
                return Verified(account.id)
        return Refused("bad_signature" if known else "unknown_key")

    def place_call(self, order: CallOrder, account: str) -> RestCall | None:
        login = self._login(account)
        return twilio_rest.place(*login, order) if login else None

    def read_placed(self, status: int, body: bytes, headers: Mapping[str, str]) -> Placed | CarrierRefusal:
        return twilio_rest.read_placed(status, body, headers, self.serializer.ids)

    def hang_up_request(self, call_id: str, account: str) -> RestCall | None:
        login = self._login(account)
        return twilio_rest.hang_up(*login, call_id) if login else None

    def ask_call_request(self, call_id: str, account: str) -> RestCall | None:
        login = self._login(account)
        return twilio_rest.ask(*login, call_id) if login else None

    def read_call(self, status: int, body: bytes) -> CallState:
        return twilio_rest.read_state(status, body)

    def _login(self, account: str) -> tuple[str, str, str] | None:
        """Root, user and password of the REST API, None where we have none."""
        owner = self.config.account(account) if self.config is not None else None
        if owner is None or not owner.auth_token:
            return None
        base = self.rest_url(owner, "https://api.twilio.com")
        return base, owner.account_sid, owner.auth_token[0].get_secret_value()

    def kind_of(self, fields: Fields) -> Kind:
        call_status = fields.one("CallStatus")
        if fields.one("StreamEvent") or (fields.one("StreamSid") and not call_status):
            return Kind.STREAM
        if fields.one("CallbackSource"):  # "call-progress-events": a status callback, whatever URL it came to
            return Kind.STATUS
        if call_status in ("ringing", "in-progress"):
            return Kind.VOICE
        if in_table(CALL_STATUS, call_status) or fields.one("AnsweredBy"):  # asynchronous AMD has no CallStatus
            return Kind.STATUS
        return Kind.OTHER

    def stream_attributes(self, answer: StreamAnswer) -> Mapping[str, str]:
        # Twilio cuts a query off, or fails with 31920; what has to be said goes into the path and
        # <Parameter>.
        return {"url": answer.url.partition("?")[0]}


def _signature_settings(header: str) -> dict[str, str]:
    """Read the header of the signature's settings.

    `key=<id>,algorithm=HMAC_SHA256`; {} where there is no such header: HMAC_SHA1 by the auth token.
    """
    pairs = (part.partition("=") for part in header.split(","))
    return {name.strip(): value.strip() for name, separator, value in pairs if separator or name.strip()}


def _signed_by(secrets: Iterable[SecretStr], signed: Iterable[bytes], signature: str, algorithm: str) -> bool:
    """Say whether any of the secrets made the signature.

    Over any form of what may have been signed.
    """
    digest = _DIGESTS.get(algorithm.upper())
    if digest is None:
        return False
    found = False
    for secret in secrets:
        for message in signed:
            computed = base64.b64encode(hmac.digest(secret.get_secret_value().encode(), message, digest)).decode()
            found |= same(computed, signature)
    return found


def _form_to_sign(params: Fields) -> bytes:
    """Join what the form adds to the signed URL.

    Each name and value, sorted, one of several equal ones once.

    As long as the form at most, as a name that has several values came as often.
    """
    return b"".join(wire(name) + wire(value) for name in sorted(params) for value in sorted(set(params.getlist(name))))


def _body_hash_matches(request: HttpRequest) -> bool:
    query = read_query(request.query)
    claimed = query.getlist("bodySHA256") if isinstance(query, Fields) else []
    return len(claimed) == 1 and same(sha256(request.body).hexdigest(), claimed[0].lower())


PLUGIN = CarrierPlugin(
    carrier=TwilioCarrier,
    config=Config,
    env={"TWILIO_ACCOUNT_SID": "account_sid", "TWILIO_AUTH_TOKEN": "auth_token"},
    bot_env=("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
    simulator="gateway.simulator.twilio:SIMULATOR",
)
