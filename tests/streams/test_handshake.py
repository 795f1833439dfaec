"""The stream's door over real sockets: tokens, handshakes, junk, and what they cost the honest call: nothing."""

from __future__ import annotations

import asyncio
import base64
import struct

import pytest

from gateway.errors import LinkRefused
from gateway.media.endpoints import StreamEndpoint
from gateway.streams import handshake
from gateway.streams.handshake import MAX_EARLY, StreamHandshake
from tests.kit.node import MEDIA, start
from tests.kit.waiting import PATIENCE, until

CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}


@pytest.mark.parametrize(
    "before",
    [
        [],
        [CONNECTED],
        [CONNECTED, CONNECTED],
        [CONNECTED, {"event": "surprise"}],
        ["{", CONNECTED, "[]", "null"],
        [b"\x00\x01binary", CONNECTED],
        [{"event": "start", "start": None}, {"event": "start", "start": []}, {"event": None}],
        ["x" * 60_000],
    ],
    ids=[
        "start first",
        "connected",
        "connected twice",
        "start third",
        "junk",
        "binary",
        "starts that are none",
        "large",
    ],
)
async def test_every_handshake_that_has_a_start_is_good(gateway, before):
    carrier = await gateway.open(await gateway.stream_path())
    for message in before:
        carrier.send(message)
    carrier.send(start())
    await gateway.started()
    assert len(gateway.starts()) == 1
    carrier.send(MEDIA)
    await gateway.a_bot_hears()


async def test_audio_right_behind_start_is_not_lost(gateway):
    carrier = await gateway.open(await gateway.stream_path())
    carrier.send(start())
    loud = MEDIA | {"media": MEDIA["media"] | {"payload": base64.b64encode(bytes(160)).decode()}}
    for _ in range(10):
        carrier.send(loud)
    await gateway.a_bot_hears(10 * 640)
    heard = b"".join(bot.audio for bot in gateway.bots)
    assert sum(abs(sample) > 10_000 for (sample,) in struct.iter_unpack("<h", heard)) >= 10 * 320 - 64, (
        "but for the resampler's own delay"
    )


async def test_invalid_utf8_is_counted_and_dropped(gateway):
    carrier = await gateway.call()
    await gateway.started()
    # Straight into the protocol: the client library would rightly refuse to send it.
    carrier.socket._conn.send_text(b"\xff\xfe\xfd")
    carrier.socket._flush()
    carrier.send(MEDIA)
    await gateway.a_bot_hears()
    assert carrier.code is None


async def test_no_bad_message_after_start_ends_a_call(gateway):
    carrier = await gateway.call()
    await gateway.started()
    for junk in ("", "{", "[]", "null", b"\x00", start(), {"event": "media", "media": None}, {"event": "dtmf"}) * 20:
        carrier.send(junk)
    carrier.send(MEDIA)
    await gateway.a_bot_hears()
    assert carrier.code is None


async def test_five_unintelligible_messages_in_a_row_close_1003(gateway):
    carrier = await gateway.open(await gateway.stream_path())
    for _ in range(5):
        carrier.send("{")
    assert await carrier.until_closed() == 1003


async def test_no_start_closes_1008_and_the_url_works_again(gateway):
    path = await gateway.stream_path()
    gateway.limit(start_timeout=0.2)
    silent = await gateway.open(path)
    assert await silent.until_closed() == 1008
    gateway.limit(start_timeout=PATIENCE)
    honest = await gateway.open(path)
    honest.send(start())
    await gateway.started()
    assert len(gateway.starts()) == 1


async def test_an_oversized_message_closes_1009(gateway):
    carrier = await gateway.call()
    await gateway.started()
    carrier.send("x" * 70_000)
    assert await carrier.until_closed() == 1009


@pytest.mark.parametrize(
    "token", ["", "nonsense", "a.b.c.d.e", "x" * 5000, "%00", "a" * 32 + ".c3VwcG9ydA.1.zzzzzz.AAAA"]
)
async def test_a_stream_without_a_valid_token_is_refused_before_the_handshake(gateway, token):
    with pytest.raises(LinkRefused) as refused:
        await gateway.open(f"/ws/twilio/{token}")
    assert refused.value.status in (403, 404, 414)


async def test_a_token_for_one_carrier_opens_no_other(gateway):
    path = await gateway.stream_path()
    with pytest.raises(LinkRefused) as refused:
        await gateway.open(path.replace("twilio", "telnyx"))
    assert refused.value.status == 403


async def test_unknown_paths_are_404(gateway):
    for path in ("/", "/ws/nobody/token", "/ws/twilio/a/b", "/v2", "//ws"):
        with pytest.raises(LinkRefused) as refused:
            await gateway.open(path)
        assert refused.value.status == 404


async def test_a_spent_token_closes_1008_and_leaves_the_honest_call_alone(gateway):
    path = await gateway.stream_path()
    honest = await gateway.open(path)
    honest.send(start())
    await gateway.started()
    thief = await gateway.open(path)
    thief.send(start(stream_id="MZ9"))
    assert await thief.until_closed() == 1008
    honest.send(MEDIA)
    await gateway.a_bot_hears()
    assert honest.code is None


async def test_of_two_streams_with_one_token_at_once_one_is_served(gateway):
    path = await gateway.stream_path()
    rivals = [await gateway.open(path) for _ in range(4)]
    for n, rival in enumerate(rivals):
        rival.send(start(stream_id=f"MZ{n}"))
    await gateway.started()
    await until(lambda: sum(rival.code == 1008 for rival in rivals) == 3)
    assert len(gateway.starts()) == 1


async def test_a_start_that_names_another_call_closes_1008_and_spares_the_url(gateway):
    path = await gateway.stream_path()
    thief = await gateway.open(path)
    thief.send(start("CA-of-somebody-else"))
    assert await thief.until_closed() == 1008
    honest = await gateway.open(path)
    honest.send(start())
    await gateway.started()
    assert len(gateway.starts()) == 1


async def test_a_carrier_that_reconnects_is_welcome_when_its_stream_is_gone(gateway):
    path = await gateway.stream_path()
    first = await gateway.open(path)
    first.send(start())
    await gateway.started()
    [session] = gateway.sessions
    first.socket.abort()
    await until(lambda: session.stream is None)
    again = await gateway.open(path)
    again.send(start(stream_id="MZ2"))
    await until(lambda: any(m["status"] == "reattached" for bot in gateway.bots for m in bot.of("status")))


async def test_an_unknown_codec_ends_the_call_with_its_reason(gateway):
    message = start()
    message["start"]["mediaFormat"]["encoding"] = "audio/opus"
    carrier = await gateway.open(await gateway.stream_path())
    carrier.send(message)
    assert await carrier.until_closed() == 1003
    session = gateway.node.signer.session_id("twilio", "", "CA1")
    assert (await gateway.memory.find(session)).end_reason == "unsupported_codec"
    assert (await gateway.memory.slots("support.acme")).used == 0


async def test_an_unknown_codec_of_a_second_stream_ends_the_session_that_runs(gateway):
    first = await gateway.call()
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    [session] = gateway.sessions
    first.socket.abort()
    await until(lambda: session.stream is None)
    message = start(stream_id="MZ2")
    message["start"]["mediaFormat"]["encoding"] = "audio/opus"
    again = await gateway.open(gateway.path_in(await gateway.resume("CA1", "?gw_attempt=1")))
    again.send(message)
    assert await again.until_closed() == 1003
    assert (await bot.until("stop"))["reason"] == "unsupported_codec"
    await until(lambda: not gateway.sessions)
    facts = await gateway.memory.find(session.id)
    assert (facts.end_reason, facts.continuation.kind) == ("unsupported_codec", "hangup")
    assert (await gateway.memory.slots("support.acme")).used == 0


async def test_static_streams_find_their_service_by_url_parameter_or_number(gateway):
    ways = (
        ("/ws/twilio?serviceHost=support.acme", {}),
        ("/ws/twilio/s/support.acme/any-key", {}),
        ("/ws/twilio", {"_pipecatCloudServiceHost": "support.acme"}),
        ("/ws/twilio", {"serviceHost": "support.acme"}),
        ("/ws/twilio", {"to_number": "+15550100000"}),
        ("/ws", {}),
    )
    for number, (path, custom) in enumerate(ways):
        carrier = await gateway.open(path)
        carrier.send(CONNECTED)
        carrier.send(start(f"CA{number}", **custom))
        await until(lambda: gateway.sessions)
        carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {}})
        await until(lambda: not gateway.sessions)


async def test_a_static_stream_for_an_unknown_service_is_closed(gateway):
    carrier = await gateway.open("/ws/twilio?serviceHost=nobody.acme")
    carrier.send(start())
    assert await carrier.until_closed() == 1008


async def test_junk_on_the_shared_path_never_becomes_a_carrier(gateway):
    carrier = await gateway.open("/ws")
    for _ in range(5):
        carrier.send({"event": "start", "start": {"x": 1}})
    assert await carrier.until_closed() == 1003


class Unreadable(StreamEndpoint):
    """A reader with a bug: a message that says "boom" is too much for it."""

    def received(self, data: bytes, text: bool) -> None:
        if b"boom" in data:
            raise ValueError("boom")
        super().received(data, text)


async def test_a_bug_in_reading_a_stream_leaves_no_caller_on_a_dead_line(gateway, monkeypatch):
    """The stream is closed, and the carrier comes back: another one gets the same bot."""
    monkeypatch.setattr(handshake, "StreamEndpoint", Unreadable)
    carrier = await gateway.open(await gateway.stream_path())
    carrier.send(start())
    carrier.send({"event": "boom"})
    assert await carrier.until_closed() == 1011
    again = await gateway.open(gateway.path_in(await gateway.resume("CA1", "?gw_attempt=1")))
    again.send(start(stream_id="MZ2"))
    again.send(MEDIA)
    await gateway.a_bot_hears()


async def test_what_there_is_no_place_for_before_admission_is_counted(gateway, monkeypatch):
    handlers, opened = [], StreamHandshake.opened
    monkeypatch.setattr(StreamHandshake, "opened", lambda self, socket: handlers.append(self) or opened(self, socket))
    admitted, confirm = asyncio.Event(), gateway.memory.confirm

    async def late(*about):
        await admitted.wait()
        return await confirm(*about)

    gateway.memory.confirm = late
    gateway.node.registry.timeout = PATIENCE
    carrier = await gateway.open(await gateway.stream_path())
    carrier.send(start())
    for _ in range(MAX_EARLY + 10):
        carrier.send(MEDIA)
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": {"name": "last"}})
    [handler] = handlers
    await until(lambda: handler._since_start and b"last" in handler._since_start[-1][0])
    admitted.set()
    await gateway.started()
    [session] = gateway.sessions
    assert session.bridge.counts.dropped["early"] == 11
