"""Status callbacks: the session is told on whichever node it runs, and a slot that nobody takes is free again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.kit.lost_answers import LosesAnswers
from tests.kit.node import SERVICE
from tests.kit.two_nodes import second_node
from tests.kit.waiting import until
from tests.webhooks.wires import WIRES, join, path_in, ring


@pytest.fixture(params=WIRES)
def carrier(request) -> str:
    return request.param


async def say_that_it_ended(gateway, carrier: str) -> None:
    over = {"Event": "Hangup"} if carrier == "plivo" else {}
    over |= {"Status": "completed"} if carrier == "exotel" else {"CallStatus": "completed"}
    await gateway.http.post(f"/webhooks/{carrier}/status", data={**WIRES[carrier].status, **over})


async def come_back(gateway, carrier: str) -> str:
    """The call's stream has ended without it. Returns the path of the next one."""
    form = {**WIRES[carrier].voice, "CallStatus": "in-progress"}
    answer = await gateway.http.post(f"/webhooks/{carrier}/resume?gw_attempt=1", data=form)
    return path_in(answer.text) or await ring(gateway, carrier)  # Exotel's flow asks at /voice again


async def test_a_call_that_ends_before_its_next_stream_leaves_no_slot(gateway, carrier):
    _, stream = await join(gateway, carrier, await ring(gateway, carrier))
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    stream.socket.close()
    await until(lambda: not gateway.sessions)
    assert await come_back(gateway, carrier)
    assert (await gateway.memory.slots(SERVICE)).used == 1
    await say_that_it_ended(gateway, carrier)
    assert (await gateway.memory.slots(SERVICE)).used == 0


@pytest.mark.parametrize("question", ["merge", "release"])
async def test_a_call_that_ended_is_ended_elsewhere_though_an_answer_is_lost(gateway, carrier, question):
    async with second_node(gateway) as second:
        bot, _ = await join(second, carrier, await ring(second, carrier))
        [session] = second.sessions
        await until(lambda: session.facts.node)
        memory = gateway.memory
        gateway.node.registry.registry = lossy = LosesAnswers(memory, question)
        await say_that_it_ended(gateway, carrier)
        gateway.node.registry.registry = memory
        assert lossy.lost == 1
        assert (await bot.until("stop"))["reason"] == "caller_hangup"


async def test_a_session_that_wraps_up_keeps_no_news_from_the_call_elsewhere(gateway, carrier):
    """The carrier's close was no hang-up: the call runs on the second node, and the first one's bot still ends."""
    async with second_node(gateway) as second:
        bot, stream = await join(gateway, carrier, await ring(gateway, carrier))
        [older] = gateway.sessions
        await until(lambda: older.facts.node)
        link, bot.socket = bot.socket, SimpleNamespace(close=lambda: None)  # it takes its time after `stop`
        stream.socket.close()
        await bot.until("stop")
        path = await come_back(second, carrier)
        again = await second.open(path)
        again.send(dict(WIRES[carrier].start))
        await gateway.started(2)
        [newer] = second.sessions
        await until(lambda: newer.facts.node == second.node.id)
        assert older.ended and older in list(gateway.sessions)
        await say_that_it_ended(gateway, carrier)
        await until(lambda: newer.ended == "caller_hangup")
        link.close()
