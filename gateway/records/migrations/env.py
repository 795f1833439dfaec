"""Runs the migrations on the connection that `gateway.records.database` holds, inside its transaction and lock."""

from __future__ import annotations

from alembic import context

from gateway.records.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the transaction is the caller's, with its lock
)
context.run_migrations()
