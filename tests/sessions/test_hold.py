"""Full pools: held in the stream, in order; busy; forwarded. Two workers, so the third caller finds them taken."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

import pytest
from lxml import etree

from gateway.node.services import Fallback
from tests.kit.node import TIME, start
from tests.kit.waiting import until


@pytest.fixture
def service(service):
    return replace(service, max_hold=30.0 * TIME, hold_audio=b"\x00\x10" * 16000)


def verbs(response) -> list[str]:
    return [element.tag for element in etree.fromstring(response.content)]


async def fill(gateway) -> list:
    """Both workers talk."""
    callers = [await gateway.call("CA-1"), await gateway.call("CA-2")]
    await gateway.started(2)
    return callers


def stop(carrier, call_id: str) -> None:
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": call_id}})


async def queues(gateway, n: int) -> bool:
    """So many are on hold."""
    return (await gateway.memory.slots("support.acme")).queued == n


def set_policy(gateway, **changes) -> None:
    services = gateway.node.services._by_host
    services["support.acme"] = gateway.node.services._default = replace(services["support.acme"], **changes)
    gateway.node.services._by_number["+15550100000"] = services["support.acme"]


async def test_a_caller_on_hold_hears_music_and_then_the_bot(gateway):
    first, _ = await fill(gateway)
    held = await gateway.call("CA-3")
    music = await held.until("media", 3)
    assert base64.b64decode(music["media"]["payload"]).strip(b"\xff")
    stop(first, "CA-1")
    await gateway.started(3)
    await held.until("clear")
    assert held.code is None


async def test_a_bot_that_says_goodbye_and_leaves_is_not_followed_by_hold_audio(gateway):
    carrier = await gateway.call()
    await gateway.started()
    gateway.bot.socket.send(b"\x00\x20" * 16 * 1400)  # 1.4 s, longer than a caller waits for hold audio
    gateway.bot.socket.close()
    mark = await carrier.until("mark")
    await asyncio.sleep(0.5)  # the news that it was heard comes late
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]})
    await carrier.until_closed()
    heard = [base64.b64decode(message["media"]["payload"]) for message in carrier.heard if message["event"] == "media"]
    assert len(b"".join(heard)) == 1.4 * 8000


async def test_a_repeated_webhook_of_a_held_call_gives_the_same_bytes(gateway):
    await fill(gateway)
    assert (await gateway.voice("CA-3")).content == (await gateway.voice("CA-3")).content


async def test_those_on_hold_are_served_in_their_order(gateway):
    first, second = await fill(gateway)
    held = []
    for n in (3, 4):
        held.append(await gateway.call(f"CA-{n}"))
        await until(lambda n=n: queues(gateway, n - 2))
    stop(first, "CA-1")
    await gateway.started(3)
    stop(second, "CA-2")
    await gateway.started(4)
    calls = [m["call"]["call_id"] for bot in gateway.bots for m in bot.of("start")]
    order = sorted(
        ((m["fence"], m["call"]["call_id"]) for bot in gateway.bots for m in bot.of("start")), key=lambda pair: pair[0]
    )
    assert [call for _, call in order][2:] == ["CA-3", "CA-4"], calls


async def test_who_hangs_up_on_hold_leaves_the_queue(gateway):
    await fill(gateway)
    held = await gateway.call("CA-3")
    await held.until("media")
    stop(held, "CA-3")
    await until(lambda: queues(gateway, 0))
    await until(lambda: len(gateway.sessions) == 2)


async def test_who_waits_too_long_is_let_go(gateway):
    set_policy(gateway, max_hold=0.3)
    await fill(gateway)
    held = await gateway.call("CA-3")
    assert await held.until_closed() == 1000
    assert verbs(await gateway.resume("CA-3")) == ["Hangup"]
    session = gateway.node.signer.session_id("twilio", "", "CA-3")
    await until(lambda: session not in gateway.sessions)
    assert (await gateway.memory.find(session)).end_reason == "hold_timeout"
    assert await queues(gateway, 0)


async def test_a_hold_token_is_used_once(gateway):
    await fill(gateway)
    path = await gateway.stream_path("CA-3")
    held = await gateway.open(path)
    held.send(start("CA-3"))
    await held.until("media")
    thief = await gateway.open(path)
    thief.send(start("CA-3"))
    assert await thief.until_closed() == 1008
    assert held.code is None


async def test_busy_is_said_before_the_call_is_answered(gateway):
    await fill(gateway)
    set_policy(gateway, when_full=Fallback("busy"))
    answer = await gateway.voice("CA-3")
    [reject] = etree.fromstring(answer.content)
    assert (reject.tag, reject.get("reason")) == ("Reject", "busy")


async def test_forward_dials_the_number_that_is_configured(gateway):
    await fill(gateway)
    set_policy(gateway, when_full=Fallback("forward", "+15550123456"))
    answer = await gateway.voice("CA-3")
    assert etree.fromstring(answer.content).findtext("Dial/Number") == "+15550123456"


async def test_a_gateway_that_is_overloaded_admits_nobody_new(gateway):
    gateway.node.overloaded = True
    assert verbs(await gateway.voice("CA-1")) == ["Reject"]


async def test_a_registry_that_is_down_gives_busy(gateway):
    gateway.memory.down = True
    assert verbs(await gateway.voice("CA-1")) == ["Reject"]
    gateway.memory.down = False
    assert verbs(await gateway.voice("CA-1")) == ["Connect", "Redirect"]


async def test_a_call_on_hold_when_the_registry_goes_down_is_held_on(gateway):
    first, _ = await fill(gateway)
    held = await gateway.call("CA-3")
    await held.until("media")
    gateway.memory.down = True
    await asyncio.sleep(0.3)
    gateway.memory.down = False
    stop(first, "CA-1")
    await gateway.started(3)
    assert held.code is None
