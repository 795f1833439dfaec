"""The number that a bot transferred its call to does not answer: the call goes back to a bot, and goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.protocol.codes import EndReason
from gateway.sessions.transferred import count_transferred
from tests.kit.two_nodes import second_node
from tests.kit.waiting import until
from tests.webhooks.test_resume_on_another_node import attaches, speaking
from tests.webhooks.wires import WIRES, join, path_in, ring

IN_VAIN = {"CallStatus": "in-progress", "DialCallStatus": "no-answer", "DialStatus": "no-answer"}


@pytest.fixture(params=WIRES)
def carrier(request) -> str:
    return request.param


async def transfer(gateway, carrier: str) -> str:
    """A bot transfers its call, and its session ends. Returns the session's id."""
    bot, stream = await join(gateway, carrier, await ring(gateway, carrier))
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    bot.say(type="transfer", to="+15550123")
    await stream.until_closed()
    await until(lambda: not gateway.sessions)
    return session.id


async def dialled_in_vain(gateway, carrier: str) -> tuple[int, bytes]:
    """The carrier's request after the dial."""
    query = "" if carrier == "exotel" else "?gw_after=dial&gw_attempt=1"
    form = {**WIRES[carrier].voice, **IN_VAIN}
    answer = await gateway.http.post(f"/webhooks/{carrier}/resume{query}", data=form)
    return answer.status_code, answer.content


async def go_on(gateway, carrier: str):
    """The call is with a bot again. Returns its stream."""
    status, content = await dialled_in_vain(gateway, carrier)
    assert attaches(carrier, status, content)
    path = await ring(gateway, carrier, **IN_VAIN) if carrier == "exotel" else path_in(content.decode())
    stream = await gateway.open(path)
    stream.send(dict(WIRES[carrier].start))
    await gateway.started(2)
    [session] = gateway.sessions
    await until(lambda: session.facts.streams == 2)
    return stream


async def test_a_dial_in_vain_gives_the_call_a_bot_again(gateway, carrier):
    await transfer(gateway, carrier)
    await go_on(gateway, carrier)


async def test_the_facts_of_a_call_that_went_on_are_kept_as_a_calls(gateway, carrier):
    """Its session's end is old; what is known of it must last as long as the call may."""
    session = await transfer(gateway, carrier)
    assert (await gateway.node.registry.find(session)).may_expire_early
    await go_on(gateway, carrier)
    facts = await gateway.node.registry.find(session)
    assert (facts.status, facts.over, facts.may_expire_early) == ("ended", False, False)
    over = {"Event": "Hangup"} if carrier == "plivo" else {}
    over |= {"Status": "completed"} if carrier == "exotel" else {"CallStatus": "completed"}
    await gateway.http.post(f"/webhooks/{carrier}/status", data={**WIRES[carrier].status, **over})
    assert (await gateway.node.registry.find(session)).may_expire_early


@pytest.mark.parametrize("carrier", ["telnyx", "twilio"])  # whose XML presses keys
async def test_the_bot_of_a_call_that_went_on_presses_keys(gateway, carrier):
    await transfer(gateway, carrier)
    stream = await go_on(gateway, carrier)
    [bot] = [bot for bot in gateway.bots if bot.of("start") and bot.closed_with is None]
    bot.say(type="dtmf", digits="12#")
    await stream.until_closed()
    form = {**WIRES[carrier].voice, "CallStatus": "in-progress"}
    answer = (await gateway.http.post(f"/webhooks/{carrier}/resume?gw_attempt=2", data=form)).text
    assert "12#" in answer and "Hangup" not in answer


async def test_no_other_node_takes_the_call_that_went_on(gateway, carrier):
    async with second_node(gateway) as second:
        await transfer(gateway, carrier)
        stream = await go_on(gateway, carrier)
        async with speaking(stream, carrier):
            form = {**WIRES[carrier].voice, "CallStatus": "in-progress"}
            answer = await second.http.post(f"/webhooks/{carrier}/resume?gw_attempt=1", data=form)
        assert not attaches(carrier, answer.status_code, answer.content) and b"Hangup" not in answer.content
        assert stream.code is None


def counted(gateway) -> list[str]:
    lines = gateway.node.metrics.expose({}).decode().splitlines()
    return [
        line.partition('outcome="')[2].partition('"')[0] for line in lines if line.startswith("gateway_calls_total{")
    ]


async def test_a_call_that_came_back_is_counted_at_its_last_end(gateway, carrier):
    session = await transfer(gateway, carrier)
    ended = await gateway.node.registry.find(session)
    await go_on(gateway, carrier)
    gateway.sessions.get(session).end(EndReason.API_HANGUP)
    await until(lambda: not gateway.sessions)
    await count_transferred(gateway.node, ended, ended.service)
    assert counted(gateway) == ["api_hangup"]


async def test_a_call_that_stays_away_is_counted_as_transferred(gateway, carrier):
    gateway.node.limits = replace(gateway.node.limits, dial_rings=0.05)
    await transfer(gateway, carrier)
    await until(lambda: counted(gateway) == ["transferred"])
