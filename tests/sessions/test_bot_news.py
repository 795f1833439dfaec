"""What a new bot is told of its call behind `start`, and what only once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from gateway.pool.facts import TRANSFER_FAILED, Continuation, Facts
from gateway.protocol import pcm
from gateway.sessions.bot_news import BotNews
from gateway.sessions.duration_limit import DurationLimit

RINGING, ANSWERED, HUMAN = (pcm.Status(name, {}) for name in ("ringing", "answered", "human"))
FAILED = pcm.Status(TRANSFER_FAILED, {})


@dataclass
class Call:
    facts: Facts


def news_of(facts: Facts, bots: int = 0) -> tuple[Call, BotNews]:
    call = Call(facts)
    return call, BotNews(call, DurationLimit(100.0, 0.0, 0.0), bots)


def test_the_first_bot_of_a_call_of_ours_is_told_how_it_came_about():
    _, news = news_of(Facts(session="s", direction="outbound", answered_by="human"))
    assert news.for_new_bot(0.0) == [RINGING, ANSWERED, HUMAN]
    assert news.for_new_bot(0.0) == [HUMAN]


@pytest.mark.parametrize(
    "facts, bots",
    [
        (Facts(session="s", direction="inbound"), 0),
        (Facts(session="s", direction="outbound", root="another"), 0),
        (Facts(session="s", direction="outbound"), 1),
    ],
    ids=["it called us", "it was moved here", "another node had its first bot"],
)
def test_that_a_call_was_answered_is_no_news_to_others(facts, bots):
    _, news = news_of(facts, bots)
    assert news.for_new_bot(0.0) == []


def test_who_answered_is_told_once_to_each_bot():
    call, news = news_of(Facts(session="s"))
    assert news.for_new_bot(0.0) == [] and news.who_answered() is None
    call.facts = replace(call.facts, answered_by="human")
    assert news.who_answered() == HUMAN
    assert news.who_answered() is None
    assert news.for_new_bot(0.0) == [HUMAN]
    assert news.who_answered() is None


def test_a_failed_transfer_is_told_to_one_bot_and_the_next_one_to_the_next():
    call, news = news_of(Facts(session="s", continuation=Continuation("attach", TRANSFER_FAILED, 2)))
    assert news.for_new_bot(0.0) == [FAILED]
    assert news.for_new_bot(0.0) == []
    call.facts = replace(call.facts, continuation=Continuation("attach", TRANSFER_FAILED, 4))
    assert news.for_new_bot(0.0) == [FAILED]


def test_a_bot_that_comes_after_the_warning_is_warned_too():
    _, news = news_of(Facts(session="s"))
    assert news.for_new_bot(90.0) == [pcm.Status("ending", {"seconds": 10.0})]
