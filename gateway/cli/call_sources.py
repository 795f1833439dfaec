"""Where commands read calls: a running gateway's API, or the database of its records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from gateway.errors import UserError

if TYPE_CHECKING:
    import httpx

    from gateway.records.store import DatabaseStore

SECONDS = 10.0
"""For one answer of a gateway."""

NONE: Mapping[str, str] = MappingProxyType({})
"""No filters."""
Call: TypeAlias = dict[str, Any]
"""A record by the contract's field names."""


class CallSource(Protocol):
    """Raises UserError where it cannot be read."""

    async def page(
        self, limit: int, cursor: str | None = None, wanted: Mapping[str, str] = NONE
    ) -> tuple[list[Call], str | None]:
        """Return calls, the newest first, and the cursor of those after them. wanted: see `call_filters`."""

    async def get(self, session_id: str) -> Call | None:
        """Return one call."""


class ApiSource(CallSource):
    """A running gateway."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def page(
        self, limit: int, cursor: str | None = None, wanted: Mapping[str, str] = NONE
    ) -> tuple[list[Call], str | None]:
        query = {**wanted, "limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        found = await self._ask("/v1/calls", query)
        return (list(found["calls"]), found.get("next_cursor")) if found is not None else ([], None)

    async def get(self, session_id: str) -> Call | None:
        return await self._ask(f"/v1/calls/{session_id}", {})

    async def _ask(self, path: str, query: dict[str, str]) -> Call | None:
        import httpx

        from gateway.cli.follow import refusal

        try:
            answer = await self._http.get(path, params=query)
        except httpx.HTTPError as error:
            raise UserError(f"--url: no gateway answers there: {type(error).__name__}") from None
        if answer.status_code == 404 and "problem+json" in answer.headers.get("content-type", ""):
            return None
        if answer.status_code != 200:
            raise UserError(refusal(answer))
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UserError("--url: what answers there is no gateway's API")
        return found


class DatabaseSource(CallSource):
    """The database, of a gateway that may run or not."""

    def __init__(self, store: DatabaseStore) -> None:
        self._store = store

    async def page(
        self, limit: int, cursor: str | None = None, wanted: Mapping[str, str] = NONE
    ) -> tuple[list[Call], str | None]:
        from gateway.cli.call_filters import as_filters
        from gateway.errors import RecordsUnavailable

        try:
            found = await self._store.page(as_filters(wanted), limit, cursor)
        except RecordsUnavailable as error:
            raise UserError(f"records: {error}") from None
        return [record.to_dict() for record in found.records], found.next_cursor

    async def get(self, session_id: str) -> Call | None:
        from gateway.errors import RecordsUnavailable

        try:
            found = await self._store.get(session_id)
        except RecordsUnavailable as error:
            raise UserError(f"records: {error}") from None
        return found.to_dict() if found is not None else None


@contextlib.asynccontextmanager
async def from_api(url: str, key: str) -> AsyncIterator[CallSource]:
    """Read from this gateway."""
    import httpx

    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=SECONDS, trust_env=False) as http:
        yield ApiSource(http)


def database_url(config: str | None) -> str:
    """Return the URL of the database of these settings. Raises SettingsError if there is none."""
    from pathlib import Path

    from sqlalchemy.engine import make_url

    from gateway.errors import SettingsError
    from gateway.settings import load

    records = load(config).records
    if not records:
        raise SettingsError("records", 'is "": no calls are kept')
    url = make_url(records)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise SettingsError(
            "records", f"there is no {url.database}: a gateway makes it. Name its settings by --config, or it by --url"
        )
    return records


@contextlib.asynccontextmanager
async def open_store(records: str) -> AsyncIterator[DatabaseStore]:
    """Open this database. Raises SettingsError if its driver is not installed."""
    from gateway.errors import SettingsError
    from gateway.records.database import open_engine
    from gateway.records.store import DatabaseStore

    try:
        engine = open_engine(records)
    except ImportError:
        raise SettingsError("records", 'needs asyncpg: pip install "carrier-stream-gateway[postgres]"') from None
    try:
        yield DatabaseStore(engine)
    finally:
        await asyncio.shield(engine.dispose())


@contextlib.asynccontextmanager
async def from_database(records: str) -> AsyncIterator[CallSource]:
    """Read from this database."""
    async with open_store(records) as store:
        yield DatabaseSource(store)
