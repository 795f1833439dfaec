"""Calls as their carriers and sessions tell them, for the tests of this room."""

from __future__ import annotations

from gateway.pool.facts import FactEvent, Facts, merge

INBOUND = FactEvent(
    carrier="twilio", call_id="CA1", service="support.acme", direction="inbound", from_number="+15550100001",
    to_number="+15550100000", status="ringing", created=100.0, body={"plan": "gold"},
)  # fmt: skip
STREAM = FactEvent(status="streaming", answered=101.0, streams=1, node="n1")
BOT = FactEvent(starts=1, bot_start_ms=120)
HANGUP = FactEvent(status="ending", end_reason="caller_hangup", ended=111.5, ended_streams=1)
COMPLETED = FactEvent(status="ended", ended=112.0, call_ended=112.0, outcome="completed")
CALL = (INBOUND, STREAM, BOT, HANGUP, COMPLETED)


def facts_of(*events: FactEvent, session: str = "s1") -> Facts:
    facts = Facts(session=session)
    for event in events:
        facts = merge(facts, event)
    return facts
