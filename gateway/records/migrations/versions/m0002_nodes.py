"""What nodes tell each other: which calls live after all, what is to be removed, how far endpoints were served."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("calls", sa.Column("alive_at", sa.Double, nullable=False, server_default="0"))
    op.create_table(
        "removals",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("recording", sa.Text, nullable=False, server_default=""),
        sa.Column("at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("removals_by_time", "removals", ["at"])
    op.create_table(
        "endpoints",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("seen", sa.Double, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("endpoints")
    op.drop_table("removals")
    op.drop_column("calls", "alive_at")
