"""The first tables: calls, outbox, deliveries, nodes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _make_calls()
    op.create_table(
        "outbox",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.Text, nullable=False, unique=True),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.UniqueConstraint("session_id", "type", name="outbox_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_by_time", "outbox", ["created"])
    op.create_table(
        "deliveries",
        sa.Column("outbox_id", ID, sa.ForeignKey("outbox.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_at", sa.Double, nullable=False, server_default="0"),
        sa.Column("done_at", sa.Double),
        sa.Column("dead_at", sa.Double),
        _text("last_error"),
        _time("claimed_until"),
    )
    op.create_index("deliveries_by_time", "deliveries", ["endpoint", "next_at"])
    op.create_table(
        "nodes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("seen", sa.Double, nullable=False),
    )


def downgrade() -> None:
    for table in ("nodes", "deliveries", "outbox", "calls"):
        op.drop_table(table)


def _make_calls() -> None:
    op.create_table(
        "calls",
        sa.Column("session_id", sa.Text, primary_key=True),
        *map(_text, ("call_id", "carrier", "account", "direction", "from_number", "to_number", "service_host")),
        *map(_text, ("progress", "end_reason", "outcome")),
        *map(_time, ("created", "answered", "ended", "call_ended")),
        *map(_number, ("ended_streams", "hold_ms", "bot_start_ms")),
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
    )
    op.create_index("calls_by_time", "calls", ["created", "session_id"])
    op.create_index("calls_by_from", "calls", ["from_number"])
    op.create_index("calls_by_to", "calls", ["to_number"])
    op.create_index("calls_by_final", "calls", ["final", "updated"])


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _time(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False, server_default="0")


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())
