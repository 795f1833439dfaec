"""`GET /v1/events`: what happens to calls now, as server-sent events."""

from __future__ import annotations

from gateway.api.operation import Answer, Asked
from gateway.api.parts import Api
from gateway.api.problems import Problem, wrong_field
from gateway.outbox.live import LiveResponse
from gateway.records.events import EVENT_TYPES

RETRY_AFTER = {"retry-after": "30"}


async def watch(api: Api, asked: Asked) -> Answer:
    """Stream what happens from now on, of the types that the query names."""
    if api.live is None:
        return Problem(503, "No records are kept, so there are no events: set records.", "no_records")
    types = asked.query.types.split(",") if asked.query.types else EVENT_TYPES
    if not set(types) <= set(EVENT_TYPES):
        return wrong_field("types", f"must be of {', '.join(EVENT_TYPES)}, with commas between them", "unknown_type")
    watcher = await api.live.watch(types)
    if watcher is None:
        return Problem(503, "As many watch as this gateway serves.", "too_many", headers=RETRY_AFTER)
    return LiveResponse(api.live, watcher)
