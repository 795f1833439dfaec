"""/start prepares a stream for whichever call comes first, once."""

from __future__ import annotations

import asyncio

import pytest

from gateway.api.prepared import PreparedSessions
from gateway.errors import LinkRefused
from gateway.records.database import migrate, open_engine
from gateway.records.events import EVENT_TYPES
from gateway.records.store import DatabaseStore
from gateway.records.writer import RecordWriter, WriterLimits
from tests.api.serving import READ_KEY, api_of, problem
from tests.kit.node import SERVICE, start
from tests.kit.waiting import until
from tests.webhooks.wires import WIRES


async def prepared(http, carrier: str = "twilio", **body) -> dict:
    answer = await http.post("/start", json={"transport": carrier, "body": {"campaign": "spring"}, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def path_of(said: dict) -> str:
    assert said["wsUrl"].endswith(f"/{said['token']}")
    return said["wsUrl"].removeprefix("ws://127.0.0.1:1")


@pytest.mark.parametrize("carrier", WIRES)
async def test_the_first_call_has_the_bot_with_its_body(gateway, http, carrier):
    said = await prepared(http, carrier)
    stream = await gateway.open(path_of(said))
    stream.send(dict(WIRES[carrier].start))
    await gateway.started()
    [message] = gateway.starts()
    assert message["session_id"] == said["sessionId"]
    assert message["call"]["body"]["campaign"] == "spring"
    facts = (await until(lambda: gateway.sessions.get(said["sessionId"]))).facts
    assert (facts.call_id, facts.carrier) == (WIRES[carrier].call, carrier)


async def test_a_token_that_is_appended_once_more_is_the_same(gateway, http):
    said = await prepared(http)
    for more in (f"/{said['token']}x", "/s"):
        with pytest.raises(LinkRefused, match="404"):
            await gateway.open(path_of(said) + more)
    stream = await gateway.open(f"{path_of(said)}/{said['token']}?token={said['token']}")
    stream.send(start("CA1"))
    await gateway.started()


async def test_it_is_for_one_stream(gateway, http):
    path = path_of(await prepared(http))
    stream = await gateway.open(path)
    stream.send(start("CA1"))
    await gateway.started()
    for call in ("CA1", "CA2"):
        other = await gateway.open(path)
        other.send(start(call, "MZ2"))
        assert await other.until_closed() == 1008
    assert stream.code is None


async def test_a_stream_whose_session_was_hung_up_is_not_taken(gateway, http):
    said = await prepared(http)
    assert (await http.post(f"/v1/calls/{said['sessionId']}/hangup")).status_code == 202
    stream = await gateway.open(path_of(said))
    stream.send(start("CA1"))
    assert await stream.until_closed() == 1008


async def test_no_webhook_finds_a_call_that_only_its_stream_has_named(gateway, http):
    stream = await gateway.open(path_of(await prepared(http)))
    stream.send(start("CA1"))
    await gateway.started()
    [session] = gateway.sessions
    assert not session.stream.verified and not session.stream.resumes
    assert await gateway.memory.find("twilio:AC1:CA1") is None


@pytest.fixture
async def writer(tmp_path):
    """Of records, and of all events."""
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await migrate(engine)
    yield RecordWriter(engine, wanted=EVENT_TYPES, limits=WriterLimits(linger=0.0))
    await engine.dispose()


async def test_what_no_call_has_opened_leaves_no_record_and_no_event(gateway, writer):
    store = DatabaseStore(writer.engine)
    async with api_of(gateway.sessions, store=store, prepared=PreparedSessions(seconds=0.3)) as http:
        session = (await prepared(http))["sessionId"]

        async def over() -> bool:
            writer.note(facts := await gateway.memory.find(session))
            return facts.over

        await until(over)
        assert not writer.waiting
        assert (await http.get("/v1/calls")).json()["calls"] == []
        assert (await http.get(f"/v1/calls/{session}")).json()["end_reason"] == "no_answer"


async def test_it_is_in_the_list_of_calls_once_a_call_has_come(gateway, writer):
    store = DatabaseStore(writer.engine)
    async with api_of(gateway.sessions, store=store) as http:
        said = await prepared(http)
        session = said["sessionId"]

        async def listed() -> list[str]:
            writer.note(await gateway.memory.find(session))
            while writer.waiting:
                assert await writer.write_batch()
            return [one["session_id"] for one in (await http.get("/v1/calls")).json()["calls"]]

        assert await listed() == []
        assert (await http.get(f"/v1/calls/{session}")).json()["status"] == "queued"
        stream = await gateway.open(path_of(said))
        stream.send(start("CA1"))
        await gateway.started()
        assert await listed() == [session]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"transport": "twilio", "body": []}, "body"),
        ({"transport": "twilio", "body": {"x": "y" * 65536}}, "body"),
    ],
)
async def test_what_cannot_be_started(http, body, field):
    assert [each["field"] for each in problem(await http.post("/start", json=body), 422)["errors"]] == [field]


async def test_a_relay_workers_body_is_what_its_url_may_hold(gateway, http):
    gateway.node.protocols[SERVICE] = "relay"
    assert (await http.post("/start", json={"body": {"x": "y" * 4000}})).status_code == 200
    said = problem(await http.post("/start", json={"body": {"x": "y" * 4096}}), 422)
    assert said["errors"] == [
        {"field": "body", "detail": "more than 4096 bytes of JSON, and a relay worker gets it in a URL"}
    ]


async def test_prepared_streams_are_bounded_by_their_bodies(gateway):
    async with api_of(gateway.sessions, prepared=PreparedSessions(seconds=0.3, max_bytes=100_000)) as http:
        big = {"body": {"x": "y" * 60_000}}
        first = (await http.post("/start", json=big)).json()["sessionId"]
        said = problem(answer := await http.post("/start", json=big), 429)
        assert said["code"] == "too_many_prepared" and int(answer.headers["retry-after"]) > 0

        async def over() -> bool:
            return (await gateway.memory.find(first)).over

        await until(over, complain="it ends when its stream has not come")
        assert (await gateway.memory.find(first)).end_reason == "no_answer"
        assert (await http.post("/start", json=big)).status_code == 200


async def test_a_prepared_stream_that_came_in_time_goes_on(gateway):
    async with api_of(gateway.sessions, prepared=PreparedSessions(seconds=0.6)) as http:
        said = await prepared(http)
        stream = await gateway.open(path_of(said))
        stream.send(start("CA1"))
        await gateway.started()
        expired = asyncio.Event()
        asyncio.get_running_loop().call_later(0.6, expired.set)  # behind the API's own timer
        await expired.wait()
        await until(lambda: not [task for task in gateway.node._tasks if "prepared" in task.get_name()])
        assert not (await gateway.memory.find(said["sessionId"])).over and stream.code is None


async def test_a_service_that_there_is_not(http):
    said = problem(await http.post("/start", json={"transport": "twilio", "serviceHost": "no.such"}), 404)
    assert said["errors"][0]["field"] == "serviceHost"


async def test_without_a_transport_it_is_the_first_carrier(gateway, http):
    said = (await http.post("/start", json={})).json()
    assert f"/ws/{next(iter(gateway.node.carriers))}/" in said["wsUrl"]


async def test_a_body_that_is_nested_too_deep(http):
    deep: dict = {}
    for _ in range(40):
        deep = {"a": [deep]}
    said = problem(await http.post("/start", json={"transport": "twilio", "body": deep}), 422)
    assert "levels deep" in said["errors"][0]["detail"]


async def test_it_needs_its_scope(gateway):
    async with api_of(gateway.sessions, READ_KEY) as http:
        problem(await http.post("/start", json={"transport": "twilio"}), 403)
