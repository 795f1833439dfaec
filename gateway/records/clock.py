"""The database's own clock: the one that all nodes share, whatever theirs say."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Double, cast, extract, func, literal_column
from sqlalchemy.ext.asyncio import AsyncEngine


def database_time(engine: AsyncEngine) -> ColumnElement[float]:
    """Return an expression for the unix time of the moment at which the database comes to it."""
    if engine.dialect.name == "postgresql":
        return cast(extract("epoch", func.clock_timestamp()), Double)  # now() is when the transaction began
    return literal_column("(julianday('now') - 2440587.5) * 86400.0", Double)
