"""What `gateway check` says of the database of records."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.settings import Settings

NOTE = "note: "
SECONDS = 5.0
_SAID_BY = {
    "28P01": "refuses the user and password of the URL",
    "28000": "refuses the user of the URL",
    "3D000": "is not on that server: create it",
    "42501": "lets this user make no tables",
}
"""PostgreSQL's own codes (its manual, appendix A)."""


def examine_records(settings: Settings) -> Iterator[str]:
    """One line for each thing that would lose records, or show less than one would expect."""
    if not settings.records:
        yield f"{NOTE}records: none are kept: /v1/calls has no past calls, and no events are sent"
    elif settings.records.startswith("sqlite") and settings.registry != "memory":
        yield f"{NOTE}records: a file on this machine, each has its own: several share postgresql+asyncpg://…"


def reach_records(settings: Settings) -> Iterator[str]:
    """One line if the database cannot be used now. Nothing is made in it."""
    if not settings.records:
        return
    problem = _file(settings.records) if settings.records.startswith("sqlite") else _server(settings.records)
    if problem:
        yield f"records: {problem}"


def _file(url: str) -> str:
    from sqlalchemy.engine import make_url

    file = Path(make_url(url).database or "")
    if not file.parent.is_dir():
        return f"the folder {file.parent} is not there, calls would leave none: make it"
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        return f"{file} cannot be written by this user, calls would leave none: name another file"
    return ""


def _server(url: str) -> str:
    """What is wrong with it, in words of ours: a driver's may name what is part of a password."""
    import asyncio

    from sqlalchemy import text

    from gateway.records.database import AWAY, open_engine

    async def ask() -> None:
        engine = open_engine(url)
        try:
            async with asyncio.timeout(SECONDS), engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        finally:
            await engine.dispose()

    try:
        asyncio.run(ask())
    except ImportError:
        return 'the driver is not installed: pip install "carrier-stream-gateway[postgres]"'
    except TimeoutError:
        return f"the database does not answer within {SECONDS:g} s"
    except (*AWAY, TypeError, ValueError) as error:
        cause = getattr(error, "orig", None) or error
        state = str(getattr(cause, "sqlstate", None) or "")
        said = _SAID_BY.get(state) or f"cannot be asked: {_words(cause)}"
        return f"the database {said}"
    return ""


def _words(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__
