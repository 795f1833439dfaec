"""Links opened at the webhook, before the stream: its caller then waits for no handshake with the worker.

Such a link has no fence yet (0), so the link of any confirmed claim goes before it, on whichever node the stream
arrives; `start` brings the fence. A link that no stream has taken when its reservation expires is closed, and the
worker is as good as new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import LinkError
from gateway.media.endpoints import LinkEndpoint
from gateway.node.node import Node
from gateway.pool.registry import Claim
from gateway.sessions.open_link import open_link


@dataclass(slots=True)
class PreopenedLink:
    """A link that waits for its stream. worker: its worker's id."""

    link: LinkEndpoint
    worker: str
    taken: bool = False


class PreopenedLinks:
    """The preopened links of this process, by session id."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: dict[str, PreopenedLink] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[PreopenedLink]:
        return iter(tuple(self._waiting.values()))

    async def preopen(self, claim: Claim, body: Mapping[str, Any]) -> None:
        """Open a link before the stream comes, for a fresh pcm worker that has none.

        Not for a relayed one: its bot starts with the connection, and would wait for a handshake that may never come.
        """
        session = claim.session
        # Not fresh: a worker that served this session before may still have its link.
        if claim.worker is None or claim.protocol == "relay" or not claim.fresh or session in self._waiting:
            return
        waiting = self._waiting[session] = PreopenedLink(LinkEndpoint(self._node.metrics.timed), claim.worker.id)
        try:
            await open_link(self._node, claim, waiting.link, body)
        except LinkError as error:
            self._expire(session, waiting)
            if not error.taken:
                self._node.registry.suspect(claim.worker.id)
            return
        except BaseException:  # a bug of ours, or the end of the process: what stays here would stand for an open link
            self._expire(session, waiting)
            raise
        if waiting.taken:  # its stream was quicker than this task
            return
        if self._waiting.get(session) is not waiting:  # the call has ended, or its stream did not wait for the link
            waiting.link.close()
            return
        left = max(0.0, claim.expires - self._node.unix_time())
        asyncio.get_running_loop().call_later(left, self._expire, session, waiting)

    def take(self, claim: Claim) -> LinkEndpoint | None:
        """Return the open link of this claim, if there is one to its worker."""
        waiting = self._waiting.pop(claim.session, None)
        if waiting is None:
            return None
        if waiting.worker == claim.worker_id and waiting.link.open:
            waiting.taken = True
            return waiting.link
        waiting.link.close()
        return None

    def discard(self, session: str) -> None:
        """Close the session's link: its stream will not come."""
        waiting = self._waiting.pop(session, None)
        if waiting is not None:
            waiting.link.close()

    def discard_all(self) -> list[LinkEndpoint]:
        """Close every link that waits. Returns them, for tests to wait for."""
        links = [waiting.link for waiting in self._waiting.values()]
        for session in tuple(self._waiting):
            self.discard(session)
        return links

    def _expire(self, session: str, waiting: PreopenedLink) -> None:
        if self._waiting.get(session) is waiting:
            self.discard(session)
