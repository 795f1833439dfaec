"""The bridge of a session speaks as its worker does: by what the worker's host said, not by the settings alone."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from gateway.media.relay import Relay
from gateway.pool.registry import Host
from gateway.protocol.codes import EndReason
from gateway.protocol.workers import Worker
from tests.kit.node import SERVICE, TIME, start
from tests.kit.waiting import until


@pytest.fixture
def service(service):
    return replace(service, protocol=None, max_hold=30.0 * TIME, hold_audio=b"\x00\x10" * 16000)


async def serve(gateway, protocol: str, cap: int = 2) -> None:
    """The host of both workers says that they speak this."""
    workers = tuple(Worker(f"w{n}", url, "ready") for n, url in enumerate(gateway.worker_urls))
    await gateway.memory.put_host(Host("h", 1, SERVICE, protocol, cap, workers, "link-key"))


async def end(carrier, call_id: str = "CA1") -> None:
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": call_id}})
    await carrier.until_closed()


def media(byte: bytes) -> dict:
    payload = base64.b64encode(byte * 160).decode()
    return {"event": "media", "media": {"track": "inbound", "payload": payload}, "streamSid": "MZ1"}


async def bot_of(gateway, event: str = "start"):
    """The first that has had a `start`, in whichever words."""
    return await until(lambda: next((bot for bot in gateway.bots if bot.of(event) or bot.of_wire(event)), None))


async def test_a_service_without_a_protocol_speaks_what_its_host_says(gateway):
    await serve(gateway, "relay")
    carrier = await gateway.call()
    bot = await bot_of(gateway)
    bot.say(event="media", streamSid="MZ1", media={"payload": "AAAA"})
    assert (await carrier.until("media"))["media"]["payload"] == "AAAA"
    [session] = gateway.sessions
    assert isinstance(session.bridge, Relay)


async def test_the_next_call_gets_what_the_host_says_by_then(gateway):
    await serve(gateway, "relay")
    await end(await gateway.call())
    await until(lambda: not gateway.sessions)
    await serve(gateway, "pcm")
    await gateway.call("CA2")
    await gateway.started()


async def test_a_caller_on_hold_gets_the_bridge_of_the_worker_that_comes(gateway):
    """Held as for a pcm bot, as nothing else was known; then the worker is a relayed one, and has the whole wire."""
    await serve(gateway, "pcm", cap=1)
    first = await gateway.call("CA1")
    await gateway.started()
    held = await gateway.call("CA2")
    await held.until("media", 3)  # hold audio
    [session] = [one for one in gateway.sessions if one.claim is None]
    assert not isinstance(session.bridge, Relay)
    await serve(gateway, "relay")  # a deploy, and a place more
    await until(lambda: isinstance(session.bridge, Relay), complain="the bridge is the other one")
    bot = await until(lambda: next((one for one in gateway.bots if one.of_wire("start")), None))
    await held.until("clear")  # of the hold audio
    held.send(media(b"\x7f"))
    assert base64.b64decode((await bot.until_wire("media"))["media"]["payload"]) == b"\x7f" * 160
    bot.say(event="media", streamSid="MZ1", media={"payload": "AAAA"})
    await until(lambda: any(m["media"]["payload"] == "AAAA" for m in held.heard if m["event"] == "media"))
    await end(first)


async def test_a_caller_held_for_a_relayed_bot_gets_a_pcm_bot(gateway):
    await serve(gateway, "relay", cap=1)
    await gateway.call("CA1")
    await bot_of(gateway)
    held = await gateway.open(await gateway.stream_path("CA2"))
    held.send(start("CA2"))
    session = await until(lambda: next((one for one in gateway.sessions if one.claim is None and one.stream), None))
    assert isinstance(session.bridge, Relay)
    await serve(gateway, "pcm")
    await gateway.started()
    [bot] = [one for one in gateway.bots if one.of("start")]
    held.send(media(b"\x00"))
    await until(lambda: len(bot.audio) >= 640, complain="the pcm bot hears the caller")
    bot.socket.send(b"\x00\x20" * 3200)
    await held.until("media")
    relays = [one for one in session.node.ticker._members if isinstance(one, Relay)]
    assert len(relays) == 1  # of the other call: the one of this call is off the clock


@pytest.mark.parametrize("protocol", ["pcm", "relay"])
async def test_the_size_of_a_body_is_that_of_the_bots_that_were_met_last(gateway, protocol):
    await serve(gateway, protocol)
    await gateway.call()
    await bot_of(gateway)
    assert gateway.node.protocol_of(gateway.node.services.get(SERVICE)) == protocol


async def test_no_bot_is_started_for_a_stream_that_its_bridge_cannot_read(gateway):
    """Held for a relayed bot, which speaks the carrier's wire. Then a pcm bot is free, and its bridge knows no Opus."""
    await serve(gateway, "relay", cap=1)
    first = await gateway.call("CA1")
    await bot_of(gateway)
    opus = start("CA2")
    opus["start"]["mediaFormat"] = {"encoding": "audio/opus", "sampleRate": 48000, "channels": 1}
    held = await gateway.open(await gateway.stream_path("CA2"))
    held.send(opus)
    session = await until(lambda: next((one for one in gateway.sessions if one.claim is None and one.stream), None))
    await serve(gateway, "pcm")
    await held.until_closed()
    await until(lambda: session not in [*gateway.sessions])
    assert session.ended is EndReason.UNSUPPORTED_CODEC
    assert not gateway.starts()
    assert session.worker.starts == 0
    await end(first)
