"""What the record says of the wait for a bot."""

from __future__ import annotations

import pytest

from gateway.pool.facts import FactEvent, Facts
from gateway.pool.registry import Claim
from gateway.protocol.workers import Worker
from gateway.sessions.bot_wait import BotWait

READY = Claim("s1", "support.acme", "h1", Worker("w1", "unix:/run/w1.sock", "busy", "s1"), 1, 7, 100.0)
STARTING = Claim("s1", "support.acme", "h1", None, 1, 7, 100.0)


@pytest.mark.parametrize(
    "brought, notes, expected",
    [
        (READY, [], FactEvent(starts=1, bot_start_ms=250)),
        (STARTING, [], FactEvent(starts=1, bot_start_ms=250, cold=True)),
        (READY, [BotWait.note_queued], FactEvent(starts=1, bot_start_ms=250, hold_ms=250)),
        (None, [], FactEvent(starts=1, bot_start_ms=250, hold_ms=250)),
        (None, [BotWait.note_starting], FactEvent(starts=1, bot_start_ms=250, hold_ms=250, cold=True)),
    ],
)
def test_the_first_bot(brought, notes, expected):
    now = [10.0]
    wait = BotWait(Facts(), lambda: now[0])
    wait.begin(brought, first=True)
    for note in notes:
        note(wait)
    now[0] = 10.25
    assert wait.over(1) == expected


def test_a_wait_for_the_next_bot_is_added():
    now = [10.0]
    wait = BotWait(Facts(hold_ms=100), lambda: now[0])
    wait.begin(None, first=False)
    now[0] = 11.0
    assert wait.over(2) == FactEvent(starts=2, hold_ms=100)
    wait.begin(None, first=False)
    wait.note_queued()
    now[0] = 13.0
    assert wait.over(3) == FactEvent(starts=3, hold_ms=2100)
