"""Telnyx by TeXML: TwiML-like markup, and Ed25519 over timestamp and body.

The signature does not cover the URL, so a body that was signed for one route may be shown to another for five
minutes: what a webhook asks for must follow from its body, and only POST is believed (with GET nothing at all
would be signed). Who needs GET, or signed bytes that a proxy rewrites, sets `verify = "key"`.

Not the SDK's `unwrap`: it takes 1.2 s to import, verifies text instead of bytes and parses what it has
verified.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from gateway.carriers import telnyx_rest
from gateway.carriers.base import (
    Capabilities,
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
from gateway.carriers.form import LIMITS, Fields, WebhookSchema, offered_keys, read
from gateway.carriers.orders import CallOrder, CallState, CarrierRefusal, Placed, RestCall
from gateway.carriers.parameters import KEY, with_query
from gateway.carriers.plugin import CarrierPlugin
from gateway.carriers.secrets import Secrets, accounts_with_secret, listed, secret_of
from gateway.carriers.twiml import CALL_STATUS, CORE_FIELDS, KNOWN_FIELDS, KNOWN_PREFIXES, OUTCOME, TwimlCarrier
from serializers.base import MediaFormat, Serializer
from serializers.telnyx import TelnyxSerializer

if TYPE_CHECKING:
    from nacl.signing import VerifyKey

SIGNATURE = "telnyx-signature-ed25519"
TIMESTAMP = "telnyx-timestamp"
TOLERANCE_SECONDS = 300
"""Both ways, as in the SDK (lib/webhook_verification.py)."""
_SIGNATURE = re.compile("[A-Za-z0-9+/]{86}==")
"""Base64 of 64 bytes: nothing else can be a signature."""

_CODECS = {"mulaw": "PCMU", "alaw": "PCMA", "l16": "L16"}
_L16_RATES = (8000, 16000, 24000)


def _public_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    for key in keys:
        try:
            sound = len(base64.b64decode(key, validate=True)) == 32
        except ValueError:
            sound = False
        if not sound:
            raise PydanticCustomError("public_key", "is not a public key as the portal shows it: 32 bytes in base64")
    return keys


class Account(AccountConfig):
    """One Telnyx account, or one TeXML application of it."""

    api_key: Secrets = ()
    public_key: Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(_public_keys)] = ()
    webhook_secret: Secrets = ()
    connection_id: AccountId = ""
    """The TeXML application's id: needed to dial out; where it is set, other applications are foreign."""

    @property
    def id(self) -> str:
        return self.connection_id or "default"

    def lacks_to_dial(self) -> str:
        return "" if self.api_key and self.connection_id else "connection_id" if self.api_key else "api_key"


class Config(CarrierConfig[Account]):
    """`[carriers.telnyx]`."""

    verify: Literal["signature", "key"] = "signature"
    """How webhooks are verified: "key" wants `webhook_secret` as `?key=` or as the last segment of the path.
    """

    def lacks(self) -> str:
        needed = "public_key" if self.verify == "signature" else "webhook_secret"
        if self.accounts and all(getattr(account, needed) for account in self.accounts):
            return ""
        return needed


class TelnyxCarrier(TwimlCarrier):
    """See the base class."""

    name: ClassVar[str] = "telnyx"
    serializer: ClassVar[type[Serializer]] = TelnyxSerializer
    can: ClassVar[Capabilities] = Capabilities(
        url_signed=False, place_calls=True, machine_detection=True, cancel_ringing=True
    )
    name_fields: ClassVar[tuple[str, ...]] = (*TwimlCarrier.name_fields, "CallerId")
    schema: ClassVar[WebhookSchema] = WebhookSchema(
        core=CORE_FIELDS,
        # TeXML's CallSid is the call_control_id that the stream's `start` names.
        call_id=("CallSid", "CallControlId", "CallSidLegacy"),
        ids=TelnyxSerializer.ids,
        known=KNOWN_FIELDS,
        known_prefixes=KNOWN_PREFIXES,
    )

    def __init__(self, config: Config | None, *, public_url: str, dev: bool = False) -> None:
        super().__init__(config, public_url=public_url, dev=dev)
        from nacl.signing import VerifyKey

        self.accounts: tuple[Account, ...] = config.accounts if config else ()
        self._by_key = config is not None and config.verify == "key"
        self._verifiers = [
            (account, [VerifyKey(base64.b64decode(key)) for key in account.public_key]) for account in self.accounts
        ]

    def verify(self, request: HttpRequest, *, now: float) -> Verified | Refused:
        if self.unauthenticated:
            return Verified()
        signers = self._key_holders(request) if self._by_key else self._signers(request, now)
        if isinstance(signers, Refused):
            return signers
        fields = read(request, self.schema)
        if isinstance(fields, Refused):
            return fields
        connection = fields.one("ConnectionId") or _event(fields).get("connection_id", "")
        for account in signers:
            if not connection or account.connection_id in ("", connection):
                return Verified(account.id, nonce=None if self._by_key else (_decoded(request).hex(), ""))
        return Refused("foreign_account")

    def _signers(self, request: HttpRequest, now: float) -> list[Account] | Refused:
        """Find the accounts whose key made the signature.

        More than one, where several are applications of one account.
        """
        signature, timestamp = request.headers.get(SIGNATURE, ""), request.headers.get(TIMESTAMP, "")
        if not any(keys for _, keys in self._verifiers):
            return Refused("not_configured")
        if not signature or not timestamp:
            return Refused("missing_signature")
        if request.method != "POST":
            return Refused("bad_method")
        if len(request.body) > LIMITS.body:
            return Refused("too_large")
        if not _SIGNATURE.fullmatch(signature) or not re.fullmatch("[0-9]{1,12}", timestamp):
            return Refused("bad_signature")
        if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
            return Refused("stale")
        message = timestamp.encode() + b"|" + request.body
        signers = [account for account, keys in self._verifiers if _signed_by(keys, message, _decoded(request))]
        return signers or Refused("bad_signature")

    def _key_holders(self, request: HttpRequest) -> list[Account] | Refused:
        """The accounts whose `webhook_secret` the URL shows."""
        if not any(account.webhook_secret for account in self.accounts):
            return Refused("not_configured")
        given = (offered_keys(request).query, request.path.rstrip("/").rpartition("/")[2][: LIMITS.url])
        return accounts_with_secret(self.accounts, given) or Refused("bad_key")

    def callback_url(self, url: str, account: str) -> str:
        secret = secret_of(self.accounts, account) if self._by_key else ""
        return with_query(url, KEY, secret) if secret else url

    def place_call(self, order: CallOrder, account: str) -> RestCall | None:
        owner = self._owner(account)
        if owner is None or owner.lacks_to_dial():
            return None
        return telnyx_rest.place(*self._login(owner), owner.connection_id, order)

    def read_placed(self, status: int, body: bytes, headers: Mapping[str, str]) -> Placed | CarrierRefusal:
        return telnyx_rest.read_placed(status, body, headers, self.serializer.ids)

    def hang_up_request(self, call_id: str, account: str) -> RestCall | None:
        owner = self._owner(account)
        return telnyx_rest.hang_up(*self._login(owner), call_id) if owner else None

    def ask_call_request(self, call_id: str, account: str) -> RestCall | None:
        owner = self._owner(account)
        return telnyx_rest.ask(*self._login(owner), call_id) if owner else None

    def read_call(self, status: int, body: bytes) -> CallState:
        return telnyx_rest.read_state(status, body)

    def _owner(self, account: str) -> Account | None:
        """The account, None without a key to its REST API."""
        owner = self.config.account(account) if self.config is not None else None
        return owner if owner is not None and owner.api_key else None

    def _login(self, owner: Account) -> tuple[str, str]:
        """Root and key of the REST API."""
        base = self.rest_url(owner, "https://api.telnyx.com").removesuffix("/v2")  # as their documents write it
        return base, owner.api_key[0].get_secret_value()

    def kind_of(self, fields: Fields) -> Kind:
        call_status = fields.one("CallStatus")
        if fields.one("StreamEvent") or (fields.one("StreamSid") and not call_status):
            return Kind.STREAM
        source = fields.one("CallbackSource")
        if source:
            return Kind.STATUS if source == "call-progress-events" else Kind.OTHER  # call-cost-events
        if in_table(CALL_STATUS, call_status) == "ended" or (fields.one("AnsweredBy") and not call_status):
            return Kind.STATUS
        # The fields of the first fetch are not documented whole: what names a call and is no callback wants
        # answers.
        return Kind.VOICE

    def ended_by(self, fields: Fields) -> tuple[str, str]:
        word, cause = fields.one("CallStatus"), fields.one("HangupCause")
        return cause or word, _HANGUP_CAUSES.get(cause) or in_table(OUTCOME, word)

    def attestation(self, fields: Fields) -> Stir | None:
        grades: Mapping[str, Stir] = {"A": "A", "B": "B", "C": "C"}
        grade = grades.get(fields.one("ShakenStirAttestation").upper())
        if grade is not None:  # a call without one is not validated either
            return "failed" if fields.one("ShakenStirValidated").lower() == "false" else grade
        # https://developers.telnyx.com/docs/voice/stir-shaken/sip-header-parameters: without a letter it is an A.
        return "A" if fields.one("StirVerstat").lower() == "tn-validation-passed" else super().attestation(fields)

    def parse_foreign(self, fields: Fields) -> Webhook | None:
        """An event of Call Control, the other API: it wants commands, not markup."""
        if not fields.tree:
            return None
        payload = _event(fields)
        data = fields.tree.get("data")
        event_type = data.get("event_type") if isinstance(data, dict) else None
        if not isinstance(event_type, str):
            return Webhook(Kind.OTHER, "")
        call_id = payload.get("call_control_id", "")
        return Webhook(
            kind=Kind.FOREIGN,
            call_id=call_id if self.schema.ids.is_call(call_id) else "",
            note=(
                f"Call Control event {re.sub('[^a-z0-9._]', '?', event_type[:60])}: "
                "assign the number to a TeXML application, we use TeXML"
            ),
        )

    def negotiate(self, wanted: MediaFormat) -> MediaFormat:
        if wanted.encoding == "l16":
            rate = wanted.sample_rate if wanted.sample_rate in _L16_RATES else 16000
            return MediaFormat("l16", rate)
        return MediaFormat("alaw" if wanted.encoding == "alaw" else "mulaw", 8000)

    def stream_attributes(self, answer: StreamAnswer) -> Mapping[str, str]:
        media = self.negotiate(answer.media)
        attributes = {
            "url": answer.url,
            "track": "inbound_track",  # both_tracks echoes our own audio
            "bidirectionalMode": "rtp",  # the default, mp3, drops G.711 without a word
            "bidirectionalCodec": _CODECS[media.encoding],
            "bidirectionalSamplingRate": str(media.sample_rate),
            # We lead the call back by <Redirect>; a second `start` would be in its way.
            "enableReconnect": "false",
        }
        if media.encoding == "l16":
            # Inbound is the leg's own codec and `start` names it; only wideband has to be asked for.
            attributes["codec"] = "L16"
        return attributes


# Telnyx says "completed" of every call that is over; how, is in HangupCause.
_HANGUP_CAUSES = {
    "user_busy": "busy",
    "call_rejected": "busy",  # declined; there is no other word for it on the other carriers
    "no_answer": "no-answer",
    "timeout": "no-answer",
    "originator_cancel": "canceled",
    "not_found": "failed",
}


def _decoded(request: HttpRequest) -> bytes:
    """Decode the signature, which is its own nonce.

    Telnyx sends no other. Its bytes, as several texts decode to the same ones (RFC 4648, section 3.5). Two fetches in
    the same second may be the same bytes, at /voice and at /resume, so that it is not bound to the URL. Raises
    ValueError for what `_SIGNATURE` does not match.
    """
    return base64.b64decode(request.headers[SIGNATURE], validate=True)


def _signed_by(keys: Sequence[VerifyKey], message: bytes, signature: bytes) -> bool:
    from nacl.exceptions import CryptoError

    for key in keys:
        try:
            key.verify(message, signature)
        except (CryptoError, ValueError):  # forged; or not 64 bytes
            continue
        return True
    return False


def _event(fields: Fields) -> dict[str, str]:
    """The text members of a Call Control event's payload."""
    data: Any = fields.tree.get("data")
    payload = data.get("payload") if isinstance(data, dict) else None
    if not isinstance(payload, dict):
        return {}
    return {name: value for name, value in payload.items() if isinstance(value, str)}


PLUGIN = CarrierPlugin(
    carrier=TelnyxCarrier,
    config=Config,
    env={"TELNYX_API_KEY": "api_key", "TELNYX_PUBLIC_KEY": "public_key"},
    bot_env=("TELNYX_API_KEY",),
    simulator="gateway.simulator.telnyx:SIMULATOR",
)
