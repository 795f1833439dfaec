"""Session ids and stream tokens: both are HMACs under the one secret, so that any node can make and check them.

A token is short (Exotel allows 600 characters of URL), holds no secret of the caller's, and says which session, service
and attempt its stream is of. Whether it was used before is the registry's to say: while that is away no stream is
admitted, see `streams.admission.admit`.
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
PREPARED_SESSION = f"{STATIC_SESSION}p"
"""What those begin with whose stream was prepared before there was a call: their token is for whichever comes first."""
WEBSOCKET = "websocket"
"""What stands for the carrier where there is none: a client of the user's own, which speaks the bot's wire."""
MAX_MOVES = 20
"""How often a call may be moved to another service: a flow that sends its calls round and round ends."""
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

    @property
    def prepared(self) -> bool:
        """It was given before there was a call, so no webhook of ours has led the carrier here."""
        return self.session.startswith(PREPARED_SESSION)

    @property
    def used_key(self) -> str:
        """The registry's key for a token without a claim: set once, by the stream that uses it."""
        return f"token:{self.session}:{self.expires}"


def prepared_token(carrier: str, service: str, expires: float) -> StreamToken:
    """Make the token of a new session that has no call yet. carrier: or WEBSOCKET."""
    return StreamToken(f"{PREPARED_SESSION}{secrets.token_hex(14)}", carrier, service, ON_HOLD, expires)


class Signer:
    """Makes and checks ids and tokens. keys: the first signs, all verify (rotation)."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        if not keys or not all(keys):
            raise ValueError("a signer needs at least one key, and no empty one")
        self._keys = keys

    def session_id(self, carrier: str, account: str, call_id: str) -> str:
        """The session of an inbound call: the same on every node, unguessable without the secret."""
        return _session_id(self._keys[0], carrier, account, call_id)

    def moved_session_id(self, root: str, moves: int) -> str:
        """The session of a call that has been moved to another service so many times. root: the call's first."""
        return _moved_id(self._keys[0], root, moves)

    def static_session_id(self, carrier: str, account: str, call_id: str) -> str:
        """The session of a static stream: never that of a call that a webhook has named.

        Any holder of a stream key can name any call's id, and must not get at that call by it. account: of the
        upgrade's signature, "" where a key opened the stream, so that no key reaches a signed stream's session either.
        """
        return _static_id(self._keys[0], carrier, account, call_id)

    def static_session_ids(self, carrier: str, account: str, call_id: str) -> tuple[str, ...]:
        """The same under each key that is still valid: of a stream that runs since before a rotation, too."""
        return tuple(_static_id(key, carrier, account, call_id) for key in self._keys)

    def owns(self, session: str, carrier: str, account: str, call_id: str) -> bool:
        """Whether this is a session of that call, under any key that is still valid."""
        for key in self._keys:
            root = _session_id(key, carrier, account, call_id)
            static = _static_id(key, carrier, account, call_id)
            moved = (_moved_id(key, root, moves) for moves in range(1, MAX_MOVES + 1))
            if any(hmac.compare_digest(own, session) for own in (root, static, *moved)):
                return True
        return False

    def call_mac(self, session: str, carrier: str) -> str:
        """Return what proves in a URL that we placed this session's call by this carrier: 22 characters."""
        return _short_mac(self._keys[0], "call", carrier, session)

    def placed(self, session: str, carrier: str, mac: str) -> bool:
        """Whether the MAC is that of a call that we placed. Constant time; never raises."""
        if not session or len(session) > MAX_TOKEN or not (session + mac).isascii():
            return False
        return self._verifies(mac, "call", carrier, session)

    def token(self, token: StreamToken) -> str:
        """The token as a URL path segment. A pure function of its arguments."""
        fields = _fields(token)
        return ".".join((*fields, _short_mac(self._keys[0], "stream", token.carrier, *fields)))

    def read(self, text: str, carrier: str, *, now: float) -> StreamToken | None:
        """The token if it is ours, for this carrier and not expired. The MAC takes constant time; never raises."""
        parts = text.split(".")
        if len(text) > MAX_TOKEN or len(parts) != 5 or not text.isascii():
            return None
        *fields, mac = parts
        if not self._verifies(mac, "stream", carrier, *fields):
            return None
        session, service, attempt, expires = fields
        if int(expires, 36) / 1000 < now:
            return None
        return StreamToken(session, carrier, _unb64(service).decode(), int(attempt), int(expires, 36) / 1000)

    def _verifies(self, mac: str, *fields: str) -> bool:
        """Whether the MAC is that of these fields under any key. All are tried: the time says nothing of which."""
        return any([hmac.compare_digest(_short_mac(key, *fields), mac) for key in self._keys])  # noqa: C419


def _session_id(key: bytes, carrier: str, account: str, call_id: str) -> str:
    return _mac(key, "session", carrier, account, call_id).hex()[:32]


def _static_id(key: bytes, carrier: str, account: str, call_id: str) -> str:
    return STATIC_SESSION + _mac(key, "static", carrier, account, call_id).hex()[:30]


def _moved_id(key: bytes, root: str, moves: int) -> str:
    return _mac(key, "moved", root, str(moves)).hex()[:32]


def _short_mac(key: bytes, *fields: str) -> str:
    return _b64(_mac(key, *fields)[:16])


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
