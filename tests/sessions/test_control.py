"""A program hangs up, transfers and presses keys: on this node, on another, and where there is no stream."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from lxml import etree
from structlog.testing import capture_logs

from gateway.pool.facts import FactEvent
from gateway.protocol.codes import EndReason
from gateway.sessions import control
from gateway.sessions.commands import STATIC
from gateway.sessions.control import Done, NoAnswer, NoNumber, NotAllowed, NotPossible, UnknownSession
from gateway.sessions.node_messages import read_mailbox
from tests.kit.two_nodes import second_node
from tests.kit.waiting import PATIENCE, until
from tests.webhooks.test_transfer_in_vain import dialled_in_vain, go_on
from tests.webhooks.wires import WIRES, join, ring


async def begin(gateway, carrier: str = "twilio"):
    """A call on this node, of which the registry knows. Returns its id, its bot and its stream."""
    bot, stream = await join(gateway, carrier, await ring(gateway, carrier))
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    # No simulated carrier says that a mark was played: what waits for one waits no longer than this.
    session.bridge._limits = replace(session.bridge._limits, playback_grace=0.1)
    return session.id, bot, stream


async def verbs(gateway, carrier: str = "twilio") -> list[str]:
    """What the carrier is told when its stream has ended."""
    form = {**WIRES[carrier].voice, "CallStatus": "in-progress"}
    answer = await gateway.http.post(f"/webhooks/{carrier}/resume?gw_attempt=1", data=form)
    return [element.tag for element in etree.fromstring(answer.content)]


async def end_reason(gateway, session: str) -> str:
    await until(lambda: session not in gateway.sessions)
    return (await gateway.memory.find(session)).end_reason


# Hang up.


@pytest.mark.parametrize("carrier", WIRES)
async def test_a_call_is_hung_up(gateway, rest_requests, carrier):
    session, bot, stream = await begin(gateway, carrier)
    assert await control.hang_up(gateway.sessions, session) == Done()
    assert await bot.until("stop") == {"type": "stop", "reason": "api_hangup"}
    assert await stream.until_closed() == 1000
    assert rest_requests == [WIRES[carrier].call]
    assert await end_reason(gateway, session) == EndReason.API_HANGUP


async def test_what_the_bot_has_said_is_heard_to_its_end(gateway):
    session, bot, stream = await begin(gateway)
    bot.socket.send(b"\1\0" * 16000)  # a second
    await stream.until("media")
    await control.hang_up(gateway.sessions, session)
    mark = await stream.until("mark")
    heard = sum(message["event"] == "media" for message in stream.heard)
    assert heard == 50 and stream.code is None
    stream.send({"event": "mark", "streamSid": "MZ1", "mark": mark["mark"]})
    assert await stream.until_closed() == 1000


async def test_at_once_is_without_that(gateway):
    session, bot, stream = await begin(gateway)
    bot.socket.send(b"\1\0" * 160_000)
    await stream.until("media")
    await control.hang_up(gateway.sessions, session, at_once=True)
    await stream.until_closed()
    assert not [message for message in stream.heard if message["event"] == "mark"]


async def test_a_call_that_ended_is_hung_up_as_often_as_one_likes(gateway, rest_requests):
    session, _, stream = await begin(gateway)
    stream.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: not gateway.sessions)
    for _ in range(2):
        assert await control.hang_up(gateway.sessions, session) == Done(ended=True)
    await gateway.http.post("/webhooks/twilio/status", data={**WIRES["twilio"].status, "CallStatus": "completed"})
    assert await control.hang_up(gateway.sessions, session) == Done(ended=True)
    assert rest_requests == []


async def test_a_call_that_its_user_moved_by_rest_is_never_hung_up(gateway, rest_requests):
    """The carrier ends our stream, as its REST API has given the call other instructions."""
    session, bot, stream = await begin(gateway)
    stream.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await bot.until("stop")
    assert await control.hang_up(gateway.sessions, session) == Done(ended=True)
    await until(lambda: not gateway.sessions)
    assert await control.hang_up(gateway.sessions, session) == Done(ended=True)
    assert rest_requests == []


async def test_a_call_that_is_moved_while_its_end_is_written_is_not_hung_up(gateway, rest_requests, monkeypatch):
    """The carrier's stop comes while the registry is asked: what it does with the call is not ours to end."""
    session, _, stream = await begin(gateway)
    live = gateway.sessions.get(session)
    memory, written = gateway.memory, asyncio.Event()

    class Slow:
        def __getattr__(self, name):
            return getattr(memory, name)

        async def merge(self, name, event):
            if event.end_reason:
                await written.wait()
            return await memory.merge(name, event)

    gateway.node.registry.timeout = 5.0
    gateway.node.registry.registry = Slow()
    assert await control.hang_up(gateway.sessions, session, at_once=True) == Done()
    await until(lambda: live.ended)
    stream.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: not live._events.empty(), complain="the stop has come")
    written.set()
    await until(lambda: session not in gateway.sessions)
    assert rest_requests == []


async def test_an_unknown_session(gateway):
    await begin(gateway)
    for name in ("", "0" * 32, "twilio::CA1"):
        assert await control.hang_up(gateway.sessions, name) == UnknownSession()
        assert await control.transfer(gateway.sessions, name, "+15550123") == UnknownSession()
        assert await control.press(gateway.sessions, name, "1") == UnknownSession()


# Without a stream.


async def ringing(gateway) -> str:
    """A call of ours rings."""
    event = FactEvent(carrier="twilio", call_id="CA1", service="support.acme", direction="outbound", status="ringing")
    await gateway.node.registry.merge("out", event)
    return "out"


async def test_a_ringing_call_of_ours_is_cancelled_by_rest(gateway, rest_requests):
    session = await ringing(gateway)
    assert await control.hang_up(gateway.sessions, session) == Done()
    assert rest_requests == ["CA1"]
    assert await end_reason(gateway, session) == EndReason.CANCELED
    assert await control.hang_up(gateway.sessions, session) == Done(ended=True)


async def test_where_the_carrier_cannot_a_ringing_call_goes_on(gateway):
    session = await ringing(gateway)  # without credentials there is no REST API
    assert isinstance(await control.hang_up(gateway.sessions, session), NotPossible)
    assert await end_reason(gateway, session) == ""


async def test_a_ringing_call_of_a_carrier_that_cannot_cancel_goes_on(gateway, rest_requests):
    event = FactEvent(carrier="exotel", call_id="EX1", direction="outbound", status="ringing")
    await gateway.node.registry.merge("out", event)
    outcome = await control.hang_up(gateway.sessions, "out")
    assert isinstance(outcome, NotPossible) and "not been answered" in outcome.reason
    assert rest_requests == [] and await end_reason(gateway, "out") == ""


async def test_a_call_whose_id_is_not_known_yet_is_over_when_it_is_answered(gateway, rest_requests):
    await gateway.node.registry.merge("out", FactEvent(carrier="plivo", direction="outbound", status="ringing"))
    assert await control.hang_up(gateway.sessions, "out") == Done()
    assert rest_requests == [] and (await gateway.memory.find("out")).over


async def test_a_call_in_our_queue_is_not_placed(gateway):
    await gateway.node.registry.merge("queued", FactEvent(carrier="twilio", direction="outbound", status="queued"))
    assert await control.hang_up(gateway.sessions, "queued") == Done()
    assert (await gateway.memory.find("queued")).over


async def test_nothing_but_a_hang_up_is_for_a_ringing_call(gateway):
    session = await ringing(gateway)
    assert await control.transfer(gateway.sessions, session, "+15550123") == NotPossible(control.NOT_ANSWERED)
    assert await control.press(gateway.sessions, session, "1") == NotPossible(control.NOT_ANSWERED)


async def test_a_call_whose_node_is_dead_is_hung_up_by_rest(gateway, rest_requests):
    gateway.limit(order_timeout=0.2)
    async with second_node(gateway, first_answers=False) as second:
        session, _, _ = await begin(gateway)
        assert await control.press(second.sessions, session, "1") == NoAnswer(control.NOT_DONE)
        assert rest_requests == []
        assert await control.hang_up(second.sessions, session) == Done()
        assert rest_requests == ["CA1"]
        assert await verbs(second) == ["Hangup"]


async def test_a_call_that_only_a_key_has_named_is_not(gateway, rest_requests):
    gateway.limit(order_timeout=0.2)
    facts = await gateway.node.registry.merge("s-1", FactEvent(carrier="twilio", call_id="CA1", node="dead", streams=1))
    assert not control.is_verified(gateway.node, facts)
    assert isinstance(await control.hang_up(gateway.sessions, "s-1"), NotPossible)
    assert rest_requests == []


# Transfer.


@pytest.mark.parametrize("carrier", [name for name in WIRES if name != "exotel"])
async def test_a_transfer_in_vain_gives_the_call_its_bot_again(gateway, carrier):
    session, bot, stream = await begin(gateway, carrier)
    assert await control.transfer(gateway.sessions, session, "+1 555 0123") == Done()
    assert (await bot.until("stop"))["reason"] == "transferred"
    await stream.until_closed()
    assert "Dial" in await verbs(gateway, carrier)
    await until(lambda: not gateway.sessions)
    await go_on(gateway, carrier)
    told = [message["status"] for each in gateway.bots for message in each.of("status")]
    assert "transfer_failed" in told


async def test_a_transferred_call_is_hung_up_by_rest(gateway, rest_requests):
    session, bot, stream = await begin(gateway)
    await control.transfer(gateway.sessions, session, "+15550123")
    await bot.until("stop")
    await stream.until_closed()
    await until(lambda: not gateway.sessions)
    assert await control.hang_up(gateway.sessions, session) == Done()
    assert rest_requests == ["CA1"]
    _, content = await dialled_in_vain(gateway, "twilio")
    assert b"Hangup" in content


@pytest.mark.parametrize(
    ("to", "outcome"),
    [
        ("+442071838750", NotAllowed("the number is not in [dialout] allow")),
        ("+19005550123", NotAllowed("a number of this kind is never dialled")),
        ("12", NoNumber("this is not a telephone number")),
        ("sip:a@b.example", NoNumber("a sip: address is not dialled: name a telephone number")),
    ],
)
async def test_a_number_that_no_call_is_transferred_to(gateway, to, outcome):
    session, bot, stream = await begin(gateway)
    assert await control.transfer(gateway.sessions, session, to) == outcome
    assert stream.code is None and not bot.of("stop")


async def test_a_call_that_ended_is_not_transferred(gateway):
    session, _, stream = await begin(gateway)
    stream.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await until(lambda: not gateway.sessions)
    assert await control.transfer(gateway.sessions, session, "+15550123") == NotPossible(control.HAS_ENDED)
    assert await control.press(gateway.sessions, session, "1") == NotPossible(control.HAS_ENDED)


# Keys.


async def test_twilio_presses_keys_and_the_bot_is_attached_again(gateway):
    session, bot, stream = await begin(gateway)
    assert await control.press(gateway.sessions, session, "12#") == Done()
    await stream.until_closed()
    assert await verbs(gateway) == ["Play", "Redirect"]
    form = {**WIRES["twilio"].voice, "CallStatus": "in-progress"}
    answer = await gateway.http.post("/webhooks/twilio/resume?gw_after=digits&gw_attempt=1", data=form)
    again = await gateway.open(gateway.path_in(answer))
    again.send(WIRES["twilio"].start)
    assert (await bot.until("status"))["status"] == "reattached"


async def test_plivo_presses_keys_in_the_stream(gateway):
    session, _, stream = await begin(gateway, "plivo")
    assert await control.press(gateway.sessions, session, "1#") == Done()
    assert (await stream.until("sendDTMF"))["dtmf"] == "1#"


async def test_exotel_presses_none(gateway):
    session, bot, stream = await begin(gateway, "exotel")
    outcome = await control.press(gateway.sessions, session, "1")
    assert isinstance(outcome, NotPossible) and "keys" in outcome.reason
    assert stream.code is None and not bot.of("status")


# On another node.


async def test_another_node_hangs_up(gateway):
    async with second_node(gateway) as second:
        session, bot, _ = await begin(gateway)
        assert await control.hang_up(second.sessions, session) == Done()
        assert (await bot.until("stop"))["reason"] == "api_hangup"


async def test_another_node_hangs_up_at_once(gateway):
    async with second_node(gateway) as second:
        session, bot, stream = await begin(gateway)
        bot.socket.send(b"\1\0" * 160_000)
        await stream.until("media")
        assert await control.hang_up(second.sessions, session, at_once=True) == Done()
        await stream.until_closed()
        assert not [message for message in stream.heard if message["event"] == "mark"]


async def test_another_node_transfers_and_presses(gateway):
    async with second_node(gateway) as second:
        session, bot, stream = await begin(gateway, "plivo")
        assert await control.press(second.sessions, session, "1w#") == Done()
        await stream.until("sendDTMF")
        assert await control.transfer(second.sessions, session, "+15550123") == Done()
        assert (await bot.until("stop"))["reason"] == "transferred"


async def test_another_node_is_told_why_not(gateway):
    async with second_node(gateway) as second:
        session, _, _ = await begin(gateway, "exotel")
        there = await control.press(second.sessions, session, "1")
        assert there == await control.press(gateway.sessions, session, "1")


async def test_an_order_that_a_node_reads_too_late_is_not_carried_out(gateway):
    async with second_node(gateway, first_answers=False) as second:
        session, _, stream = await begin(gateway, "plivo")
        second.limit(order_timeout=0.2)
        assert await control.press(second.sessions, session, "1") == NoAnswer(control.NOT_DONE)
        second.limit(order_timeout=PATIENCE)
        late = asyncio.create_task(read_mailbox(gateway.sessions))
        assert await control.press(second.sessions, session, "2") == Done()  # it is read behind the first one
        late.cancel()
        assert (await stream.until("sendDTMF"))["dtmf"] == "2"


async def test_an_order_whose_answer_is_lost_may_have_been_carried_out(gateway, monkeypatch):
    gateway.limit(order_timeout=2.0)  # it must be read within this
    async with second_node(gateway) as second:
        session, _, stream = await begin(gateway, "plivo")
        send = gateway.memory.send

        async def lose_answers(mailbox: str, message: str) -> None:
            if not mailbox.startswith("answers:"):
                await send(mailbox, message)

        monkeypatch.setattr(gateway.memory, "send", lose_answers)
        assert await control.press(second.sessions, session, "1") == NoAnswer(control.MAY_BE_DONE)
        await stream.until("sendDTMF")


async def test_a_session_that_does_not_run_there_is_not_reached(gateway):
    async with second_node(gateway) as second:
        await gateway.memory.merge("s", FactEvent(carrier="plivo", node=gateway.node.id, streams=1, status="streaming"))
        assert await control.press(second.sessions, "s", "1") == NotPossible(control.UNREACHABLE)


async def test_orders_are_bounded(gateway):
    session, bot, stream = await begin(gateway)
    bot.socket.send(b"\1\0" * 16000)
    await stream.until("media")
    outcomes = [await control.transfer(gateway.sessions, session, "+15550123") for _ in range(70)]
    assert outcomes[0] == Done() and isinstance(outcomes[-1], NotPossible)
    assert isinstance(await control.hang_up(gateway.sessions, session), NotPossible)
    await asyncio.sleep(0)
    assert stream.code is None


async def test_what_waits_for_no_words_is_done_in_a_flood_of_orders(gateway):
    """The end of the call, and silence for a card's number in its recording."""
    session, bot, stream = await begin(gateway)
    bot.socket.send(b"\1\0" * 16000)
    await stream.until("media")
    for _ in range(70):
        await control.transfer(gateway.sessions, session, "+15550123")
    said = await control.pause_recording(gateway.sessions, session, pause=True)
    assert said == NotPossible("this call is not recorded"), "and not that too many orders wait"
    assert await control.hang_up(gateway.sessions, session, at_once=True) == Done()
    assert (await bot.until("stop"))["reason"] == "api_hangup"


async def test_an_operators_transfer_that_fails_is_not_told_to_the_bot(gateway):
    """It has asked for nothing, and would take it for the answer to a command of its own."""
    session, bot, stream = await begin(gateway)
    gateway.memory.down = True
    with capture_logs() as logs:
        assert await control.transfer(gateway.sessions, session, "+15550123") == Done()
        await until(lambda: [line for line in logs if line["event"] == "transfer by an operator failed"])
    gateway.memory.down = False
    bot.say(type="mark", name="heard")
    await stream.until("mark", 2)
    assert not bot.of("status") and stream.code is None


# Where nothing of ours stands behind the stream.


async def static_call(gateway):
    """A TwiML Bin's stream. Returns its session, its bot and the stream."""
    stream = await gateway.open("/ws/twilio?serviceHost=support.acme")
    stream.send(dict(WIRES["twilio"].start))
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    session.bridge._limits = replace(session.bridge._limits, playback_grace=0.1)
    return session, bot, stream


@pytest.mark.parametrize(("command", "what"), [({"digits": "12#"}, "dtmf"), ({"to": "+15550123"}, "transfer")])
async def test_the_bot_of_a_static_stream_is_told_why_and_talks_on(gateway, command, what):
    session, bot, stream = await static_call(gateway)
    bot.say(type=what, **command)
    assert await bot.until("status") == {"type": "status", "status": "refused", "what": what, "reason": STATIC}
    bot.socket.send(b"\1\0" * 3200)
    await stream.until("media")
    assert (session.ended, stream.code) == (None, None)


async def test_a_static_stream_is_not_led_elsewhere_by_an_operator(gateway):
    session, _, stream = await static_call(gateway)
    assert await control.transfer(gateway.sessions, session.id, "+15550123") == NotPossible(STATIC)
    assert await control.press(gateway.sessions, session.id, "1") == NotPossible(STATIC)
    assert (session.ended, stream.code) == (None, None)
