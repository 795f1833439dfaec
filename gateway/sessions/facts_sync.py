"""What is known of a session is kept twice: here while it runs, and in the registry for the node that goes on with it.

A registry that restarts has forgotten everything (it keeps nothing on disk that we rely on). The node that serves the
session tells it again, or that node's death would leave a call that no node knows.
"""

from __future__ import annotations

from dataclasses import fields

from gateway.node.node import Node
from gateway.node.tokens import STATIC_SESSION
from gateway.pool.facts import FactEvent, Facts, call_alias


async def merge_and_restore(node: Node, facts: Facts, event: FactEvent) -> FactEvent:
    """Merge the event into the registry's facts; restore them if it has lost them. Returns what it knows then.

    facts: ours, with the event in them. Raises RegistryUnavailable.
    """
    told = await node.registry.merge(facts.session, event)
    if facts.call_id and not told.call_id:
        told = await node.registry.merge(facts.session, as_event(facts))
    return as_event(told)


def as_event(facts: Facts) -> FactEvent:
    """Return all of these facts as one event: merging it into nothing gives the same facts."""
    known = {field.name: getattr(facts, field.name) for field in fields(facts) if field.name != "session"}
    # No alias for a static stream: its call id is only what its `start` claims, so no webhook must find it by that.
    named = facts.call_id and not facts.session.startswith(STATIC_SESSION)
    aliases = (call_alias(facts.carrier, facts.account, facts.call_id),) if named else ()
    return FactEvent(**known, aliases=aliases)
