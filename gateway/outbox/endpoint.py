"""An endpoint of `[[events]]`: where events go, which of them, and how it is called in the database and in logs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.outbox.signing import Signatures
from gateway.records.events import EVENT_TYPES


@dataclass(frozen=True, slots=True)
class Endpoint:
    """types: the events that it is sent."""

    url: str = field(repr=False)  # there may be a password in it
    signatures: Signatures
    types: tuple[str, ...] = EVENT_TYPES

    @classmethod
    def of(cls, url: str, secrets: Sequence[str], types: Sequence[str] = ()) -> Endpoint:
        """Make one. types: events to send; empty for all of them."""
        return cls(url, Signatures(secrets), tuple(types) or EVENT_TYPES)

    @property
    def name(self) -> str:
        """Its host and a digest of its URL: the same on all nodes and after a restart, and no secret."""
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:8]
        return f"{urlsplit(self.url).hostname or ''}#{digest}"
