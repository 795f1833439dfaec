"""A database for each test: SQLite's always; PostgreSQL's, on a real server, in the tests that are marked `cluster`."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.records.database import migrate, open_engine
from tests.kit.postgres import find_bin, postgres, url

_databases = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server():
    if find_bin() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres() as folder:
        yield folder


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.cluster)])
async def records_url(request, tmp_path):
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"
    folder, name = request.getfixturevalue("postgres_server"), f"records_{next(_databases)}"
    admin = create_async_engine(url(folder), isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await admin.dispose()
    return url(folder, name)


@pytest.fixture
async def engine(records_url):
    """The empty database, migrated."""
    engine = open_engine(records_url)
    await migrate(engine)
    yield engine
    await engine.dispose()
