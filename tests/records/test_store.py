"""Records are found, paged through while others come, and forgotten."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from gateway.errors import RecordsUnavailable
from gateway.pool.facts import FactEvent, merge
from gateway.records.base import BadCursor, Filters
from gateway.records.database import open_engine
from gateway.records.row import MASK, CallRow
from gateway.records.schema import outbox
from gateway.records.store import DatabaseStore, read_cursor, write_cursor
from gateway.records.writer import RecordWriter, WriterLimits
from tests.records.calls import CALL, INBOUND, STREAM, facts_of


@pytest.fixture
async def writer(engine):
    return RecordWriter(engine, wanted=("call.ended",), limits=WriterLimits(linger=0.0))


@pytest.fixture
async def store(engine):
    return DatabaseStore(engine)


async def write(writer: RecordWriter, *calls) -> None:
    for facts in calls:
        writer.note(facts)
    while writer.waiting:
        assert await writer.write_batch()


def call(session: str, created: float, **changes: object):
    return facts_of(replace(INBOUND, created=created, **changes), STREAM, session=session)


def ids(page) -> list[str]:
    return [record.session_id for record in page.records]


async def test_a_record_by_its_session(writer, store):
    await write(writer, facts_of(*CALL))
    assert (await store.get("s1")).body == {"plan": "gold"}
    assert await store.get("s2") is None
    assert await store.get("s\0") is None


async def test_pages_move_no_record_though_others_come(writer, store):
    await write(writer, *(call(f"s{n}", created=100.0 + n // 2) for n in range(6)))
    first = await store.page(Filters(), limit=2)
    assert ids(first) == ["s5", "s4"]
    await write(writer, call("s6", 200.0), call("s7", 102.0), call("s2", 101.0, status="ended"))
    second = await store.page(Filters(), limit=2, cursor=first.next_cursor)
    third = await store.page(Filters(), limit=2, cursor=second.next_cursor)
    assert (ids(second), ids(third), third.next_cursor) == (["s3", "s2"], ["s1", "s0"], None)


@pytest.mark.parametrize(
    "filters, expected",
    [
        (Filters(), ["s3", "s2", "s1"]),
        (Filters(status="answered"), ["s3", "s2", "s1"]),
        (Filters(status="ended"), []),
        (Filters(carrier="telnyx"), ["s3"]),
        (Filters(direction="outbound"), ["s2"]),
        (Filters(service_host="sales.acme"), ["s2"]),
        (Filters(from_number="+15550100009"), ["s1"]),
        (Filters(to_number="+15550100000", direction="inbound"), ["s3", "s1"]),
        (Filters(since=102.0), ["s3", "s2"]),
        (Filters(until=102.0), ["s1"]),
        (Filters(ended=False), ["s3", "s2", "s1"]),
        (Filters(ended=True), []),
        (Filters(cold=True), ["s2"]),
        (Filters(cold=False), ["s1"]),
        (Filters(bot_start_above=340), ["s2"]),
        (Filters(bot_start_below=1200), ["s1"]),
        (Filters(carrier="tel\0nyx"), []),
        (Filters(carrier="'; DROP TABLE calls; --"), []),
    ],
)
async def test_filters(writer, store, filters, expected):
    await write(
        writer,
        call("s1", 101.0, from_number="+15550100009", bot_start_ms=340),
        call("s2", 102.0, direction="outbound", service="sales.acme", bot_start_ms=1200, cold=True),
        call("s3", 103.0, carrier="telnyx"),
    )
    assert ids(await store.page(filters)) == expected
    assert await store.count(filters) == len(expected)


async def test_those_that_have_ended_and_those_that_are_left_out(writer, store):
    gone = FactEvent(status="ended", ended=110.0, call_ended=110.0)
    await write(writer, *(call(f"s{n}", 100.0 + n) for n in range(3)), merge(call("s3", 103.0), gone))
    assert ids(await store.page(Filters(ended=True))) == ["s3"]
    assert ids(await store.page(Filters(ended=False), limit=1, offset=1)) == ["s1"]
    assert ids(await store.page(Filters(), offset=4)) == []


async def test_a_number_is_forgotten_for_good(writer, store, engine):
    await write(writer, facts_of(*CALL, FactEvent(recording="/rec/s1.flac")), call("s2", 50.0, from_number="+1"))
    forgotten = await store.forget("+15550100001")
    assert forgotten.recordings == {"s1": "/rec/s1.flac"}
    late = facts_of(*CALL, FactEvent(answered_by="human", recording="/rec/s1.flac"))
    await write(writer, late)
    record = await store.get("s1")
    assert (record.from_number, record.to_number, record.body, record.recording) == (MASK, "+15550100000", {}, "")
    assert (record.machine, record.end_reason) == ("human", "caller_hangup")
    async with engine.connect() as connection:
        (told,) = (await connection.execute(select(outbox.c.payload))).scalars()
    assert "+15550100001" not in told and json.loads(told)["data"]["from"] == MASK
    assert (await store.forget("+15550100001")).recordings == {}
    assert (await store.forget(MASK)).recordings == {}, "what is masked is nobody's number"
    assert (await store.get("s2")).from_number == "+1"


async def test_old_records_are_deleted_with_their_events(writer, store, engine):
    old = replace(INBOUND, created=50.0, recording="/rec/s1.flac")
    await write(writer, facts_of(old, *CALL[1:]), call("s2", 150.0))
    assert await store.purge(100.0) == ("/rec/s1.flac",)
    assert ids(await store.page(Filters())) == ["s2"]
    async with engine.connect() as connection:
        assert not (await connection.execute(select(outbox))).all()


@given(st.floats(0, 1e11), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80))
def test_a_cursor_is_read_as_it_was_written(created, session_id):
    row = CallRow(session_id=session_id, created=created)
    assert read_cursor(write_cursor(row)) == (created, session_id)


@given(st.text(max_size=60))
def test_any_other_cursor_is_refused(text):
    try:
        read_cursor(text)
    except BadCursor:
        pass


@pytest.mark.parametrize("cursor", ["", "e30", "W10", "WzEsMl0", "W251bGwsIngiXQ", "WzFlOTk5LCAieCJd", "x" * 5000])
def test_a_cursor_of_something_else_is_refused(cursor):
    with pytest.raises(BadCursor):
        read_cursor(cursor)


async def test_a_database_that_is_away_is_an_error_of_ours(tmp_path):
    store = DatabaseStore(open_engine(f"postgresql+asyncpg://gateway@/gateway?host={tmp_path}"))
    for ask in (
        store.get("s1"),
        store.page(Filters()),
        store.count(Filters()),
        store.forget("+1555"),
        store.purge(1.0),
    ):
        with pytest.raises(RecordsUnavailable):
            await ask
