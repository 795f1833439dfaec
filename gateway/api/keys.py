"""Keys to the API: who calls, and what they may do. A key has a name, for the audit log, and scopes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from pydantic import SecretStr

Scope: TypeAlias = Literal["calls:read", "calls:write", "start", "admin"]
"""calls:read: calls and recordings. calls:write: dial, and control calls. start: `/start`. admin: forget a number."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
MAX_HEADER = 512
"""Characters of a header that may be a key."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. name: what the audit log calls it. secrets: several while it is being rotated."""

    name: str
    scopes: frozenset[Scope]
    secrets: tuple[SecretStr, ...] = field(repr=False)


class ApiKeys:
    """All keys. Without any the API is closed."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        # Digests of one length: comparing them tells nothing of how long a key is.
        self._keys = [(_digest(secret.get_secret_value()), key) for key in keys for secret in key.secrets]

    def find(self, header: str) -> ApiKey | None:
        """Return the key that an Authorization header bears; None for no key or a wrong one.

        All keys are compared, so that the time tells nothing.
        """
        scheme, _, offered = header[:MAX_HEADER].partition(" ")
        digest, found = _digest(offered.strip()), None
        for own, key in self._keys:
            if hmac.compare_digest(own, digest):
                found = key
        return found if scheme.lower() == "bearer" else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
