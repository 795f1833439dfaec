"""Agents, as Pipecat Cloud calls a service in its paths: its name with or without its organization."""

from __future__ import annotations

from gateway.api.problems import Problem
from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import Facts
from gateway.sessions.table import Sessions

NO_SESSION = Problem(404, "This agent has no such session, or it has been forgotten.", "not_found")


def find_agent(node: Node, agent: str) -> Service | Problem:
    """Find the service of this name, `agent.organization`, or the only one of this agent."""
    service = node.services.get(agent)
    if service is not None:
        return service
    found = [one for one in node.services if one.host.partition(".")[0] == agent]
    if len(found) == 1:
        return found[0]
    why = "there are several of this name: say its organization too, as agent.organization" if found else "unknown"
    return Problem(404, f"agent: {why}.", "unknown_service", (("agent", why),))


async def find_session(sessions: Sessions, agent: str, session_id: str) -> Facts | Problem:
    """Return what is known of a session of this agent.

    Raises RegistryUnavailable if only the registry could know.
    """
    service = find_agent(sessions.node, agent)
    if isinstance(service, Problem):
        return service
    live = sessions.get(session_id)
    try:
        facts = await sessions.node.registry.find(session_id)
    except RegistryUnavailable:
        if live is None:
            raise
        facts = live.facts
    if facts is None or facts.session != session_id or facts.service != service.host:
        return NO_SESSION
    return facts


async def no_room(node: Node, service: Service) -> Problem | None:
    """Return what is answered where no session could begin now; None: one could. Raises RegistryUnavailable."""
    slots = await node.registry.slots(service.host)
    if slots.free > slots.queued:
        return None
    again = {"retry-after": "5"}
    if not slots.cap or slots.deserted:
        return Problem(503, "No worker of this agent is there.", "no_worker", headers=again)
    return Problem(429, f"All {slots.cap} workers of this agent have calls.", "at_capacity", headers=again)
