"""What is kept of a session when it ends: its status, why it ended, and what its caller is led to."""

from __future__ import annotations

from gateway.node.node import Node
from gateway.node.services import Service
from gateway.pool.facts import Continuation, ContinuationKind, FactEvent, Facts, Status
from gateway.protocol.codes import EndReason

ENDS_WITHOUT_BOT = frozenset({EndReason.NO_WORKER, EndReason.HOLD_TIMEOUT, EndReason.WORKER_LOST, EndReason.BOT_ERROR})
"""Ends for want of a bot: such a caller gets the service's forward."""


def last_facts(node: Node, service: Service, facts: Facts, reason: EndReason, *, bot_finished: bool) -> FactEvent:
    """Return what the end of the session adds to its facts.

    After a caller's hangup, or where the bot moves calls by itself, the carrier has the last word: its callback ends
    the facts. A transfer has its continuation already.

    bot_finished: the bot has closed its link, and has not asked to hang up: it may have moved the call by itself.
    """
    moved = bot_finished and service.after_bot == "park"
    final = reason is not EndReason.CALLER_HANGUP and not moved
    status: Status = "ended" if final else "ending"
    continuation = Continuation()
    if final and reason is not EndReason.TRANSFERRED:
        continuation = Continuation(*_after_end(node, service, facts, reason), facts.continuation.seq + 1)
    return FactEvent(
        status=status,
        end_reason=reason,
        ended=node.unix_time(),
        ended_streams=facts.streams,
        continuation=continuation,
    )


def _after_end(node: Node, service: Service, facts: Facts, reason: EndReason) -> tuple[ContinuationKind, str]:
    """Return what is left for the caller: if the bot is lost, the service's forward, where it has one."""
    to = node.forward_number(facts.carrier, service.when_full) if reason in ENDS_WITHOUT_BOT else ""
    return ("dial", to) if to else ("hangup", "")
