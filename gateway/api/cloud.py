"""Pipecat Cloud's REST, for programs that were written against it: start a session of an agent, list them, end one.

By https://docs.pipecat.ai/api-reference/pipecat-cloud/rest-reference. Its public key is a key with the scope `start`
here, its private key one with `calls:read` and `calls:write`.
"""

from __future__ import annotations

import asyncio

from gateway.api.agents import NO_SESSION, find_agent, find_session, no_room
from gateway.api.calls import running
from gateway.api.control import answer
from gateway.api.models import AgentSession, AgentSessionFilters, AgentSessionList, AgentStartRequest, Terminated
from gateway.api.operation import Asked, Reply
from gateway.api.parts import Api
from gateway.api.problems import Problem
from gateway.api.start import begin
from gateway.errors import RegistryUnavailable
from gateway.node.services import Service
from gateway.pool.registry import Claim
from gateway.records.base import Filters, Record, rfc3339
from gateway.sessions import control
from gateway.sessions.control import Done, UnknownSession

COLD = {"cold": True, "warm": False, "all": None}
ENDED = {"active": False, "ended": True, "all": None}


async def start(api: Api, asked: Asked) -> Reply | Problem:
    """Prepare a stream to this agent, or call a number with it. 429 while all of its workers have calls."""
    body: AgentStartRequest = asked.body
    service = find_agent(api.node, asked.path["agent"])
    if isinstance(service, Problem):
        return service
    full = await no_room(api.node, service)
    return full or await begin(api, asked, body, service, service.host)


async def list_sessions(api: Api, asked: Asked) -> Reply | Problem:
    """List an agent's sessions, the newest first. Without records: those that run on this node."""
    query: AgentSessionFilters = asked.query
    service = find_agent(api.node, asked.path["agent"])
    if isinstance(service, Problem):
        return service
    filters = Filters(
        service_host=service.host,
        since=query.start_time,
        until=query.end_time,
        ended=ENDED[query.status],
        cold=COLD[query.start_type],
        bot_start_above=query.start_time_min * 1000 or None,
        bot_start_below=query.start_time_max * 1000 or None,
    )
    records: tuple[Record, ...]
    if query.deployment_id is not None:
        count, records = 0, ()
    elif api.store is None:
        found = running(api, filters)
        count, records = len(found), found[query.offset : query.offset + query.limit]
    else:
        count = await api.store.count(filters)
        records = (await api.store.page(filters, query.limit, offset=query.offset)).records
    sessions = await asyncio.gather(*(_session(api, record) for record in records))
    return Reply(200, AgentSessionList(total_count=count, sessions=sessions))


async def _session(api: Api, record: Record) -> AgentSession:
    cpu, memory = await _usage(api, record)
    ms = record.bot_start_ms
    return AgentSession(
        sessionId=record.session_id,
        serviceId=record.service_host,
        organizationId=record.service_host.partition(".")[2] or None,
        deploymentId=None,
        createdAt=rfc3339(record.created_at),
        updatedAt=rfc3339(record.ended_at or record.answered_at or record.created_at),
        endedAt=rfc3339(record.ended_at),
        botStartSeconds=ms / 1000 if ms is not None else None,
        coldStart=record.cold if ms is not None else None,
        completionStatus=record.end_reason or None,
        cpuMillicores=cpu or None,
        memoryBytes=memory or None,
    )


async def _usage(api: Api, record: Record) -> tuple[int, int]:
    """Return what the session's worker uses, as its host has said last: CPU and memory, 0 for what is not known."""
    if record.status in ("queued", "ringing", "ended"):
        return 0, 0
    try:
        claim = await api.node.registry.get_claim(record.session_id, None)
    except RegistryUnavailable:
        return 0, 0
    worker = claim.worker if isinstance(claim, Claim) else None
    return (worker.cpu, worker.memory) if worker is not None else (0, 0)


async def end_session(api: Api, asked: Asked) -> Reply | Problem:
    """End a session at once. One that has ended already is as good."""
    session_id = asked.path["session_id"]
    facts = await find_session(api.sessions, asked.path["agent"], session_id)
    if facts is NO_SESSION and api.store is not None:
        known, service = await api.store.get(session_id), find_agent(api.node, asked.path["agent"])
        ours = known is not None and isinstance(service, Service) and known.service_host == service.host
        if known is not None and ours and known.status == "ended":
            return Reply(200, Terminated(session_id=session_id))
    if isinstance(facts, Problem):
        return facts
    outcome = await control.hang_up(api.sessions, session_id, at_once=True)
    if isinstance(outcome, UnknownSession):
        return NO_SESSION
    return Reply(200, Terminated(session_id=session_id)) if isinstance(outcome, Done) else answer(session_id, outcome)
