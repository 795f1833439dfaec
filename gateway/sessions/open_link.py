"""Open the WebSocket to a claim's worker, with all that the upgrade carries."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from gateway.node.node import Node
from gateway.pool.registry import Claim
from gateway.protocol import pcm
from gateway.sockets import Handler, Socket, connect

MAX_BODY_QUERY = 4096
"""Bytes of JSON that go into the upgrade's `body=`: what Pipecat Cloud's image takes."""


async def open_link(node: Node, claim: Claim, handler: Handler, body: Mapping[str, Any]) -> Socket:
    """Open a link to the claim's worker. Raises LinkError."""
    assert claim.worker is not None
    headers = {pcm.SESSION_HEADER: claim.session, pcm.FENCE_HEADER: str(claim.fence)}
    if claim.link_key:
        headers["Authorization"] = f"Bearer {claim.link_key}"
    query = _body_query(body)
    url, target = claim.worker.url, "/ws" + query
    if not url.startswith("unix:"):
        url += query if "?" not in url else "&" + query[1:] if query else ""
    return await connect(
        url,
        handler,
        headers=headers,
        subprotocol=pcm.SUBPROTOCOL if claim.protocol == "pcm" else None,
        timeout=node.limits.link_timeout,
        max_size=pcm.MAX_AUDIO,
        target=target,
    )


def _body_query(body: Mapping[str, Any]) -> str:
    """Return `?body=` as Pipecat Cloud's image reads it.

    That is standard base64 of JSON, percent-encoded: a raw + gives None there.
    """
    if not body:
        return ""
    data = orjson.dumps(dict(body), default=str)
    if len(data) > MAX_BODY_QUERY:
        return ""
    return "?body=" + quote(base64.b64encode(data), safe="")
