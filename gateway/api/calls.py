"""`GET /v1/calls` and `/v1/calls/{session_id}`: sessions, running and past."""

from __future__ import annotations

from gateway.api.control import NO_SUCH_CALL
from gateway.api.models import CallFilters, unix_time
from gateway.api.operation import Asked, Reply
from gateway.api.parts import Api
from gateway.api.problems import Problem, not_found
from gateway.errors import RecordsUnavailable, RegistryUnavailable
from gateway.pool.facts import Facts
from gateway.records.base import BadCursor, Filters, Page, Record
from gateway.records.row import MASK, record_of


async def get_call(api: Api, asked: Asked) -> Reply | Problem:
    """Return one session: what is known of it now, or its record."""
    record = await find_record(api, asked.path["session_id"])
    return Reply(200, record.to_dict()) if record is not None else not_found(NO_SUCH_CALL)


async def find_record(api: Api, session_id: str) -> Record | None:
    """Find a session among those that run here, in the registry and in the records, and join what they know.

    Raises RegistryUnavailable if only the registry could know.
    """
    live = api.sessions.get(session_id)
    facts = live.facts if live is not None else None
    try:
        told = await api.node.registry.find(session_id)
        facts = told if told is not None and told.session == session_id else facts
    except RegistryUnavailable:
        if live is None and api.store is None:
            raise
    # Facts of a recording that was found, or of a callback that came late, are those of no call.
    of_a_call = facts is not None and (facts.created or facts.streams or live is not None or api.store is None)
    known = record_of(facts) if facts is not None and of_a_call else None
    kept = await _kept(api, session_id, facts, needed=known is None)
    if kept is None or (live is not None and MASK not in (kept.from_number, kept.to_number)):
        return known
    return kept


async def _kept(api: Api, session_id: str, facts: Facts | None, *, needed: bool) -> Record | None:
    """Return the record of a session, with these facts. needed: nothing else knows of it; RecordsUnavailable only then.

    The record may have been closed, or its number forgotten, which the registry does not know.
    """
    try:
        return await api.store.get(session_id, facts) if api.store is not None else None
    except RecordsUnavailable:
        if needed:
            raise
        return None


async def list_calls(api: Api, asked: Asked) -> Reply | Problem:
    """List calls, the newest first. Without records: those that run on this node."""
    query: CallFilters = asked.query
    filters = Filters(
        status=query.status or "",
        direction=query.direction or "",
        carrier=query.carrier or "",
        service_host=query.service_host or "",
        from_number=query.from_number or "",
        to_number=query.to or "",
        since=unix_time(query.since) if query.since else None,
        until=unix_time(query.until) if query.until else None,
    )
    if api.store is None:
        page = Page(running(api, filters)[: query.limit])
    else:
        try:
            page = await api.store.page(filters, query.limit, query.cursor)
        except BadCursor:
            detail = "is no next_cursor of this list"
            return Problem(404, f"cursor: {detail}.", "bad_cursor", (("cursor", detail),))
    return Reply(200, {"calls": [one.to_dict() for one in page.records], "next_cursor": page.next_cursor})


def running(api: Api, filters: Filters) -> tuple[Record, ...]:
    """List this node's sessions, the newest first: all that is known without records."""
    records = (record_of(facts) for facts in {session.id: session.facts for session in api.sessions}.values())
    found = sorted((one for one in records if _matches(one, filters)), key=lambda one: -(one.created_at or 0.0))
    return tuple(found)


def _matches(record: Record, filters: Filters) -> bool:
    return _is_of(record, filters) and _has_bot(record, filters)


def _has_bot(record: Record, filters: Filters) -> bool:
    """Whether its bot started as is asked for."""
    ms, above, below = record.bot_start_ms, filters.bot_start_above, filters.bot_start_below
    if ms is None:
        return filters.cold is None and above is None and below is None
    cold = filters.cold in (None, record.cold)
    return cold and (above is None or ms > above) and (below is None or ms < below)


def _is_of(record: Record, filters: Filters) -> bool:
    created = record.created_at or 0.0
    wanted = (
        (filters.status, record.status),
        (filters.direction, record.direction),
        (filters.carrier, record.carrier),
        (filters.service_host, record.service_host),
        (filters.from_number, record.from_number),
        (filters.to_number, record.to_number),
    )
    in_time = (filters.since is None or created >= filters.since) and (filters.until is None or created < filters.until)
    ended = filters.ended in (None, record.status == "ended")
    return in_time and ended and all(not one or one == other for one, other in wanted)
