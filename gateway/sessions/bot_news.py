"""What a bot is told of its call besides `start`: what has become of it by then, and later who answered."""

from __future__ import annotations

from typing import Protocol

from gateway.node.tokens import STATIC_SESSION
from gateway.pool.facts import TRANSFER_FAILED, Facts
from gateway.protocol import pcm
from gateway.sessions.duration_limit import DurationLimit


class CallFacts(Protocol):
    """A session whose facts grow."""

    facts: Facts


class BotNews:
    """Choose what each of a session's bots is told. bots: how many the call has had before."""

    def __init__(self, session: CallFacts, limit: DurationLimit, bots: int) -> None:
        self._session = session
        self._limit = limit
        self._told_of_answer = bots > 0
        """A bot was told that the call was answered, here or on another node: to its successor it is no news."""
        self._told_who_answered = False
        self._told_failed_transfer = 0
        """Number of the continuation by which a bot was last told that its transfer failed."""

    def for_new_bot(self, now: float) -> list[pcm.Status]:
        """Return what a bot that joins the call is told behind its `start`."""
        facts, news = self._session.facts, list[pcm.Status]()
        placed = facts.direction == "outbound" and not facts.root and not facts.session.startswith(STATIC_SESSION)
        if placed and not self._told_of_answer:
            news += pcm.Status("ringing", {}), pcm.Status("answered", {})
        self._told_of_answer = True
        if facts.answered_by:
            news.append(pcm.Status(facts.answered_by, {}))
        self._told_who_answered = bool(facts.answered_by)
        continuation = facts.continuation  # it stays, and is no news to the next bot
        if continuation.value == TRANSFER_FAILED and continuation.seq > self._told_failed_transfer:
            self._told_failed_transfer = continuation.seq
            news.append(pcm.Status(TRANSFER_FAILED, {}))
        if now >= self._limit.warns_at:
            news.append(self._limit.warning(now))
        return news

    def who_answered(self) -> pcm.Status | None:
        """Return who picked up, a human or a machine, if that is known by now and the present bot does not know it."""
        who = self._session.facts.answered_by
        if not who or self._told_who_answered:
            return None
        self._told_who_answered = True
        return pcm.Status(who, {})
