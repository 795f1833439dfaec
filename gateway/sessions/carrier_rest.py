"""What is asked of the carrier by REST: to hang up a session's call, to cancel one that rings."""

from __future__ import annotations

from gateway.media.types import Stream
from gateway.node.node import Node
from gateway.pool.facts import Facts


async def hang_up_by_rest(node: Node, facts: Facts, stream: Stream | None) -> None:
    """Hang up at once; the XML behind the stream is the fallback.

    stream: the session's. None: the carrier has ended it, and may have moved the call. Only a call that a verified
    webhook or upgrade has named is hung up: any holder of a stream key can name any call.
    """
    if stream is None or not stream.verified:
        return
    request = node.carriers[facts.carrier].hang_up(facts.call_id, facts.account)
    if request is not None:
        await node.http_client.ask(request, seconds=node.limits.rest_timeout)


async def cancel_by_rest(node: Node, facts: Facts) -> None:
    """End a call of ours that was not answered, where the carrier can."""
    carrier = node.carriers.get(facts.carrier)
    request = carrier.cancel_call(facts.call_id, facts.order_id, facts.account) if carrier is not None else None
    if request is not None:
        await node.http_client.ask(request, seconds=node.limits.rest_timeout)
