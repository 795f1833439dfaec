"""Calls that run and that have ended, as the API shows them; and a number that is forgotten."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import quote

import pytest

from gateway.errors import RecordsUnavailable
from gateway.pool.facts import FactEvent
from gateway.records.database import migrate, open_engine
from gateway.records.row import close, row_of
from gateway.records.store import DatabaseStore
from gateway.records.writer import RecordWriter, WriterLimits
from tests.api.serving import READ_KEY, api_of, problem
from tests.records.calls import CALL, INBOUND, STREAM, facts_of
from tests.sessions.test_control import begin

FIELDS = re.findall(
    r"\w+",
    "session_id, call_id, carrier, direction, from, to, service_host, status, end_reason, created_at, answered_at, "
    "ended_at, duration_s, hold_ms, bot_start_ms, cold, attempts, streams, machine, recording, body",
)


@pytest.fixture
async def writer(tmp_path):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await migrate(engine)
    yield RecordWriter(engine, limits=WriterLimits(linger=0.0))
    await engine.dispose()


@pytest.fixture
async def http(gateway, writer):
    async with api_of(gateway.sessions, store=DatabaseStore(writer.engine)) as client:
        yield client


async def write(writer: RecordWriter, *calls) -> None:
    for facts in calls:
        writer.note(facts)
    while writer.waiting:
        assert await writer.write_batch()


def call(session: str, created: float, **changes: object):
    return facts_of(replace(INBOUND, created=created, **changes), STREAM, session=session)


async def test_a_call_that_runs(gateway, http):
    session, _, _ = await begin(gateway)
    answer = await http.get(f"/v1/calls/{session}")
    said = answer.json()
    assert answer.status_code == 200 and list(said) == FIELDS
    assert (said["session_id"], said["call_id"], said["carrier"], said["status"]) == (
        session,
        "CA1",
        "twilio",
        "answered",
    )
    assert answer.headers["cache-control"] == "no-store"


async def test_a_call_of_which_only_the_record_is_left(writer, http):
    await write(writer, facts_of(*CALL))
    said = (await http.get("/v1/calls/s1")).json()
    assert said["body"] == {"plan": "gold"} and list(said) == FIELDS
    assert (await http.post("/v1/calls/s1/hangup")).json() == {"session_id": "s1", "status": "ended"}


async def test_facts_of_nothing_but_a_recording_do_not_stand_before_the_record(gateway, writer, http):
    """The registry in memory has lost the call with the gateway that was killed, whose recording was found."""
    await write(writer, facts_of(*CALL))
    await gateway.node.registry.merge("s1", FactEvent(recording="/rec/s1.flac"))
    said = (await http.get("/v1/calls/s1")).json()
    assert (said["from"], said["end_reason"]) == ("+15550100001", "caller_hangup")


async def test_a_call_that_was_closed_for_want_of_news_has_ended(gateway, writer, http):
    """Its node died; the registry's facts are of before, for as long as a call may last. What they say more, counts."""
    row = row_of(facts_of(INBOUND, STREAM))
    writer.add(row)
    writer.add(close(row, 150.0))
    assert await writer.write_batch()
    await gateway.node.registry.merge("s1", INBOUND)
    await gateway.node.registry.merge("s1", replace(STREAM, answered_by="human"))
    said = (await http.get("/v1/calls/s1")).json()
    assert (said["status"], said["end_reason"], said["machine"]) == ("ended", "unknown_end", "human")
    await gateway.node.registry.merge("s1", replace(STREAM, streams=2))
    assert (await http.get("/v1/calls/s1")).json()["status"] == "answered", "it went on elsewhere"


async def test_whatever_a_carrier_put_into_the_body_is_written(gateway, http):
    body = {"n": 2**70, "s": "\ud800", "ä": "\0"}
    await gateway.node.registry.merge("odd", FactEvent(created=1.0, body=body))
    assert (await http.get("/v1/calls/odd")).json()["body"]["n"] == 2**70


async def test_an_unknown_call(gateway, http):
    await begin(gateway)
    for name in ("abc", "twilio::CA1", "%00", "%F0%9F%98%80"):
        problem(await http.get(f"/v1/calls/{name}"), 404)


async def test_calls_are_listed_page_by_page(writer, http):
    await write(writer, *(call(f"s{n}", created=100.0 + n) for n in range(5)))
    seen, query = [], "limit=2"
    while query:
        page = (await http.get(f"/v1/calls?{query}")).json()
        seen += [each["session_id"] for each in page["calls"]]
        query = f"limit=2&cursor={quote(page['next_cursor'])}" if page["next_cursor"] else ""
    assert seen == ["s4", "s3", "s2", "s1", "s0"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("carrier=twilio", ["s2", "s1"]),
        ("from=%2B15550100001", ["s2", "s1"]),
        ("from=15550100001", []),
        ("direction=outbound", []),
        ("since=1970-01-01T00:03:20Z", ["s2"]),
        ("until=1970-01-01T01:03:20%2B01:00", ["s1"]),
        ("service_host=other.acme", []),
    ],
)
async def test_calls_are_filtered(gateway, writer, http, query, found):
    known = {"carrier": "twilio", "from_number": "+15550100001"}
    await write(writer, call("s1", 100.0, **known), call("s2", 200.0, **known))
    assert [each["session_id"] for each in (await http.get(f"/v1/calls?{query}")).json()["calls"]] == found


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("since=yesterday", "since"),
        ("since=2026-13-01T00:00:00Z", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("status=over", "status"),
        ("cursor=x", "cursor"),
        ("cursor=%00", "cursor"),
        ("from=%ff", ""),
        ("form=1", "form"),
        ("limit=1&limit=2", "limit"),
    ],
)
async def test_a_wrong_query_names_its_field(http, query, field):
    said = problem(await http.get(f"/v1/calls?{query}"), 422)
    assert [each["field"] for each in said["errors"]] == [field]


async def test_a_cursor_of_another_list(http):
    said = problem(await http.get(f"/v1/calls?cursor=W{'A' * 40}"), 404)
    assert said["errors"][0]["field"] == "cursor"


async def test_without_records_the_calls_of_this_node_are_listed(gateway):
    session, _, _ = await begin(gateway)
    async with api_of(gateway.sessions, READ_KEY) as http:
        page = (await http.get("/v1/calls?carrier=twilio")).json()
        assert [each["session_id"] for each in page["calls"]] == [session] and page["next_cursor"] is None
        assert (await http.get("/v1/calls?carrier=plivo")).json()["calls"] == []
        assert (await http.get("/v1/calls?since=2100-01-01T00:00:00Z")).json()["calls"] == []


async def test_without_a_registry_what_runs_here_and_what_is_kept_is_known(gateway, writer, http):
    session, _, _ = await begin(gateway)
    await write(writer, facts_of(*CALL))
    gateway.memory.down = True
    assert (await http.get(f"/v1/calls/{session}")).status_code == 200
    assert (await http.get("/v1/calls/s1")).status_code == 200
    async with api_of(gateway.sessions) as without_records:
        problem(await without_records.get("/v1/calls/s1"), 503)


class Away:
    """A store whose database does not answer."""

    async def page(self, *_) -> None:
        raise RecordsUnavailable("it is away")


async def test_a_database_that_is_away_is_a_problem(gateway):
    async with api_of(gateway.sessions, store=Away()) as http:
        answer = await http.get("/v1/calls")
    assert problem(answer, 503)["code"] == "records_down" and answer.headers["retry-after"]


# A number that is forgotten.


async def test_a_number_is_forgotten_with_its_recordings(gateway, writer, http, tmp_path):
    file = tmp_path / "s1.flac"
    file.write_bytes(b"fLaC")
    known = {"from_number": "+15550100001", "recording": str(file)}
    await write(writer, call("s1", 100.0, **known), call("s2", 200.0, from_number="+15550100002"))
    answer = await http.delete("/v1/callers/%2B15550100001")
    assert (answer.status_code, answer.json()) == (200, {"calls": 1, "recordings": 1})
    assert not file.exists()
    assert "+15550100001" not in (await http.get("/v1/calls/s1")).text
    assert "+15550100002" in (await http.get("/v1/calls/s2")).text
    assert (await http.delete("/v1/callers/+15550100001")).json()["calls"] == 0


async def test_a_number_is_forgotten_though_the_registry_knows_it(gateway, writer, http):
    facts = await gateway.node.registry.merge("s9", FactEvent(created=1.0, from_number="+15550100001", status="ended"))
    await write(writer, facts)
    assert "+15550100001" in (await http.get("/v1/calls/s9")).text
    await http.delete("/v1/callers/+15550100001")
    assert "+15550100001" not in (await http.get("/v1/calls/s9")).text


async def test_what_is_no_number_is_not_forgotten(http):
    said = problem(await http.delete("/v1/callers/anonymous"), 422)
    assert said["errors"][0]["field"] == "number" and said["code"] == "invalid"


async def test_only_an_admin_forgets(gateway):
    async with api_of(gateway.sessions, READ_KEY) as http:
        problem(await http.delete("/v1/callers/+15550100001"), 403)
    async with api_of(gateway.sessions) as http:
        problem(await http.delete("/v1/callers/+15550100001"), 409)


async def test_facts_under_another_name_are_not_shown(gateway, http):
    await gateway.node.registry.merge("abc", FactEvent(carrier="twilio", created=1.0, aliases=("twilio:AC1:CA9",)))
    assert (await http.get("/v1/calls/abc")).status_code == 200
    problem(await http.get("/v1/calls/twilio:AC1:CA9"), 404)
