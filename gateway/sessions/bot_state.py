"""What is kept of a bot with its session's facts: for its successor, or for the gateway that goes on with it."""

from __future__ import annotations

from gateway.node.node import Node
from gateway.pool.facts import FactEvent, ToldStream
from gateway.sessions.latest_fact import LatestFact, RememberingSession


class BotState:
    """What one session's bot leaves for its successor: the last one is kept."""

    def __init__(self, node: Node, session: RememberingSession) -> None:
        self.value = session.facts.state
        self._count = session.facts.state_seq
        self._fact = LatestFact(node, session, "state")

    def keep(self, state: bytes) -> None:
        """Take a new one."""
        self.value, self._count = state, self._count + 1
        self._fact.write(FactEvent(state=state, state_seq=self._count))


class StreamOfBot:
    """Which stream's `start` one session's relayed bot has had: it may outlive its link, and this process."""

    def __init__(self, node: Node, session: RememberingSession) -> None:
        self._told = session.facts.told_stream
        self._fact = LatestFact(node, session, "stream of the bot")

    def known_to(self, worker: str) -> str | None:
        """Return the id of the stream that this worker's bot knows its call by. None: it has had no `start` yet."""
        return self._told.stream_id if self._told.worker == worker else None

    def forget(self) -> None:
        """Take the bot for one that has had no `start`."""
        if self._told.worker:
            self.note_told("", "")

    def note_told(self, worker: str, stream_id: str) -> None:
        """Keep that this worker's bot is told this stream's `start`."""
        self._told = ToldStream(worker, stream_id, self._told.seq + 1)
        self._fact.write(FactEvent(told_stream=self._told))
