"""The session ends by itself; the carrier, which comes back at any moment, is told what that session has left."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.node.services import Fallback, Services
from gateway.protocol.codes import EndReason
from tests.kit.node import TIME
from tests.kit.waiting import until
from tests.webhooks.wires import WIRES, join, path_in, ring

NUMBER = "+15550123"


PRESSING = pytest.mark.parametrize("carrier", ["telnyx", "twilio"])
"""Carriers whose XML presses keys, for which their stream is closed."""


async def after_keys(gateway, carrier: str) -> str:
    """The carrier has pressed the keys that it was given."""
    form = {**WIRES[carrier].voice, "CallStatus": "in-progress"}
    return (await gateway.http.post(f"/webhooks/{carrier}/resume?gw_after=digits&gw_attempt=1", data=form)).text


async def press_keys_and_end(gateway, carrier: str, reason: EndReason) -> None:
    """The bot has keys pressed, for which the stream is closed; its session ends before the stream is back."""
    bot, stream = await join(gateway, carrier, await ring(gateway, carrier))
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    bot.say(type="dtmf", digits="12#")
    await stream.until_closed()
    session.end(reason)
    await until(lambda: not gateway.sessions)


@PRESSING
async def test_a_session_that_ended_while_keys_were_pressed_stays_ended(gateway, carrier):
    await press_keys_and_end(gateway, carrier, EndReason.MAX_DURATION)
    answer = await after_keys(gateway, carrier)
    assert "Hangup" in answer and not path_in(answer)


@PRESSING
async def test_a_worker_lost_while_keys_were_pressed_leaves_the_forward(gateway, carrier):
    node = gateway.node
    node.services = Services([replace(service, when_full=Fallback("forward", NUMBER)) for service in node.services])
    await press_keys_and_end(gateway, carrier, EndReason.WORKER_LOST)
    answer = await after_keys(gateway, carrier)
    assert NUMBER.lstrip("+") in answer and not path_in(answer)


@PRESSING
async def test_a_repeated_request_after_keys_is_answered_alike(gateway, carrier):
    bot, stream = await join(gateway, carrier, await ring(gateway, carrier))
    bot.say(type="dtmf", digits="12#")
    await stream.until_closed()
    first, again = [path_in(await after_keys(gateway, carrier)) for _ in range(2)]
    assert first and again


class SlowWrites:
    """A registry that is slow to keep what changes a session's status."""

    def __init__(self, registry) -> None:
        self.registry = registry

    def __getattr__(self, name):
        return getattr(self.registry, name)

    async def merge(self, session, event):
        if event.status:
            await asyncio.sleep(TIME)
        return await self.registry.merge(session, event)


@pytest.mark.parametrize("carrier", sorted(set(WIRES) - {"exotel"}))  # its flow knows of no parking
async def test_a_parked_call_gets_no_new_bot_from_a_slow_registry(gateway, carrier):
    """The carrier asks as soon as its stream is closed: by then it must be known that the bot is done."""
    node = gateway.node
    node.services = Services([replace(service, after_bot="park") for service in node.services])
    bot, stream = await join(gateway, carrier, await ring(gateway, carrier))
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    gateway.node.registry.registry = SlowWrites(gateway.memory)
    bot.socket.close()
    await stream.until_closed()
    form = {**WIRES[carrier].voice, "CallStatus": "in-progress"}
    answer = (await gateway.http.post(f"/webhooks/{carrier}/resume?gw_attempt=1", data=form)).text
    assert ("Pause" in answer or "Wait" in answer) and not path_in(answer)
