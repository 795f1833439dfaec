"""What is known of a session is kept twice: here while it runs, and in the registry for whichever node comes next.

A registry that restarts has forgotten it all (it keeps nothing on disk that we rely on). Whoever serves the session
tells it again, or the next node's death would find a call that nobody knows.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from gateway.node.node import Node
from gateway.pool.facts import FactEvent, Facts, call_alias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.sessions.session import Session


async def fold(node: Node, facts: Facts, event: FactEvent) -> FactEvent:
    """Fold the event into what the registry knows of this session; all that it knows then, as an event.

    facts: ours, with the event in them. Raises RegistryUnavailable.
    """
    told = await node.registry.merge(facts.session, event)
    if facts.call_id and not told.call_id:
        told = await node.registry.merge(facts.session, as_event(facts))
    return as_event(told)


async def remind(sessions: Iterable[Session]) -> None:
    """After an outage: tell the registry again of each of these, as far as it has forgotten them."""
    for session in sessions:
        await session.remember(FactEvent())


def as_event(facts: Facts) -> FactEvent:
    """All of these facts as one event, so that merging them into nothing gives the same."""
    known = {field.name: getattr(facts, field.name) for field in fields(facts) if field.name != "session"}
    aliases = (call_alias(facts.carrier, facts.account, facts.call_id),) if facts.call_id else ()
    return FactEvent(**known, aliases=aliases)
