"""What runs in this process: the sessions of calls and of clients, and the links that wait for their streams."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import Facts
from gateway.pool.registry import Claim
from gateway.sessions.client_session import ClientSession
from gateway.sessions.preconnect import PreopenedLinks
from gateway.sessions.session import Session


class Sessions:
    """Hold a node's sessions. Iterating gives all that run, calls' and clients', until they have let go of everything.

    By id, `get`, `running` and `in` find the newest session of a call; those of clients are in `clients`.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.preopened = PreopenedLinks(node)
        self.clients: dict[str, ClientSession] = {}
        """Clients of the user's own, which have no carrier."""
        self._live: dict[str, Session] = {}
        self._replaced: set[Session] = set()
        """Sessions that wrap up while a newer one of their id runs: a claim of theirs is that one's now."""

    def __iter__(self) -> Iterator[Session | ClientSession]:
        return iter((*self._replaced, *self._live.values(), *self.clients.values()))

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._live

    def __len__(self) -> int:
        return len(self._replaced) + len(self._live) + len(self.clients)

    def get(self, session_id: str) -> Session | None:
        """Return the session of this id, which may be wrapping up."""
        return self._live.get(session_id)

    def running(self, session_id: str) -> Session | None:
        """Return the session of this id, unless it has ended."""
        session = self._live.get(session_id)
        return session if session is not None and session.ended is None else None

    def make(self, service: Service, claim: Claim | None, facts: Facts) -> Session:
        """Make a session that is not served yet."""
        return Session(self.node, service, claim, facts, self.preopened)

    def serve(self, session: Session) -> None:
        """Run the session to its end, and keep it in the table until then."""
        older = self._live.get(session.id)
        if older is not None:
            older.worker.leave_to_newer()
            self._replaced.add(older)
        self._live[session.id] = session
        self.node.spawn(self._serve(session), f"session {session.id}")

    async def _serve(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            self._replaced.discard(session)
            if self._live.get(session.id) is session:
                del self._live[session.id]
                await self.node.wire.write(session.id)
