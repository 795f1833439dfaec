"""What a holder of a stream key, or of a URL that somebody logged, can do to calls that are not theirs: nothing."""

from __future__ import annotations

import asyncio

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from gateway.carriers import CARRIERS
from gateway.errors import LinkRefused
from gateway.node.http_client import NotSent
from gateway.sockets import server_protocol
from gateway.streams.authorize import UpgradeAuthorizer
from tests.kit.node import MEDIA, SERVICE, start
from tests.kit.waiting import until

EXOTEL_KEY = "the stream key of Exotel's flow"
TWILIO_KEY = "the stream key of Twilio's flow"


class AskedRest:
    """The client of the carriers' REST APIs, which only notes what it is to send."""

    def __init__(self) -> None:
        self.calls = []

    async def ask(self, call, *, seconds):
        self.calls.append(call)
        return True

    async def send(self, call, seconds):
        return NotSent("a test")


@pytest.fixture
async def strict(gateway):
    """The gateway with real keys, as strangers meet it. Its REST requests are kept in `node.http_client.calls`."""
    node = gateway.node
    node.http_client = AskedRest()
    sections = {
        "twilio": {"account_sid": "AC1", "auth_token": "t", "stream_key": [TWILIO_KEY]},
        "exotel": {"account_sid": "e1", "api_key": "k", "api_token": "t", "stream_key": [EXOTEL_KEY]},
        "plivo": {"auth_id": "MA1", "auth_token": "t"},
        "telnyx": {"api_key": "k"},
    }
    for name, section in sections.items():
        plugin = CARRIERS[name]
        config = plugin.config.model_validate(section)
        node.carriers[name] = plugin.carrier(config, public_url=node.public_url)
    door = await asyncio.get_running_loop().create_server(
        server_protocol(UpgradeAuthorizer(gateway.sessions).decide), "127.0.0.1", 0
    )
    lenient, gateway.port = gateway.port, door.sockets[0].getsockname()[1]
    yield gateway
    gateway.port = lenient
    door.close()


def quoted(key: str) -> str:
    return key.replace(" ", "%20").replace("'", "%27")


def taking(call_id: str) -> dict:
    """Twilio's `start` that names somebody's call, and the account as the webhooks of --dev have it."""
    message = start(call_id, "MZ9")
    message["start"]["accountSid"] = ""
    return message


def exotel_start(call_id: str) -> dict:
    return {
        "event": "start",
        "stream_sid": "s1",
        "start": {"stream_sid": "s1", "call_sid": call_id, "account_sid": "e1", "from": "1", "to": "2"},
    }


@pytest.mark.parametrize("path", ["/ws?", f"/ws?serviceHost={SERVICE}&"])
async def test_a_key_opens_its_own_carrier_only(strict, path):
    stranger = await strict.open(f"{path}key={quoted(EXOTEL_KEY)}")
    stranger.send(start("CA1"))  # Twilio's handshake
    assert await stranger.until_closed() == 1008
    assert not strict.sessions and not strict.starts()
    assert strict.node.rejected["stream", "bad_key"] == 1
    honest = await strict.open(f"{path}key={quoted(TWILIO_KEY)}")
    honest.send(start("CA1"))
    await strict.started()


@pytest.mark.parametrize("path", ["/ws", "/ws/exotel", "/ws/twilio", "/ws/plivo", "/ws/telnyx"])
async def test_no_key_of_another_carrier_opens_a_carriers_path(strict, path):
    key = TWILIO_KEY if path == "/ws/exotel" else EXOTEL_KEY
    if path == "/ws":
        key = "of nobody"
    with pytest.raises(LinkRefused) as refused:
        await strict.open(f"{path}?key={quoted(key)}")
    assert refused.value.status == 403


@pytest.mark.parametrize("call_id", [".", "..", "CA1/../../Account", "CA1%2F..", "v3:a/b", "a?b", "a#b", "x" * 300])
async def test_what_is_no_call_id_starts_nothing(strict, call_id):
    strict.limit(start_timeout=0.5)
    stranger = await strict.open(f"/ws/exotel?key={quoted(EXOTEL_KEY)}")
    stranger.send(exotel_start(call_id))
    assert await stranger.until_closed() == 1008  # no `start` in time
    assert not strict.sessions and not strict.node.http_client.calls


async def test_no_rest_request_for_a_call_that_only_a_stream_has_named(strict):
    for path, message in (
        (f"/ws/exotel?key={quoted(EXOTEL_KEY)}", exotel_start("e" * 32)),
        (f"/ws?key={quoted(TWILIO_KEY)}", start("CA1")),
    ):
        stranger = await strict.open(path)
        stranger.send(message)
        await until(lambda: strict.sessions)
        bot = await until(lambda: next((bot for bot in strict.bots if bot.of("start")), None))
        bot.say(type="hangup", reason="done")
        await stranger.until_closed()
        await until(lambda: not strict.sessions)
        for one in strict.bots:
            one.told.clear()
    assert strict.node.http_client.calls == []


async def test_a_call_that_our_own_answer_names_is_hung_up_by_rest(gateway):
    """The counterpart, or the test above would prove nothing."""
    gateway.node.http_client = AskedRest()
    plugin = CARRIERS["twilio"]
    path = await gateway.stream_path()
    config = plugin.config.model_validate({"account_sid": "AC1", "auth_token": "t"})
    carrier = await gateway.open(path)
    gateway.node.carriers["twilio"] = plugin.carrier(config, public_url=gateway.node.public_url)
    carrier.send(start())
    await gateway.started()
    bot = next(bot for bot in gateway.bots if bot.of("start"))
    bot.say(type="hangup", reason="done")
    await carrier.until_closed()
    assert [call.url.rpartition("/")[2] for call in gateway.node.http_client.calls] == ["CA1.json"]


async def test_a_static_stream_takes_no_ringing_call(gateway):
    path = await gateway.stream_path("CA1")
    stranger = await gateway.open(f"/ws/twilio?serviceHost={SERVICE}")
    stranger.send(taking("CA1"))
    await gateway.started()
    honest = await gateway.open(path)
    honest.send(start("CA1"))
    await gateway.started(2)
    assert honest.code is None
    honest.send(MEDIA)
    ringing = gateway.node.signer.session_id("twilio", "", "CA1")
    assert (await gateway.memory.find(ringing)).status in ("ringing", "streaming")
    assert {told["session_id"] for told in gateway.starts()} > {ringing}


async def test_a_static_stream_takes_no_parked_call(gateway):
    honest = await gateway.call("CA1")
    await gateway.started()
    [session] = gateway.sessions
    honest.socket.abort()
    await until(lambda: session.stream is None)
    stranger = await gateway.open(f"/ws/twilio?serviceHost={SERVICE}")
    stranger.send(taking("CA1"))
    await gateway.started(2)
    assert session.stream is None and session.ended is None
    back = await gateway.open(gateway.path_in(await gateway.resume("CA1", "?gw_attempt=1")))
    back.send(start("CA1", "MZ2"))
    await until(lambda: session.stream is not None)
    assert back.code is None


async def test_a_webhook_believes_nothing_that_a_static_stream_said(gateway):
    stranger = await gateway.open(f"/ws/twilio?serviceHost={SERVICE}")
    stranger.send(taking("CA1"))
    await gateway.started()
    bot = next(bot for bot in gateway.bots if bot.of("start"))
    bot.say(type="hangup", reason="done")
    await stranger.until_closed()
    answer = await gateway.voice("CA1")
    assert gateway.path_in(answer)  # a new call: no Hangup


async def test_a_signed_resume_finds_the_session_of_a_static_stream(gateway):
    """Exotel's flow with a fixed URL comes to Passthru, and is told what the bot wanted."""
    stream = await gateway.open(f"/ws/exotel?serviceHost={SERVICE}")
    call_id = "e" * 32
    stream.send(exotel_start(call_id))
    await gateway.started()
    bot = next(bot for bot in gateway.bots if bot.of("start"))
    bot.say(type="hangup", reason="done")
    await stream.until_closed()
    answer = await gateway.http.get("/webhooks/exotel/resume", params={"CallSid": call_id})
    assert answer.status_code == 200  # the flow ends; 302 would attach the bot again


async def test_what_is_logged_of_a_static_streams_webhook_names_its_session(gateway):
    stream = await gateway.open(f"/ws/exotel?serviceHost={SERVICE}")
    stream.send(exotel_start("e" * 32))
    await gateway.started()
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    with capture_logs(processors=[merge_contextvars]) as logged:
        await gateway.http.post("/webhooks/exotel/status", data={"CallSid": "e" * 32, "Status": "completed"})
    [line] = [line for line in logged if line["event"] == "carrier status callback"]
    assert line["session"] == session.id
