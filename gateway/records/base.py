"""What the rest of the gateway needs of the records: somewhere to note facts, and what a record is once it is read.

No database is imported here: a gateway that keeps no records never loads one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from gateway.pool.facts import Facts


class Records(Protocol):
    """Where what becomes known of calls is kept for good."""

    def note(self, facts: Facts) -> None:
        """Take all that is known of a session now. Never waits and never raises; the queue behind it is bounded."""


class NoRecords(Records):
    """Keeps nothing."""

    def note(self, facts: Facts) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One session, as the API shows it. Times are unix seconds, None where they are not known (yet).

    status: "queued", "ringing", "answered", "ending" (the bot is done, the call may go on) or "ended".
    end_reason: an `EndReason`, "" before the end. attempts: how often a worker was started. bot_start_ms: from the
    first stream's start to the bot's, None without a bot. machine: who picked up, "human", "machine" or "" (not known).
    """

    session_id: str
    call_id: str = ""
    carrier: str = ""
    direction: str = ""
    from_number: str = ""
    to_number: str = ""
    service_host: str = ""
    status: str = ""
    end_reason: str = ""
    created_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    hold_ms: int = 0
    bot_start_ms: int | None = None
    cold: bool = False
    attempts: int = 0
    streams: int = 0
    machine: str = ""
    recording: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def duration_s(self) -> float | None:
        """From answer to end in seconds, None unless both are known."""
        if self.answered_at is None or self.ended_at is None:
            return None
        return round(max(0.0, self.ended_at - self.answered_at), 3)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, by the contract's field names. Unknown is None, and times are RFC 3339 in UTC."""
        return {
            "session_id": self.session_id,
            "call_id": self.call_id or None,
            "carrier": self.carrier,
            "direction": self.direction,
            "from": self.from_number,
            "to": self.to_number,
            "service_host": self.service_host,
            "status": self.status,
            "end_reason": self.end_reason or None,
            "created_at": rfc3339(self.created_at),
            "answered_at": rfc3339(self.answered_at),
            "ended_at": rfc3339(self.ended_at),
            "duration_s": self.duration_s,
            "hold_ms": self.hold_ms,
            "bot_start_ms": self.bot_start_ms,
            "cold": self.cold,
            "attempts": self.attempts,
            "streams": self.streams,
            "machine": self.machine or None,
            "recording": self.recording or None,
            "body": dict(self.body),
        }


def rfc3339(seconds: float | None) -> str | None:
    """Write a unix time as RFC 3339, in UTC and whole milliseconds: "2026-01-31T12:00:00.000Z"."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which records are asked for; "" and None: any. since, until: unix seconds of `created_at`, until is exclusive.

    ended: whether the session has. cold: whether its first bot's worker had to be started; without a bot it is neither.
    bot_start_above, bot_start_below: milliseconds.
    """

    status: str = ""
    direction: str = ""
    carrier: str = ""
    service_host: str = ""
    from_number: str = ""
    to_number: str = ""
    since: float | None = None
    until: float | None = None
    ended: bool | None = None
    cold: bool | None = None
    bot_start_above: int | None = None
    bot_start_below: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, the newest first. next_cursor: for `RecordStore.page`, None if there are no more."""

    records: tuple[Record, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done to forget a number. recordings: of the sessions whose records were masked, "" where none is known.

    Every gateway of this database removes what it has of them, within seconds or when it starts.
    """

    recordings: Mapping[str, str]


class BadCursor(ValueError):
    """The cursor was not given by `RecordStore.page`."""


class RecordStore(Protocol):
    """Reads what is kept. Every method raises RecordsUnavailable where the database does not answer."""

    async def get(self, session_id: str, facts: Facts | None = None) -> Record | None:
        """Return the record of this session, or None. facts: what else is known of it."""

    async def page(self, filters: Filters, limit: int = 50, cursor: str | None = None, *, offset: int = 0) -> Page:
        """Return the newest records first, or those after a cursor. Raises BadCursor.

        Records that come meanwhile move no other from one page to the next. limit: 1 to 500.
        offset: records to skip; slow, as the database reads them, so prefer `cursor`.
        """

    async def count(self, filters: Filters) -> int:
        """Return how many records there are."""

    async def forget(self, number: str) -> Forgotten:
        """Mask this number (E.164, or as the carrier wrote it) and what was said of its calls, now and for good."""

    async def purge(self, before: float) -> tuple[str, ...]:
        """Delete the records of calls that began before this unix time. Returns the recordings that they named.

        Every gateway of this database removes those, as with `forget`.
        """
