"""`records`: in which database, and where its file is if it is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from gateway.settings_sections import split_url

SQLITE = "sqlite+aiosqlite"
POSTGRESQL = "postgresql+asyncpg"
FILE = "gateway.db"


def _database(url: str) -> str:
    if not url:
        return url
    parts = split_url(url)
    if parts.scheme == SQLITE and not parts.netloc and len(parts.path) > 1 and ":memory:" not in url:
        return url
    if parts.scheme == POSTGRESQL and parts.path.strip("/"):
        return url
    raise PydanticCustomError(
        "records",
        'must be like "sqlite+aiosqlite:///gateway.db" or "postgresql+asyncpg://user:password@host/database"; "": none',
    )


RecordsUrl = Annotated[str, AfterValidator(_database), Field(repr=False)]
"""Such a URL may hold a password."""


def placed(url: object, settings_file: Path | None, environ: Mapping[str, str]) -> object:
    """Return the URL with an absolute path, if it is a file's. url: None if it is not set, then it is the default.

    A relative path is one beside the settings file, if there is one, else below the working directory. By default a
    systemd unit's file is in its StateDirectory: it may write nowhere else.
    """
    folder = settings_file.parent if settings_file is not None else Path()
    if url is None:
        state = environ.get("STATE_DIRECTORY", "").split(":")[0]
        return f"{SQLITE}:///{(Path(state) if state else folder).absolute() / FILE}"
    begin = f"{SQLITE}:///"
    if isinstance(url, str) and url.startswith(begin) and not url.startswith(f"{begin}/"):
        return f"{begin}{folder.absolute() / url.removeprefix(begin)}" if len(url) > len(begin) else url
    return url
