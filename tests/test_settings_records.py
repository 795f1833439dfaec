"""Where records are kept, as the settings say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings import load


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> str:
        (tmp_path / "gateway.toml").write_text(text)
        return str(tmp_path / "gateway.toml")

    return write


def test_by_default_a_file_beside_the_settings(file, tmp_path):
    settings = load(file(""), {})
    assert settings.records == f"sqlite+aiosqlite:///{tmp_path}/gateway.db"
    assert settings.retention_days == 90


def test_without_a_settings_file_in_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load(None, {}).records == f"sqlite+aiosqlite:///{tmp_path}/gateway.db"


def test_a_systemd_unit_has_a_folder_for_it(file):
    expected = "sqlite+aiosqlite:////var/lib/gateway/gateway.db"
    assert load(file(""), {"STATE_DIRECTORY": "/var/lib/gateway:/var/lib/other"}).records == expected


@pytest.mark.parametrize(
    "url, expected",
    [
        ("", ""),
        ("sqlite+aiosqlite:///calls.db", "sqlite+aiosqlite:///{folder}/calls.db"),
        ("sqlite+aiosqlite:///data/calls.db", "sqlite+aiosqlite:///{folder}/data/calls.db"),
        ("sqlite+aiosqlite:////srv/calls.db", "sqlite+aiosqlite:////srv/calls.db"),
        ("postgresql+asyncpg://u:p@db.internal:5432/gateway", "postgresql+asyncpg://u:p@db.internal:5432/gateway"),
    ],
)
def test_urls(file, tmp_path, url, expected):
    assert load(file(f'records = "{url}"'), {}).records == expected.format(folder=Path(tmp_path))


@pytest.mark.parametrize(
    "url",
    [
        "gateway.db",
        "sqlite:///gateway.db",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///",
        "sqlite+aiosqlite:///:memory:",
        "postgresql://u:hunter2@h/d",
        "postgresql+asyncpg://u:hunter2@h",
        "mysql+aiomysql://u:hunter2@h/d",
        "postgresql+asyncpg://u:hunter2@h:port/d",
    ],
)
def test_what_is_no_database_of_ours(file, url):
    with pytest.raises(SettingsError, match=r"^records: (must be like|is no URL)") as error:
        load(file(f'records = "{url}"'), {})
    assert "hunter2" not in str(error.value)
