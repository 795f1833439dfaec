"""Sessions: what a stop, a loss, a wish and a failure mean to a call."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from lxml import etree

from gateway.pool.facts import Facts
from gateway.protocol.codes import EndReason
from tests.kit.node import MEDIA, start
from tests.kit.waiting import until


async def ended(gateway, session_id: str) -> str:
    await until(lambda: session_id not in gateway.sessions)
    return (await gateway.memory.find(session_id)).end_reason


async def session_id(gateway) -> str:
    return next(iter(await until(lambda: list(gateway.sessions)))).id


async def state_known(gateway, session_id: str) -> Facts:
    """What the registry knows, when a bot's state is of it."""

    async def find() -> Facts | None:
        facts = await gateway.memory.find(session_id)
        return facts if facts.state else None

    return await until(find)


def verbs(response) -> list[str]:
    return [element.tag for element in etree.fromstring(response.content)]


async def serving(gateway) -> tuple:
    """The bot that got the call, and the other one."""
    await gateway.started()
    first, second = gateway.bots
    return (first, second) if first.of("start") else (second, first)


async def test_the_bot_is_told_all_about_the_call(gateway):
    await gateway.call()
    bot, _ = await serving(gateway)
    message = bot.of("start")[0]
    assert message["session_id"] == await session_id(gateway)
    assert message["audio"] == {"encoding": "pcm_s16le", "sample_rate": 16000, "channels": 1}
    assert (message["attempt"], message["resumed"], message["carrier"]) == (1, False, "twilio")
    call = message["call"]
    assert (call["from"], call["to"], call["service_host"]) == ("+15550100001", "+15550100000", "support.acme")
    assert bot.headers[0]["authorization"] == "Bearer link-key"
    assert bot.headers[0]["x-daily-session-id"] == message["session_id"]
    assert bot.headers[0]["x-gateway-fence"] == "0"  # opened at the webhook; the fence came with `start`
    assert message["fence"] > 0


async def test_what_the_author_put_into_the_webhooks_url_is_the_calls_body(gateway):
    form = {
        "CallSid": "CA7",
        "AccountSid": "AC1",
        "CallStatus": "ringing",
        "From": "+15550100001",
        "To": "+15550100000",
    }
    answer = await gateway.http.post("/webhooks/twilio/voice?serviceHost=support.acme&campaign=a%26b", data=form)
    [url] = etree.fromstring(answer.content).xpath("//Stream/@url")
    parameters = dict(
        etree.fromstring(answer.content).xpath("//Parameter/@name")
        and [(p.get("name"), p.get("value")) for p in etree.fromstring(answer.content).iter("Parameter")]
    )
    carrier = await gateway.open("/ws/" + url.split("/ws/")[1])
    carrier.send(start("CA7", **parameters))
    bot, _ = await serving(gateway)
    assert bot.of("start")[0]["call"]["body"]["campaign"] == "a&b"
    assert bot.queries[0].startswith("body=")


async def test_the_carriers_stop_is_the_callers_hangup(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    assert await bot.until("stop") == {"type": "stop", "reason": "caller_hangup"}
    assert await ended(gateway, name) == EndReason.CALLER_HANGUP
    assert (await gateway.memory.slots("support.acme")).used == 0


async def test_a_close_in_good_order_is_the_callers_hangup_too(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    carrier.socket.close(1000)
    assert (await bot.until("stop"))["reason"] == "caller_hangup"


async def test_should_the_carrier_come_back_after_all_the_call_gets_another_bot(gateway):
    carrier = await gateway.call()
    first, _ = await serving(gateway)
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await first.until("stop")
    answer = await gateway.resume()
    assert verbs(answer) == ["Connect", "Redirect"]
    [url] = etree.fromstring(answer.content).xpath("//Stream/@url")
    again = await gateway.open("/ws/" + url.split("/ws/")[1])
    again.send(start(stream_id="MZ2"))
    await gateway.started(2)


async def test_a_lost_stream_parks_the_call_and_the_same_bot_goes_on(gateway):
    carrier = await gateway.call()
    bot, other = await serving(gateway)
    carrier.socket.abort()
    answer = await gateway.resume(query="?gw_attempt=1")
    assert verbs(answer) == ["Connect", "Redirect"]
    [url] = etree.fromstring(answer.content).xpath("//Stream/@url")
    again = await gateway.open("/ws/" + url.split("/ws/")[1])
    again.send(start(stream_id="MZ2"))
    again.send(MEDIA)
    assert (await bot.until("status"))["status"] == "reattached"
    await until(lambda: bot.audio)
    assert not other.connections
    assert len(bot.of("start")) == 1


async def test_a_stream_that_stays_lost_ends_the_call(gateway):
    gateway.limit(reattach_timeout=0.2)
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    carrier.socket.abort()
    assert (await bot.until("stop"))["reason"] == "stream_lost"
    assert await ended(gateway, name) == EndReason.STREAM_LOST
    assert verbs(await gateway.resume()) == ["Hangup"]


async def test_the_bots_hangup_closes_the_stream_and_resume_says_hangup(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    bot.say(type="hangup", reason="bye")
    mark = await carrier.until("mark")
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]})
    assert await carrier.until_closed() == 1000
    assert (await bot.until("stop"))["reason"] == "bot_hangup"
    assert verbs(await gateway.resume()) == ["Hangup"]
    assert verbs(await gateway.voice()) == ["Hangup"]


async def test_a_bot_that_is_done_hangs_up(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    bot.socket.close(1000)
    mark = await carrier.until("mark")
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]})
    assert await carrier.until_closed() == 1000
    assert verbs(await gateway.resume()) == ["Hangup"]


@pytest.mark.parametrize("state", ["c3RhdGU=", "cmVsYXkAdzAATVox"], ids=["text", "bytes of its own"])
async def test_a_bot_that_raises_is_replaced_and_its_successor_has_its_state(gateway, state):
    await gateway.call()
    first, second = await serving(gateway)
    name = await session_id(gateway)
    first.say(type="state", state=state)
    await state_known(gateway, name)
    first.socket.close(1011)
    message = await second.until("start")
    assert (message["resumed"], message["attempt"], message["state"]) == (True, 2, state)
    assert message["fence"] > first.of("start")[0]["fence"]


async def test_a_call_that_kills_its_bots_is_not_given_one_after_another(gateway):
    carrier = await gateway.call()
    name = await session_id(gateway)
    for attempt in range(1, gateway.node.limits.max_worker_starts + 1):
        bot = await until(lambda attempt=attempt: told_of(gateway, attempt))
        bot.socket.close(1011)
    assert await ended(gateway, name) == EndReason.BOT_ERROR
    assert sorted(told["attempt"] for told in gateway.starts()) == [1, 2, 3]
    assert await carrier.until_closed() == 1000


def told_of(gateway, attempt: int):
    """The bot that has this attempt's `start`."""
    return next((bot for bot in gateway.bots for told in bot.of("start") if told["attempt"] == attempt), None)


async def test_a_link_that_breaks_is_dialled_again(gateway):
    await gateway.call()
    bot, _ = await serving(gateway)
    bot.socket.abort()
    again = await bot.until("start", 2)
    assert again["fence"] > bot.of("start")[0]["fence"]


async def test_a_worker_that_refuses_is_passed_over(gateway):
    gateway.bots[0].refuse = 503
    await gateway.call()
    assert (await gateway.bots[1].until("start"))["attempt"] == 1


async def test_no_worker_at_all_ends_the_call(gateway):
    for bot in gateway.bots:
        bot.refuse = 503
    carrier = await gateway.call()
    assert await carrier.until_closed() == 1000
    assert verbs(await gateway.resume()) == ["Hangup"]


async def test_a_worker_with_a_newer_holder_is_left_alone(gateway):
    """409: somebody else serves the session. Nobody claims, nobody hangs up."""
    for bot in gateway.bots:
        bot.refuse = 409
    carrier = await gateway.call()
    await carrier.until_closed()
    assert verbs(await gateway.resume()) != ["Hangup"]


async def test_a_link_closed_as_superseded_neither_claims_nor_hangs_up(gateway):
    carrier = await gateway.call()
    bot, other = await serving(gateway)
    bot.socket.close(4001)
    await carrier.until_closed()
    assert not other.connections
    assert verbs(await gateway.resume()) == ["Connect", "Redirect"]


async def test_a_transfer_is_dialled_when_the_stream_is_closed(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    bot.say(type="transfer", to="+15550100009")
    mark = await carrier.until("mark")
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]})
    assert await carrier.until_closed() == 1000
    assert (await bot.until("stop"))["reason"] == "transferred"
    answer = await gateway.resume()
    [dial] = etree.fromstring(answer.content)
    assert (dial.tag, dial.findtext("Number")) == ("Dial", "+15550100009")
    assert "after=dial" in dial.get("action")


async def test_a_transfer_that_is_not_allowed_is_refused_and_the_call_goes_on(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    bot.say(type="transfer", to="+19005550100")
    mark = await carrier.until("mark")
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]})
    told = await bot.until("status")
    assert (told["status"], told["what"]) == ("refused", "transfer")
    assert carrier.code is None


async def test_a_dial_that_failed_gives_the_caller_a_bot_again(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    bot.say(type="transfer", to="+15550100009")
    mark = await carrier.until("mark")
    carrier.send({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]})
    await carrier.until_closed()
    answer = await gateway.resume(query="?gw_after=dial", DialCallStatus="no-answer")
    assert verbs(answer) == ["Connect", "Redirect"]
    [url] = etree.fromstring(answer.content).xpath("//Stream/@url")
    again = await gateway.open("/ws/" + url.split("/ws/")[1])
    again.send(start(stream_id="MZ2"))
    await until(lambda: any(told["status"] == "transfer_failed" for one in gateway.bots for told in one.of("status")))
    assert sorted(message["resumed"] for message in gateway.starts()) == [False, True]


async def test_a_dial_that_was_answered_ends_the_call(gateway):
    assert verbs(await gateway.resume("CA9", query="?gw_after=dial", DialCallStatus="completed")) == ["Hangup"]


async def test_keys_go_by_the_carriers_xml_and_the_bot_waits(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    bot.say(type="dtmf", digits="12#")
    await carrier.until_closed()
    answer = await gateway.resume()
    assert verbs(answer) == ["Play", "Redirect"]
    assert etree.fromstring(answer.content)[0].get("digits") == "12#"
    back = await gateway.resume(query="?gw_after=digits")
    [url] = etree.fromstring(back.content).xpath("//Stream/@url")
    again = await gateway.open("/ws/" + url.split("/ws/")[1])
    again.send(start(stream_id="MZ2"))
    assert (await bot.until("status"))["status"] == "reattached"


async def test_a_call_ends_after_its_longest_time(gateway):
    gateway.node.services._by_host["support.acme"] = replace(gateway.node.services.get("support.acme"), max_call=0.3)
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    assert (await bot.until("stop"))["reason"] == "max_duration"
    assert await carrier.until_closed() == 1000


async def test_a_status_callback_ends_the_call_it_names(gateway):
    await gateway.call()
    bot, _ = await serving(gateway)
    await gateway.http.post(
        "/webhooks/twilio/status", data={"CallSid": "CA1", "AccountSid": "AC1", "CallStatus": "completed"}
    )
    assert (await bot.until("stop"))["reason"] == "caller_hangup"


async def test_a_bot_that_does_not_end_with_its_call_is_left_after_wrapup(gateway):
    gateway.node.services._by_host["support.acme"] = replace(gateway.node.services.get("support.acme"), wrapup=0.2)
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    bot.socket.close = lambda *_: None  # it will not
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    assert await ended(gateway, name) == EndReason.CALLER_HANGUP
    assert (await gateway.memory.slots("support.acme")).used == 0


async def test_nothing_is_left_of_a_call(gateway):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    name = await session_id(gateway)
    carrier.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await ended(gateway, name)
    await carrier.until_closed()
    await until(lambda: not (gateway.node.tasks or gateway.node.streams))
    assert len(gateway.node.ticker) == 0
    assert bot.closed_with == 1000


@pytest.mark.parametrize("code", [1000, 1005])
async def test_every_close_in_good_order_ends_the_call(gateway, code):
    carrier = await gateway.call()
    bot, _ = await serving(gateway)
    carrier.socket.close(code)
    assert (await bot.until("stop"))["reason"] == "caller_hangup"


async def test_a_call_that_comes_from_another_node_goes_on_with_its_time(gateway):
    """Handed over again and again, it would never have its longest time."""
    service = replace(gateway.node.services.get("support.acme"), max_call=600.0)
    answered = gateway.node.unix_time() - 500.0
    for status, seconds in (("streaming", 100.0), ("ended", 600.0)):
        facts = Facts(session="s", carrier="twilio", status=status, answered=answered)
        session = gateway.sessions.make(service, None, facts)
        left = session._limit.ends_at - asyncio.get_running_loop().time()
        assert abs(left - seconds) < 20.0


async def test_a_call_whose_clock_only_fails_ends(gateway, monkeypatch):
    """A bug in what happens by time: no playout, no hold audio and no keepalive; the caller would hear nothing."""
    stream = await gateway.call()
    await serving(gateway)
    session = next(iter(gateway.sessions))

    def broken(now: float) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(session.bridge.tap, "tick", broken)
    assert await ended(gateway, session.id) == "unknown_end"
    await until(lambda: stream.code == 1000)
