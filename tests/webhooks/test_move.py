"""A running call that its carrier leads to /voice for another service gets that service's bot."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from gateway.node.services import Services
from gateway.node.tokens import MAX_MOVES
from gateway.pool.facts import call_alias
from gateway.pool.registry import Host
from gateway.protocol.workers import Worker
from gateway.sockets import server_protocol
from tests.kit.lost_answers import LosesAnswers
from tests.kit.node import SERVICE, Bot
from tests.kit.two_nodes import second_node
from tests.kit.waiting import until
from tests.webhooks.wires import WIRES, path_in, ring

SALES = "sales.acme"
TO_SALES = f"?serviceHost={SALES}&topic=prices"
TO_SUPPORT = f"?serviceHost={SERVICE}"


@pytest.fixture(params=WIRES)
def carrier(request) -> str:
    return request.param


@pytest.fixture
async def sales(gateway):
    """The bot of another service."""
    node, bot = gateway.node, Bot()
    support = node.services.get(SERVICE)
    node.services = Services([support, replace(support, host=SALES, default=False, numbers=())])
    server = await asyncio.get_running_loop().create_server(server_protocol(bot.decide), "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
    host = Host("sales", 1, SALES, "pcm", 2, (Worker("s1", url, "ready"), Worker("s2", url, "ready")), "link-key")
    await gateway.memory.put_host(host)
    yield bot
    server.close()


def in_progress(carrier: str) -> dict[str, str]:
    """The fields by which a webhook differs once the call was answered."""
    return {} if carrier == "exotel" else {"CallStatus": "in-progress"}


async def open_stream(gateway, carrier: str, path: str):
    stream = await gateway.open(path)
    stream.send(dict(WIRES[carrier].start))
    return stream


async def talk_to_support(gateway, carrier: str):
    """A call with the first service. Returns its bot, its stream and its session's id."""
    stream = await open_stream(gateway, carrier, await ring(gateway, carrier, TO_SUPPORT))
    await gateway.started()
    [bot] = [bot for bot in gateway.bots if bot.of("start")]
    [session] = gateway.sessions
    await until(lambda: session.facts.node)
    return bot, stream, session.id


async def test_a_call_led_to_another_service_gets_its_bot(gateway, carrier, sales):
    support, stream, old = await talk_to_support(gateway, carrier)
    path = await ring(gateway, carrier, TO_SALES, **in_progress(carrier))
    assert (await support.until("stop"))["reason"] == "transferred"
    await stream.until_closed()
    await open_stream(gateway, carrier, path)
    start = await sales.until("start")
    assert (start["service_host"], start["call"]["service_host"]) == (SALES, SALES)
    assert (start["call"]["body"]["topic"], start["resumed"]) == ("prices", False)
    assert start["session_id"] != old
    await until(lambda: [session.id for session in gateway.sessions] == [start["session_id"]])
    facts = await gateway.node.registry.find(old)
    assert (facts.status, facts.end_reason) == ("ended", "transferred")
    assert (await gateway.memory.slots(SERVICE)).used == 0


async def test_a_repeated_request_gives_the_same_bytes(gateway, carrier, sales):
    await talk_to_support(gateway, carrier)
    first = await ring(gateway, carrier, TO_SALES, **in_progress(carrier))
    assert first and await ring(gateway, carrier, TO_SALES, **in_progress(carrier)) == first


async def test_a_call_without_a_name_stays_with_the_service_that_has_it(gateway, carrier, sales):
    await talk_to_support(gateway, carrier)
    await open_stream(gateway, carrier, await ring(gateway, carrier, TO_SALES, **in_progress(carrier)))
    await sales.until("start")
    again = await ring(gateway, carrier, **in_progress(carrier))
    await open_stream(gateway, carrier, again)
    await until(lambda: "reattached" in [told["status"] for told in sales.of("status")])
    assert len(gateway.starts()) == 1


async def test_a_call_can_be_led_back(gateway, carrier, sales):
    await talk_to_support(gateway, carrier)
    await open_stream(gateway, carrier, await ring(gateway, carrier, TO_SALES, **in_progress(carrier)))
    await sales.until("start")
    await open_stream(gateway, carrier, await ring(gateway, carrier, TO_SUPPORT, **in_progress(carrier)))
    assert (await sales.until("stop"))["reason"] == "transferred"
    await gateway.started(2)
    assert len({told["session_id"] for told in (*gateway.starts(), *sales.of("start"))}) == 3


async def test_a_moved_call_whose_stream_breaks_goes_on_with_its_bot(gateway, carrier, sales):
    await talk_to_support(gateway, carrier)
    stream = await open_stream(gateway, carrier, await ring(gateway, carrier, TO_SALES, **in_progress(carrier)))
    await sales.until("start")
    stream.socket.abort()
    form = {**WIRES[carrier].voice, **in_progress(carrier)}
    answer = await gateway.http.post(f"/webhooks/{carrier}/resume", data=form)
    path = path_in(answer.text) or await ring(gateway, carrier, TO_SALES)  # Exotel's flow asks at /voice again
    await open_stream(gateway, carrier, path)
    await until(lambda: "reattached" in [told["status"] for told in sales.of("status")])


async def test_a_bot_that_moved_its_call_and_ended_is_followed_by_the_next(gateway, carrier, sales):
    """By a request of its own to the carrier: its session has ended before the carrier asks."""
    support, _, _ = await talk_to_support(gateway, carrier)
    support.socket.close()
    await until(lambda: not gateway.sessions)
    await open_stream(gateway, carrier, await ring(gateway, carrier, TO_SALES, **in_progress(carrier)))
    assert (await sales.until("start"))["service_host"] == SALES


async def test_a_call_that_is_over_is_not_moved(gateway, carrier, sales):
    await talk_to_support(gateway, carrier)
    over = {"Event": "Hangup"} if carrier == "plivo" else {}
    over |= {"Status": "completed"} if carrier == "exotel" else {"CallStatus": "completed"}
    await gateway.http.post(f"/webhooks/{carrier}/status", data={**WIRES[carrier].status, **over})
    await until(lambda: not gateway.sessions)
    assert not await ring(gateway, carrier, TO_SALES, **in_progress(carrier))
    assert not sales.connections


async def test_a_service_that_there_is_not_is_refused(gateway, carrier, sales):
    await talk_to_support(gateway, carrier)
    assert not await ring(gateway, carrier, "?serviceHost=nobody.acme", **in_progress(carrier))
    assert gateway.node.rejected["voice", "unknown_service"] == 1


async def test_a_call_led_away_on_another_node_ends_its_session(gateway, carrier, sales):
    async with second_node(gateway) as second:
        support, stream, _ = await talk_to_support(gateway, carrier)
        path = await ring(second, carrier, TO_SALES, **in_progress(carrier))
        assert (await support.until("stop"))["reason"] == "transferred"
        await stream.until_closed()
        await open_stream(second, carrier, path)
        await sales.until("start")
        assert not gateway.sessions or await until(lambda: not gateway.sessions)


async def test_the_end_of_a_moved_call_ends_its_newest_session(gateway, sales):
    await talk_to_support(gateway, "twilio")
    await open_stream(gateway, "twilio", await ring(gateway, "twilio", TO_SALES, CallStatus="in-progress"))
    await sales.until("start")
    over = {"CallSid": "CA1", "AccountSid": "AC1", "CallStatus": "completed"}
    await gateway.http.post("/webhooks/twilio/status", data=over)
    assert (await sales.until("stop"))["reason"] == "caller_hangup"


async def test_the_stream_of_a_moved_call_outlasts_a_registry_that_forgets(gateway, sales):
    await talk_to_support(gateway, "twilio")
    path = await ring(gateway, "twilio", TO_SALES, CallStatus="in-progress")
    gateway.memory._facts = type(gateway.memory._facts)(gateway.node.leases)
    await open_stream(gateway, "twilio", path)
    assert (await sales.until("start"))["service_host"] == SALES


async def test_a_call_led_round_and_round_ends(gateway, sales):
    await talk_to_support(gateway, "twilio")
    queries = [TO_SALES, TO_SUPPORT] * MAX_MOVES
    rounds = 0
    while await ring(gateway, "twilio", queries[rounds], CallStatus="in-progress"):
        rounds += 1
    assert rounds == MAX_MOVES
    assert gateway.node.rejected["voice", "too_many_moves"] == 1
    facts = await gateway.node.registry.find(call_alias("twilio", "", "CA1"))
    assert (facts.moved, facts.moves) == (True, MAX_MOVES)


async def test_what_is_logged_after_a_move_names_the_next_session(gateway, carrier, sales):
    _, _, old = await talk_to_support(gateway, carrier)
    gateway.node.overloaded = True
    with capture_logs(processors=[merge_contextvars]) as logged:
        await ring(gateway, carrier, TO_SALES, **in_progress(carrier))
    [moved] = [line for line in logged if line["event"] == "call moved to another service"]
    [refused] = [line for line in logged if line.get("reason") == "overloaded"]
    assert refused["session"] == moved["session"] != old


@pytest.mark.parametrize("question", ["release", "send"])
async def test_a_moved_call_is_not_refused_for_a_question_that_failed(gateway, carrier, sales, question):
    """By then it has been moved; what the old session is not told, its stream's end tells it."""
    async with second_node(gateway) as second:
        _, stream, _ = await talk_to_support(gateway, carrier)
        second.node.registry.registry = lossy = LosesAnswers(gateway.memory, question)
        path = await ring(second, carrier, TO_SALES, **in_progress(carrier))
        second.node.registry.registry = gateway.memory
        assert lossy.lost == 1
        await stream.until_closed()
        await open_stream(second, carrier, path)
        assert (await sales.until("start"))["service_host"] == SALES


async def test_a_moved_call_that_then_finds_no_registry_ends_as_the_next_session(gateway, carrier, sales):
    """The old one has ended as transferred, and its record must not say something else."""
    _, _, old = await talk_to_support(gateway, carrier)
    noted = []
    gateway.node.records = SimpleNamespace(note=noted.append)
    gateway.node.registry.registry = lossy = LosesAnswers(gateway.memory, "claim", done=False)
    await gateway.http.post(f"/webhooks/{carrier}/voice{TO_SALES}", data=WIRES[carrier].voice | in_progress(carrier))
    gateway.node.registry.registry = gateway.memory
    assert lossy.lost == 1
    [ended] = {facts.session for facts in noted if facts.end_reason == "no_worker"}
    assert ended != old and (await gateway.memory.find(old)).end_reason == "transferred"
