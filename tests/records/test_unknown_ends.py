"""A call whose gateway died is asked of at its carrier, before its end is told and for a while after it."""

from __future__ import annotations

import asyncio
import json
import tomllib
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from gateway.carriers import CARRIERS
from gateway.carriers.orders import CallOrder, CallState
from gateway.node.http_client import HttpClient
from gateway.node.limits import CallLimits
from gateway.pool.facts import FactEvent
from gateway.records.schema import outbox
from gateway.records.unknown_ends import AskLimits
from gateway.sessions.ask_outcome import ask_state
from gateway.simulator.rest import Plan, SimulatedCarriers
from tests.records.calls import HANGUP, INBOUND, STREAM
from tests.records.upkept import LIMITS, Node
from tests.simulator.scripted_gateway import ScriptedGateway

ASK = AskLimits(close_after=10.0, pauses=(2.0, 5.0, 60.0), search_every=20.0)
ENDED = CallState("ended", "completed", 5)
DEAD_AT = 110.6
"""When the gateway that had the call was last heard: five seconds after its call's end."""


@dataclass
class Api:
    """Answers each question with the next of its answers; the last one again and again."""

    answers: list[CallState | None]
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def __call__(self, carrier: str, account: str, call_id: str) -> CallState | None:
        self.asked.append((carrier, account, call_id))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def a_node(engine, ask, limits: AskLimits = ASK) -> Node:
    node = Node(engine, "n2", limits=replace(LIMITS, ask=limits), ask_carrier=ask)
    node.writer._wanted = frozenset({"call.ended"})
    return node


async def killed(engine, *sessions: str, **known) -> None:
    """A gateway took these calls, and was last heard at DEAD_AT."""
    node = Node(engine, "n1", now=101.0)
    for session in sessions or ("s1",):
        await node.write(replace(INBOUND, account="AC1", **known), STREAM, session=session)
    await node.round(DEAD_AT)


async def told(engine) -> list[dict]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(outbox.c.payload).where(outbox.c.type == "call.ended"))
        return [json.loads(payload)["data"] for (payload,) in rows]


@pytest.mark.parametrize("name", ["twilio", "exotel"])
async def test_the_carriers_api_completes_the_record(engine, name):
    """The simulated REST API says "completed" and a duration of 5, and so do the record and its event."""
    async with ScriptedGateway() as hook, SimulatedCarriers(plan=Plan(rings=0.02, seconds=0.1)) as carriers:
        settings = tomllib.loads(carriers.settings())["carriers"][name]
        plugin, client = CARRIERS[name], HttpClient()
        carrier = plugin.carrier(plugin.config.model_validate(settings), public_url=hook.url)
        account = carrier.default_account()
        at, ours, callee = f"{hook.url}/webhooks/{name}", "+918047112345", "+919494865411"
        stream = f"{hook.url.replace('http', 'ws')}/ws/{name}/t"
        order = CallOrder("0" * 32, callee, ours, f"{at}/voice", f"{at}/status", stream)
        await client.send(carrier.place_call(order, account), 5.0)
        await carriers.ended()
        (call,) = carriers.calls
        call.ended_at = call.answered_at + 5.0
        await killed(engine, carrier=name, call_id=call.call_id)
        gateway = SimpleNamespace(carriers={name: carrier}, http_client=client, limits=CallLimits())
        started = a_node(engine, lambda *of: ask_state(gateway, of[0], account, of[2]))
        await started.rounds(120.0, 128.0)
        await client.close()
    record = await started.store.get("s1")
    assert (record.status, record.end_reason, record.ended_at, record.duration_s) == (
        "ended",
        "stream_lost",
        106.0,
        5.0,
    )
    (event,) = await told(engine)
    assert (event["end_reason"], event["duration_s"]) == ("stream_lost", 5.0)


async def test_what_was_closed_without_its_carrier_is_asked_of_at_next_start(engine):
    await killed(engine)
    without = Node(engine, "n2")
    await without.rounds(120.0, 128.0)
    assert await without.end() == ("ended", "unknown_end", DEAD_AT)
    api = Api([ENDED])
    started = a_node(engine, api)
    await started.round(140.0)
    assert await started.end() == ("ended", "stream_lost", 106.0)
    await started.rounds(142.0, 200.0)
    assert api.asked == [("twilio", "AC1", "CA1")]


async def test_a_carrier_that_is_late_completes_what_was_told_without_it(engine):
    await killed(engine)
    api = Api([CallState(), CallState("answered"), CallState(), CallState(), ENDED])
    started = a_node(engine, api, replace(ASK, pauses=(2.0, 2.0, 2.0, 20.0)))
    await started.rounds(120.0, 134.0)
    assert (await started.end())[0] == "answered"  # it is not told while the carrier may answer soon
    await started.rounds(136.0, 144.0)
    assert await started.end() == ("ended", "unknown_end", DEAD_AT)
    assert [event["end_reason"] for event in await told(engine)] == ["unknown_end"]
    await started.rounds(146.0, 166.0)
    assert await started.end() == ("ended", "stream_lost", 106.0)


async def test_a_carrier_that_never_knows_is_left_alone_at_last(engine):
    await killed(engine)
    api = Api([CallState()])
    started = a_node(engine, api)
    await started.rounds(120.0, 400.0)
    assert await started.end() == ("ended", "unknown_end", DEAD_AT)
    assert len(api.asked) == 1 + len(ASK.pauses)


async def test_a_call_that_cannot_be_asked_of_is_closed_at_once(engine):
    await killed(engine, "s1")
    started = a_node(engine, Api([None]))
    await started.rounds(120.0, 128.0)
    assert await started.end() == ("ended", "unknown_end", DEAD_AT)


async def test_what_the_session_said_of_its_end_is_not_asked_for(engine):
    node, api = Node(engine, "n1", now=112.0), Api([ENDED])
    await node.write(INBOUND, STREAM, HANGUP)
    started = a_node(engine, api)
    await started.rounds(120.0, 180.0)
    assert await started.end() == ("ended", "caller_hangup", 111.5)
    assert api.asked == []


async def test_only_what_was_closed_lately_is_asked_of(engine):
    await killed(engine)
    await Node(engine, "n2").rounds(120.0, 128.0)
    api = Api([ENDED])
    late = a_node(engine, api)
    await late.round(128.0 + ASK.ask_within + 60.0)
    assert api.asked == []


async def test_a_few_are_asked_of_at_once_and_some_are_remembered(engine):
    sessions = [f"s{n}" for n in range(6)]
    await killed(engine, *sessions)
    in_the_air, most = 0, 0

    async def ask(*_: str) -> CallState:
        nonlocal in_the_air, most
        in_the_air += 1
        most = max(most, in_the_air)
        await asyncio.sleep(0.001)
        in_the_air -= 1
        return ENDED

    started = a_node(engine, ask, replace(ASK, at_once=2, max_questions=5))
    await started.rounds(120.0, 130.0)
    ends = [(await started.end(session))[1] for session in sessions]
    assert (most, sorted(ends)) == (2, ["stream_lost"] * 5 + ["unknown_end"])
    await started.rounds(132.0, 166.0)  # there is room again
    assert {(await started.end(session))[1] for session in sessions} == {"stream_lost"}


async def test_another_nodes_answer_is_enough(engine):
    """Both found the same calls; who is later looks into the record first."""
    await killed(engine)
    await Node(engine, "n2").rounds(120.0, 128.0)
    first, second = Api([CallState(), ENDED]), Api([CallState()])
    one, other = a_node(engine, first), a_node(engine, second)
    for now in (130.0, 132.0, 150.0):
        await one.round(now)
        await other.round(now + 0.5)
    assert (len(first.asked), len(second.asked)) == (2, 1)


async def test_a_carrier_that_tells_no_time_ends_it_when_it_was_last_heard(engine):
    await killed(engine)
    started = a_node(engine, Api([CallState("ended")]))
    await started.rounds(120.0, 128.0)
    assert await started.end() == ("ended", "stream_lost", DEAD_AT)


async def test_a_callback_to_the_next_gateway_does_not_lengthen_the_call(engine):
    """A carrier repeats it until someone listens: the time at which it is heard then is not the call's end."""
    await killed(engine)
    started = a_node(engine, Api([ENDED]))
    started.now = 119.0
    await started.write(INBOUND, STREAM, FactEvent(status="ended", call_ended=119.0, outcome="completed"))
    await started.rounds(120.0, 140.0)
    assert await started.end() == ("ended", "stream_lost", 106.0)
    assert [event["duration_s"] for event in await told(engine)] == [5.0]


async def test_an_end_ahead_of_our_clock_is_now(engine):
    await killed(engine)
    started = a_node(engine, Api([CallState("ended", "completed", None, 9e9)]))
    await started.rounds(120.0, 128.0)
    assert (await started.end())[2] == 128.0
