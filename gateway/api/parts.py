"""What the API stands on."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.api.keys import ApiKeys
from gateway.api.prepared import PreparedSessions
from gateway.dialout.conductor import DialOut
from gateway.node.node import Node
from gateway.outbox.live import LiveEvents
from gateway.records.base import RecordStore
from gateway.sessions.table import Sessions


@dataclass(frozen=True, slots=True)
class Api:
    """The parts. dialout: None where no calls are placed. store, live: None where no records are kept."""

    sessions: Sessions
    keys: ApiKeys
    dialout: DialOut | None = None
    store: RecordStore | None = None
    live: LiveEvents | None = None
    prepared: PreparedSessions = field(default_factory=PreparedSessions)

    @property
    def node(self) -> Node:
        return self.sessions.node
