"""Links opened at the webhook, for the stream that is to come: its caller then waits for no handshake with the worker.

A link without a fence yet (0): any confirmed claim's goes before it, on whichever node the stream arrives. `start`
brings the fence. What is not taken by the time its claim expires is closed, and the worker is as new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.errors import LinkError, LinkRefused
from gateway.node.node import Node
from gateway.pool.registry import Claim
from gateway.protocol.codes import CloseCode
from gateway.sessions.events import Link
from gateway.sessions.worker_search import dial

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PreopenedLink:
    """A link that waits. worker: whose it is."""

    link: Link
    worker: str


async def open_early(node: Node, claim: Claim, body: Mapping[str, Any]) -> None:
    """Open the link of a claim that nobody has confirmed yet, unless there is one. Never raises.

    Not in relay mode: there the bot starts with the connection, and would wait for a handshake that may never come.
    """
    if claim.worker is None or claim.protocol == "relay" or not claim.fresh or claim.session in node.early:
        return
    early = node.early[claim.session] = PreopenedLink(Link(None), claim.worker.id)
    try:
        await dial(node, claim, early.link, body)
    except LinkRefused as refused:
        _forget(node, claim.session, early)
        if refused.status != 409:  # somebody else's stream has come already
            node.registry.suspect(claim.worker.id)
    except LinkError:
        _forget(node, claim.session, early)
        node.registry.suspect(claim.worker.id)
    else:
        if early.link.side is not None:  # its stream has come, and was quicker than this task
            return
        if node.early.get(claim.session) is not early:  # the call has ended meanwhile, or its stream did not wait
            _close(early)
            return
        asyncio.get_running_loop().call_later(
            max(0.0, claim.expires - node.unix_time()), _forget, node, claim.session, early
        )


def take_early(node: Node, claim: Claim) -> Link | None:
    """The open link of this claim, if there is one to its worker."""
    early = node.early.pop(claim.session, None)
    if early is None:
        return None
    wanted = claim.worker.id if claim.worker is not None else ""
    if early.worker == wanted and early.link.socket is not None and not early.link.gone.is_set():
        return early.link
    _close(early)
    return None


def drop_early(node: Node, session: str) -> None:
    """Its stream will not come."""
    early = node.early.pop(session, None)
    if early is not None:
        _close(early)


def _forget(node: Node, session: str, early: PreopenedLink) -> None:
    if node.early.get(session) is early:
        drop_early(node, session)


def _close(early: PreopenedLink) -> None:
    if early.link.socket is not None:
        early.link.socket.close(CloseCode.NORMAL)
