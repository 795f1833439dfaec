"""What `gateway check` says of the database of records."""

from __future__ import annotations

import pytest

from gateway.cli.check_records import NOTE, examine_records, reach_records
from gateway.settings import Settings
from tests.kit.postgres import find_bin, postgres, url


def settings(records: str, registry: str = "memory") -> Settings:
    return Settings.model_validate({"records": records, "registry": registry, "secret": "x" * 20})


def test_a_database_that_can_be_used_is_no_finding_and_is_not_made(tmp_path):
    file = tmp_path / "gateway.db"
    found = settings(f"sqlite+aiosqlite:///{file}")
    assert [*examine_records(found), *reach_records(found)] == []
    assert not file.exists()


def test_a_folder_that_is_not_there(tmp_path):
    (line,) = reach_records(settings(f"sqlite+aiosqlite:///{tmp_path}/missing/gateway.db"))
    assert line == f"records: the folder {tmp_path}/missing is not there, calls would leave none: make it"


def test_notes():
    (line,) = examine_records(settings(""))
    assert line.startswith(f"{NOTE}records: none are kept")
    (line,) = examine_records(settings("sqlite+aiosqlite:////srv/gateway.db", "redis://h"))
    assert line.startswith(f"{NOTE}records: a file on this machine")


def test_a_server_that_is_not_there(tmp_path):
    (line,) = reach_records(settings(f"postgresql+asyncpg://gateway:hunter2@/gateway?host={tmp_path}"))
    assert line == "records: the database cannot be asked: No such file or directory"


@pytest.mark.cluster
def test_a_server_that_has_no_such_database():
    if find_bin() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres() as folder:
        assert list(reach_records(settings(url(folder)))) == []
        (line,) = reach_records(settings(url(folder, "nothing")))
        assert line == "records: the database is not on that server: create it"
