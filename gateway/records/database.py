"""The database of the records: its engine, and its schema brought up to date under a lock.

SQLite and PostgreSQL. SQLite's file is in WAL mode, so that readers do not wait for the writer; every transaction that
may write takes the write lock at its beginning, as one that upgrades from reading would fail, not wait.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

READ_ONLY = {"gateway_read_only": True}
"""Execution options of a connection that only reads."""
BUSY_SECONDS = 5.0
"""How long SQLite waits for another process's transaction; ours take milliseconds."""
CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 20.0
"""A PostgreSQL that has not answered by then is away."""
POOL_SIZE = 4
"""Connections of a process: the writer's, and those that read."""
HEAD = "0002"
"""The newest migration. Their names grow as text does."""
MIGRATION_LOCK = 0x67617465776179
"""PostgreSQL's advisory lock of migrations: "gateway" as a number."""

AWAY = (SQLAlchemyError, OSError, TimeoutError)
"""What comes of a database that cannot be asked."""


def is_refusal(error: BaseException) -> bool:
    """True if the database does not take what it was given, and would not at another try either."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return isinstance(error, DataError | IntegrityError) or state[:2] in ("22", "23")  # PostgreSQL, appendix A
    return isinstance(error, StatementError | ValueError | OverflowError)


def is_away(error: BaseException) -> bool:
    """True if the database cannot be asked now. Another try may go better."""
    return isinstance(error, AWAY) and not is_refusal(error)


def open_engine(url: str) -> AsyncEngine:
    """Make the engine. Nothing is connected to before it is used. url: as `settings.records_url` gives it."""
    if make_url(url).get_backend_name() == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    return create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,  # a server that was restarted has closed what the pool still holds
        connect_args={"timeout": CONNECT_SECONDS, "command_timeout": COMMAND_SECONDS},
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Let SQLAlchemy begin transactions itself: sqlite3 would begin none before a CREATE TABLE."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("gateway_read_only")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


class NewerSchema(SQLAlchemyError):
    """A later version of the gateway has migrated this database."""


async def migrate(engine: AsyncEngine) -> None:
    """Bring the schema up to date. Safe where several processes and nodes start at once: the first does it, the others
    wait. Raises one of AWAY.

    It is done in a thread: Alembic takes half a second to be imported, and calls may run.
    """
    async with engine.connect() as connection:
        await connection.execution_options(**READ_ONLY)
        if await connection.run_sync(_is_current):
            return
    await asyncio.to_thread(lambda: asyncio.run(_migrate(engine.url)))


def _is_current(connection: Connection) -> bool:
    if not inspect(connection).has_table("alembic_version"):
        return False
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if version is not None and version > HEAD:
        raise NewerSchema("it was migrated by a newer version of the gateway")
    return version == HEAD


async def _migrate(url: URL) -> None:
    engine = open_engine(url.render_as_string(hide_password=False))
    try:
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    if _is_current(connection):
        return
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
