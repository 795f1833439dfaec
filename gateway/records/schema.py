"""The tables of the records, as SQLAlchemy Core knows them. What makes them is in `migrations`: keep both in step.

calls: one row for a session, the columns of `row.CallRow` and what is derived of them for filters. outbox: what is to
be told of calls, written in the transaction that changes the call. deliveries: one row for each endpoint that an
outbox row is for. endpoints: until when each has a row for all that it is told of. nodes: which processes live, by
their own word. removals: calls whose recordings every node is to remove. Times are unix seconds, 0 or NULL for none.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData()

_ID = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite counts an INTEGER PRIMARY KEY only."""


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _time(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default="0")


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=false())


calls = Table(
    "calls",
    metadata,
    Column("session_id", Text, primary_key=True),
    *map(_text, ("call_id", "carrier", "account", "direction", "from_number", "to_number", "service_host")),
    _text("progress"),  # of the facts; `status` is the record's
    *map(_text, ("end_reason", "outcome")),
    *map(_time, ("created", "answered", "ended", "call_ended")),
    _number("ended_streams"),
    _number("hold_ms"),
    _number("bot_start_ms"),
    _flag("cold"),
    *map(_number, ("starts", "streams", "moves")),
    *map(_text, ("node", "root", "next_kind")),
    _number("next_seq"),
    *map(_text, ("answered_by", "recording", "body")),
    _number("closed_streams"),
    _time("closed_at"),
    _number("forgotten"),
    _time("updated"),
    _text("status"),
    _flag("final"),
    _time("alive_at"),
    Index("calls_by_time", "created", "session_id"),
    Index("calls_by_from", "from_number"),
    Index("calls_by_to", "to_number"),
    Index("calls_by_final", "final", "updated"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("session_id", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("session_id", "type", name="outbox_once"),
    Index("outbox_by_time", "created"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("outbox_id", _ID, ForeignKey("outbox.id", ondelete="CASCADE"), primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", Double, nullable=False, server_default="0"),
    Column("done_at", Double),
    Column("dead_at", Double),
    _text("last_error"),
    _time("claimed_until"),
    Index("deliveries_by_time", "endpoint", "next_at"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("seen", Double, nullable=False),
)

removals = Table(
    "removals",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("session_id", Text, nullable=False),
    _text("recording"),
    Column("at", Double, nullable=False),
    Index("removals_by_time", "at"),
    sqlite_autoincrement=True,
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seen", Double, nullable=False),
)
