"""Pipecat Cloud's REST: an agent's sessions are started, listed and ended in its shapes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.api.agents import no_room
from gateway.node.services import Service, Services
from gateway.pool.facts import FactEvent
from gateway.pool.registry import Host
from gateway.protocol.workers import Worker
from gateway.records.database import migrate, open_engine
from gateway.records.store import DatabaseStore
from gateway.records.writer import RecordWriter, WriterLimits
from tests.api.serving import READ_KEY, api_of, problem
from tests.kit.node import SERVICE, start
from tests.kit.two_nodes import second_node
from tests.kit.waiting import PATIENCE, until
from tests.records.calls import INBOUND, STREAM, facts_of
from tests.sessions.test_control import begin, end_reason

AGENT = SERVICE.partition(".")[0]
FIELDS = {
    *("sessionId", "serviceId", "organizationId", "deploymentId", "createdAt", "updatedAt", "endedAt"),
    *("botStartSeconds", "coldStart", "completionStatus", "cpuMillicores", "memoryBytes"),
}


@asynccontextmanager
async def kept(tmp_path, *calls):
    """A store of these calls."""
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await migrate(engine)
    writer = RecordWriter(engine, limits=WriterLimits(linger=0.0))
    for facts in calls:
        writer.note(facts)
    while writer.waiting:
        assert await writer.write_batch()
    try:
        yield DatabaseStore(engine)
    finally:
        await engine.dispose()


# Start.


@pytest.mark.parametrize("agent", [AGENT, SERVICE])
async def test_a_started_session_reaches_the_agents_bot(gateway, http, agent):
    answer = await http.post(f"/v1/public/{agent}/start", json={"transport": "twilio", "body": {"campaign": "spring"}})
    said = answer.json()
    assert answer.status_code == 200 and said["wsUrl"].endswith(f"/ws/twilio/{said['token']}")
    stream = await gateway.open(said["wsUrl"].removeprefix("ws://127.0.0.1:1"))
    stream.send(start("CA1"))
    await gateway.started()
    [message] = gateway.starts()
    assert (message["session_id"], message["call"]["body"]["campaign"]) == (said["sessionId"], "spring")
    assert message["service_host"] == SERVICE


async def test_what_is_for_rooms_only_is_taken(http):
    unused = {"createDailyRoom": False, "enableDefaultIceServers": True, "dailyRoomProperties": {"exp": 1}}
    unused["dailyMeetingTokenProperties"] = {"is_owner": True}
    for path in (f"/v1/public/{AGENT}/start", "/start"):
        assert (await http.post(path, json={"transport": "twilio", **unused})).status_code == 200
    assert (await http.post(f"/v1/public/{AGENT}/start")).status_code == 200


@pytest.mark.parametrize("transport", ["webrtc", "daily", "livekit", "moq", "acme"])
async def test_other_transports_are_none_of_ours(http, transport):
    for path in (f"/v1/public/{AGENT}/start", "/start"):
        said = problem(await http.post(path, json={"transport": transport}), 400)
        assert said["code"] == "transport" and said["detail"].startswith(f"transport: {transport} is not served here")


async def test_a_room_is_a_transport_too(http):
    said = problem(await http.post("/start", json={"createDailyRoom": True}), 400)
    assert "daily is not served here" in said["detail"]


async def test_at_capacity_it_says_when_to_ask_again(gateway, http):
    path = f"/v1/public/{AGENT}/start"
    for n in range(2):
        await gateway.memory.claim(SERVICE, f"s{n}")
    answer = await http.post(path, json={"transport": "twilio"})
    assert problem(answer, 429)["code"] == "at_capacity" and answer.headers["retry-after"] == "5"
    assert (await http.post("/start", json={"transport": "twilio"})).status_code == 200  # whose caller may wait on hold
    await gateway.memory.release("s1", 0)
    assert (await http.post(path, json={"transport": "twilio"})).status_code == 200
    await gateway.memory.drop_host("h", 1)
    await gateway.memory.release("s0", 0)
    assert problem(await http.post(path, json={"transport": "twilio"}), 503)["code"] == "no_worker"


async def test_where_no_static_worker_is_alive_none_has_a_call(gateway, http):
    workers = (Worker("w1", "ws://127.0.0.1:1/ws", "starting"),)
    await gateway.memory.put_host(Host("static:a.b", 1, "static.only", "relay", 1, workers, "", static=True))
    full = await no_room(gateway.node, Service("static.only"))
    assert (full.status, full.code) == (503, "no_worker")


async def test_an_agents_name_must_be_one_services(gateway, http):
    gateway.node.services = Services([Service("support.acme"), Service("support.other"), Service("sales")])
    said = problem(await http.post("/v1/public/support/start", json={}), 404)
    assert said["code"] == "unknown_service" and "several" in said["detail"]
    problem(await http.get("/v1/agents/nobody/sessions"), 404)
    for agent in ("support.acme", "support.other", "sales"):
        assert (await http.get(f"/v1/agents/{agent}/sessions")).json() == {"total_count": 0, "sessions": []}


async def test_each_needs_its_scope(gateway):
    async with api_of(gateway.sessions, READ_KEY) as http:
        problem(await http.post(f"/v1/public/{AGENT}/start", json={}), 403)
        problem(await http.delete(f"/v1/agents/{AGENT}/sessions/s1"), 403)
        assert (await http.get(f"/v1/agents/{AGENT}/sessions")).status_code == 200
    async with api_of(gateway.sessions, "") as http:
        problem(await http.get(f"/v1/agents/{AGENT}/sessions"), 401)


# List.


async def test_a_running_session_with_what_its_worker_uses(gateway, http):
    session, _, _ = await begin(gateway)
    running = gateway.sessions.get(session)
    await until(lambda: running.facts.bot_start_ms)
    used = [Worker(f"w{n}", url, "busy", session, cpu=150, memory=2**27) for n, url in enumerate(gateway.worker_urls)]
    await gateway.memory.beat("h", 1, used)
    said = (await http.get(f"/v1/agents/{AGENT}/sessions")).json()
    [one] = said["sessions"]
    assert said["total_count"] == 1 and set(one) == FIELDS
    assert (one["sessionId"], one["serviceId"], one["organizationId"]) == (session, SERVICE, "acme")
    assert (one["endedAt"], one["completionStatus"], one["coldStart"]) == (None, None, False)
    assert 0 < one["botStartSeconds"] < 60 and one["createdAt"] <= one["updatedAt"]
    assert (one["cpuMillicores"], one["memoryBytes"]) == (150, 2**27)


async def test_sessions_that_were_are_counted_and_paged(gateway, tmp_path):
    calls = [facts_of(replace(INBOUND, created=100.0 + n, service=SERVICE), STREAM, session=f"s{n}") for n in range(5)]
    ended = FactEvent(
        status="ended",
        end_reason="bot_hangup",
        ended=200.0,
        ended_streams=1,
        call_ended=200.0,
        bot_start_ms=1500,
        cold=True,
    )
    last = facts_of(replace(INBOUND, created=150.0, service=SERVICE), STREAM, ended, session="last")
    other = facts_of(replace(INBOUND, created=160.0, service="sales.acme"), STREAM, session="other")
    async with kept(tmp_path, *calls, last, other) as store, api_of(gateway.sessions, store=store) as http:
        path = f"/v1/agents/{AGENT}/sessions"
        said = (await http.get(path, params={"limit": 2, "offset": 1})).json()
        assert said["total_count"] == 6 and [one["sessionId"] for one in said["sessions"]] == ["s4", "s3"]
        for wanted in ({"status": "ended"}, {"startType": "cold"}, {"startTimeMin": 1}, {"startTime": 105}):
            said = (await http.get(path, params=wanted)).json()
            assert (said["total_count"], said["sessions"][0]["sessionId"]) == (1, "last"), wanted
        one = said["sessions"][0]
        assert (one["createdAt"], one["endedAt"]) == ("1970-01-01T00:02:30.000Z", "1970-01-01T00:03:20.000Z")
        assert (one["botStartSeconds"], one["coldStart"], one["completionStatus"]) == (1.5, True, "bot_hangup")
        for wanted, count in (({"status": "active"}, 5), ({"endTime": 102}, 2), ({"startType": "warm"}, 0)):
            assert (await http.get(path, params=wanted)).json()["total_count"] == count
        for wanted in ({"startTimeMax": 1}, {"deploymentId": "d"}):
            assert (await http.get(path, params=wanted)).json()["total_count"] == 0
        problem(await http.get(path, params={"status": "mine"}), 422)


async def test_without_records_the_filters_hold_too(gateway, http):
    session, _, _ = await begin(gateway)
    await until(lambda: gateway.sessions.get(session).facts.bot_start_ms)
    path = f"/v1/agents/{AGENT}/sessions"
    for wanted, count in (
        *(({"status": "active"}, 1), ({"status": "ended"}, 0), ({"startType": "warm"}, 1), ({"startType": "cold"}, 0)),
        *(({"startTimeMin": 100}, 0), ({"startTimeMax": 100}, 1), ({"offset": 1}, 1)),
    ):
        said = (await http.get(path, params=wanted)).json()
        assert said["total_count"] == count, wanted
        assert len(said["sessions"]) == (0 if "offset" in wanted else count)


async def test_while_the_registry_is_away_use_is_not_known(gateway, http):
    await begin(gateway)
    gateway.memory.down = True
    [one] = (await http.get(f"/v1/agents/{AGENT}/sessions")).json()["sessions"]
    gateway.memory.down = False
    assert (one["cpuMillicores"], one["memoryBytes"]) == (None, None)


# End.


async def test_a_session_is_ended_at_once(gateway, http, rest_requests):
    session, bot, stream = await begin(gateway)
    bot.socket.send(b"\1\0" * 160_000)  # ten seconds, which nobody waits for
    await stream.until("media")
    answer = await http.delete(f"/v1/agents/{AGENT}/sessions/{session}")
    assert (answer.status_code, answer.json()) == (200, {"status": "terminated", "session_id": session})
    async with asyncio.timeout(PATIENCE):
        assert await end_reason(gateway, session) == "api_hangup"
    again = await http.delete(f"/v1/agents/{AGENT}/sessions/{session}")
    assert again.json() == answer.json()


async def test_a_session_on_another_node_is_ended(gateway, rest_requests):
    session, _, stream = await begin(gateway)
    async with second_node(gateway) as second, api_of(second.sessions) as http:
        answer = await http.delete(f"/v1/agents/{AGENT}/sessions/{session}")
        assert answer.json()["status"] == "terminated"
        assert await stream.until_closed() == 1000


async def test_only_an_agents_own_sessions_are_ended(gateway, http, tmp_path):
    session, _, stream = await begin(gateway)
    gateway.node.services = Services([*gateway.node.services, Service("sales.acme")])
    problem(await http.delete(f"/v1/agents/sales/sessions/{session}"), 404)
    problem(await http.delete(f"/v1/agents/{AGENT}/sessions/nobody"), 404)
    ended = FactEvent(status="ended", ended=200.0, call_ended=200.0)
    old = facts_of(replace(INBOUND, service=SERVICE), STREAM, ended, session="old")
    async with kept(tmp_path, old) as store, api_of(gateway.sessions, store=store) as http:
        assert (await http.delete(f"/v1/agents/{AGENT}/sessions/old")).status_code == 200
        problem(await http.delete("/v1/agents/sales/sessions/old"), 404)
    assert stream.code is None
