"""Signatures by Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.

`webhook-id` names the event and stays the same over all attempts: a receiver that has seen it may ignore the rest.
`webhook-timestamp` is that of the attempt; receivers refuse what is older than some minutes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from standardwebhooks.webhooks import Webhook

PREFIX = "whsec_"
SHORT = 24
"""Bytes: what the standard asks of a secret, at least."""


def secret_bytes(secret: str) -> bytes:
    """Return the key that a secret stands for. Raises ValueError if it is none."""
    if not secret.startswith(PREFIX):
        raise ValueError("no whsec_ in front")
    try:
        key = base64.b64decode(_padded(secret.removeprefix(PREFIX)), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if not key:
        raise ValueError("empty")
    return key


def _padded(text: str) -> str:
    bare = text.rstrip("=")
    return bare + "=" * (-len(bare) % 4)


class Signatures:
    """Signs for one endpoint. secrets: each signs, so that a receiver which has any of them can verify."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secrets)
        self._signers: tuple[Webhook, ...] = ()

    def headers(self, event_id: str, body: str, now: float) -> Mapping[str, str]:
        """Return the three headers of one attempt. now: unix seconds."""
        from standardwebhooks.webhooks import Webhook

        if not self._signers:
            self._signers = tuple(Webhook(secret_bytes(secret)) for secret in self._secrets)
        at = datetime.fromtimestamp(int(now), UTC)
        return {
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": " ".join(signer.sign(event_id, at, body) for signer in self._signers),
        }

    def __repr__(self) -> str:
        return f"Signatures({len(self._secrets)} secrets)"
