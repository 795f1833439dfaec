"""The schema comes from migrations, whoever starts first."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from gateway.records import database
from gateway.records.database import NewerSchema, migrate
from gateway.records.schema import metadata
from tests.kit.waiting import PATIENCE

MIGRATE = """
import asyncio, sys
from gateway.records.database import migrate, open_engine
asyncio.run(migrate(open_engine(sys.argv[1])))
"""


async def test_migrations_make_what_the_schema_says(engine):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    assert differences == []


async def test_a_second_start_changes_nothing(engine):
    await migrate(engine)
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    assert set(names) == {*metadata.tables, "alembic_version"}


async def test_processes_that_start_at_once_migrate_once(records_url):
    starts = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, records_url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    async with asyncio.timeout(PATIENCE * 3):
        said = [await process.communicate() for process in starts]
    assert [process.returncode for process in starts] == [0, 0, 0], said


async def test_the_newest_migration_is_the_one_that_is_looked_for():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [database.HEAD]


async def test_a_database_of_a_newer_version_is_left_alone(engine):
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerSchema):
        await migrate(engine)
