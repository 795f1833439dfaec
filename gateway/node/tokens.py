"""Session ids and stream tokens: both are HMACs under the one secret, so that any node can make and check them.

A token is short (Exotel allows 600 characters of URL), holds no secret of the caller's, and says everything that is
needed to admit its stream while the registry is away. That it is used only once is the registry's affair.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

MAX_TOKEN = 400
STATIC_SESSION = "s-"
"""What the session ids of static streams begin with; all others are hexadecimal."""
ON_HOLD = 0
"""The attempt of a token that was given without a claim: its caller waits in the stream for a slot."""


@dataclass(frozen=True, slots=True)
class StreamToken:
    """What a stream token says. expires: unix time, whole milliseconds kept."""

    session: str
    carrier: str
    service: str
    attempt: int
    expires: float


class Signer:
    """Makes and checks ids and tokens. secrets: the first signs, all verify (rotation)."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        if not keys or not all(keys):
            raise ValueError("a signer needs at least one key, and no empty one")
        self._keys = keys

    def session_id(self, carrier: str, account: str, call_id: str) -> str:
        """The session of an inbound call: the same on every node, unguessable without the secret."""
        return self._mac(self._keys[0], "session", carrier, account, call_id).hex()[:32]

    def static_session_id(self, carrier: str, account: str, call_id: str) -> str:
        """The session of a static stream: never that of a call that a webhook has named.

        Any holder of a stream key can name any call's id, and must not get at that call by it. account: of the
        upgrade's signature, "" where a key opened the stream, so that no key reaches a signed stream's session either.
        """
        return _static(self._mac(self._keys[0], "static", carrier, account, call_id))

    def owns(self, session: str, carrier: str, account: str, call_id: str) -> bool:
        """Whether this is a session of that call, under any key that is still valid."""
        return any(
            hmac.compare_digest(own, session)
            for key in self._keys
            for own in (
                self._mac(key, "session", carrier, account, call_id).hex()[:32],
                _static(self._mac(key, "static", carrier, account, call_id)),
            )
        )

    @staticmethod
    def random_id() -> str:
        """The session of a call that has no id yet: our own dials."""
        return secrets.token_hex(16)

    def token(self, token: StreamToken) -> str:
        """The token as a URL path segment. A pure function of its arguments."""
        fields = _fields(token)
        mac = self._mac(self._keys[0], "stream", token.carrier, *fields)
        return ".".join((*fields, _b64(mac[:16])))

    def read(self, text: str, carrier: str, *, now: float) -> StreamToken | None:
        """The token if it is ours, for this carrier and not expired. Constant time where it matters; never raises."""
        parts = text.split(".")
        if len(text) > MAX_TOKEN or len(parts) != 5 or not text.isascii():
            return None
        *fields, mac = parts
        if not any(
            hmac.compare_digest(_b64(self._mac(key, "stream", carrier, *fields)[:16]), mac) for key in self._keys
        ):
            return None
        session, service, attempt, expires = fields
        if int(expires, 36) / 1000 < now:
            return None
        return StreamToken(session, carrier, _unb64(service).decode(), int(attempt), int(expires, 36) / 1000)

    @staticmethod
    def _mac(key: bytes, *fields: str) -> bytes:
        # Length-prefixed: no two lists of fields give the same message.
        message = b"".join(len(f := field.encode()).to_bytes(4, "big") + f for field in fields)
        return hmac.digest(key, message, hashlib.sha256)


def _fields(token: StreamToken) -> tuple[str, str, str, str]:
    return (
        token.session,
        _b64(token.service.encode()),
        str(token.attempt),
        _base36(round(token.expires * 1000)),
    )


def _static(mac: bytes) -> str:
    return STATIC_SESSION + mac.hex()[:30]


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, rest = divmod(number, 36)
        text = digits[rest] + text
    return text or "0"
