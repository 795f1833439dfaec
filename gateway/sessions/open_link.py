"""Open the WebSocket to a claim's worker, with all that the upgrade carries."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import orjson
import structlog

from gateway.node.node import Node
from gateway.pool.facts import Facts
from gateway.pool.registry import Claim
from gateway.protocol import pcm
from gateway.sockets import Handler, Socket, connect
from serializers.call_data import CallData

log = structlog.get_logger(__name__)

MAX_BODY_QUERY = 4096
"""Bytes of JSON, before base64, that go into the upgrade's `body=`: what Pipecat Cloud's image takes."""

MAX_HEADER_VALUE = 256
"""Characters of each thing that is said of a call: a header's line has 8 KB."""


async def open_link(
    node: Node, claim: Claim, handler: Handler, body: Mapping[str, Any], header: Callable[[], str] = str
) -> Socket:
    """Open a link to the claim's worker. Raises LinkError.

    header: makes `pcm.CALL_HEADER`, for a relayed worker of a host. One of pcm is told in `start`; a static one knows
    no such header.
    """
    assert claim.worker is not None
    headers = {pcm.SESSION_HEADER: claim.session, pcm.FENCE_HEADER: str(claim.fence)}
    if claim.link_key:
        headers["Authorization"] = f"Bearer {claim.link_key}"
    if claim.protocol == "relay" and not claim.static and (said := header()):
        headers[pcm.CALL_HEADER] = said
    query = _body_query(body, claim) if body else ""
    url, target = claim.worker.url, "/ws" + query
    if query and not claim.worker.is_local:  # the path of a unix socket's request is `target`
        url += "&" + query[1:] if "?" in url else query
    return await connect(
        url,
        handler,
        headers=headers,
        subprotocol=pcm.SUBPROTOCOL if claim.protocol == "pcm" else None,
        timeout=node.limits.link_timeout,
        max_size=pcm.MAX_AUDIO,
        target=target,
        address=claim.worker.address,
    )


def call_header(facts: Facts, call: CallData | None) -> str:
    """Return the value of `pcm.CALL_HEADER`. call: None for a client's session, which has no carrier's call."""
    known = {"carrier": facts.carrier}
    if call is not None:
        known |= {"account": facts.account, "from": call.from_number or "", "to": call.to_number or ""}
    return base64.b64encode(orjson.dumps({name: value[:MAX_HEADER_VALUE] for name, value in known.items()})).decode()


def _body_query(body: Mapping[str, Any], claim: Claim) -> str:
    """Return `?body=` as Pipecat Cloud's image reads it, "" for too large a body: a pcm bot has it in its `start`.

    That is standard base64 of JSON, percent-encoded: a raw + gives None there.
    """
    data = orjson.dumps(dict(body), default=str)
    if len(data) > MAX_BODY_QUERY:
        if claim.protocol == "relay":
            words = f"more than {MAX_BODY_QUERY} bytes of JSON do not fit into the URL of a relay worker: send less"
            log.warning("the bot gets no body", session=claim.session, bytes=len(data), why=words)
        return ""
    return "?body=" + quote(base64.b64encode(data), safe="")
