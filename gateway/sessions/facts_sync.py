"""What is known of a session is kept twice: here while it runs, and in the registry for the node that goes on with it.

A registry that restarts has forgotten everything (it keeps nothing on disk that we rely on). The node that serves the
session tells it again, or that node's death would leave a call that no node knows.
"""

from __future__ import annotations

from dataclasses import fields

from gateway.errors import RegistryUnavailable
from gateway.node.node import Node
from gateway.node.tokens import STATIC_SESSION
from gateway.pool.facts import FactEvent, Facts, call_alias


class FactWrites:
    """Write one session's facts to the registry, and repeat what it did not answer."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.unsaved = False
        """True if the registry may lack something: it did not answer a write, nor one that repeats it."""
        self._lost = 0
        """Writes that were not answered. Counted, as one may be lost while another that repeats it is on its way."""

    async def write(self, facts: Facts, event: FactEvent) -> Facts | None:
        """Merge the event into the registry's facts; restore them if it has lost them.

        facts: ours, with the event in them. Returns what the registry knows then. None: it did not answer; the next
        write repeats all our facts, which changes nothing where it has them.
        """
        lost, registry = self._lost, self._node.registry
        try:
            told = await registry.merge(facts.session, as_event(facts) if self.unsaved else event)
            if facts.call_id and not told.call_id:
                told = await registry.merge(facts.session, as_event(facts))
        except RegistryUnavailable:  # a running call goes on without it
            self._lost, self.unsaved = self._lost + 1, True
            self._node.records.note(facts)
            return None
        if self._lost == lost:
            self.unsaved = False
        return told


def as_event(facts: Facts) -> FactEvent:
    """Return all of these facts as one event: merging it into nothing gives the same facts."""
    known = {field.name: getattr(facts, field.name) for field in fields(facts) if field.name != "session"}
    # No alias for a static stream: its call id is only what its `start` claims, so no webhook must find it by that.
    named = facts.call_id and not facts.session.startswith(STATIC_SESSION)
    aliases = (call_alias(facts.carrier, facts.account, facts.call_id),) if named else ()
    return FactEvent(**known, aliases=aliases)
