"""What is noted is written, whatever the database does meanwhile; and no call waits for it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest
from sqlalchemy import select, text

from gateway.node.node import Node
from gateway.pool.facts import Facts
from gateway.records.base import Filters
from gateway.records.database import migrate, open_engine
from gateway.records.row import row_of
from gateway.records.schema import outbox
from gateway.records.store import DatabaseStore
from gateway.records.writer import RecordWriter, WriterLimits
from tests.kit.waiting import until
from tests.records.calls import BOT, CALL, COMPLETED, INBOUND, STREAM, facts_of

QUICK = WriterLimits(queued=3, batch=2, linger=0.0, retry=0.01, max_retry=0.02)
ALL = ("call.ringing", "call.answered", "call.ended", "call.recording")


@pytest.fixture
async def writer(engine):
    return RecordWriter(engine, node="n1", wanted=ALL, limits=QUICK)


async def told(engine) -> list[tuple[int, str, dict]]:
    async with engine.connect() as connection:
        found = await connection.execute(select(outbox.c.seq, outbox.c.type, outbox.c.payload).order_by(outbox.c.id))
        return [(seq, kind, json.loads(payload)) for seq, kind, payload in found]


async def test_a_call_is_written_as_it_goes_on(writer, engine):
    store = DatabaseStore(engine)
    for n, status in enumerate(("ringing", "answered", "answered", "ending", "ended"), 1):
        writer.note(facts_of(*CALL[:n]))
        assert await writer.write_batch()
        assert (await store.get("s1")).status == status
    assert [(seq, kind) for seq, kind, _ in await told(engine)] == [
        (1, "call.ringing"),
        (2, "call.answered"),
        (3, "call.ended"),
    ]


async def test_the_last_event_has_the_whole_record(writer, engine):
    writer.note(facts_of(*CALL))
    await writer.write_batch()
    _, kind, payload = (await told(engine))[-1]
    record = await DatabaseStore(engine).get("s1")
    assert (kind, payload["type"], payload["data"]) == ("call.ended", "call.ended", record.to_dict())


async def test_says_when_there_are_events_to_deliver(writer):
    woken = []
    writer.on_events = lambda: woken.append(True)
    writer.note(facts_of(*CALL))
    await writer.write_batch()
    assert woken == [True]
    writer.note(replace(facts_of(*CALL), answered_by="human"))
    await writer.write_batch()
    assert woken == [True], "the record has changed, and nothing is to be told"


async def test_only_events_that_someone_wants_are_written(engine):
    writer = RecordWriter(engine, wanted=("call.ended",), limits=QUICK)
    writer.note(facts_of(*CALL))
    await writer.write_batch()
    assert [(seq, kind) for seq, kind, _ in await told(engine)] == [(1, "call.ended")]


async def test_news_that_come_late_are_told_no_more(writer, engine):
    """Its end was told: an answer that becomes known behind it would come out of order."""
    writer.note(facts_of(INBOUND, COMPLETED))
    await writer.write_batch()
    writer.note(facts_of(*CALL))
    await writer.write_batch()
    assert [kind for _, kind, _ in await told(engine)] == ["call.ringing", "call.ended"]


async def test_two_nodes_that_write_a_call_at_once_write_it_once(engine, records_url):
    others = [open_engine(records_url) for _ in range(2)]
    writers = [RecordWriter(each, wanted=ALL, limits=QUICK) for each in (engine, *others)]
    for n in (1, 3, 5):
        for writer in writers:
            writer.note(facts_of(*CALL[:n]))
            writer.note(facts_of(*CALL[:n], session="s2"))
        assert all(await asyncio.gather(*(writer.write_batch() for writer in writers)))
    assert (await DatabaseStore(engine).get("s1")).duration_s == 11.0
    found = [(payload["data"]["session_id"], seq) for seq, _, payload in await told(engine)]
    assert sorted(found) == [("s1", 1), ("s1", 2), ("s1", 3), ("s2", 1), ("s2", 2), ("s2", 3)]
    for each in others:
        await each.dispose()


async def test_what_is_no_news_is_not_written_again(writer):
    facts = facts_of(INBOUND, STREAM)
    writer.note(facts)
    await writer.write_batch()
    writer.note(replace(facts, state=b"after another word", state_seq=7))
    assert writer.waiting == 0
    writer.note(facts_of(INBOUND, STREAM, BOT))
    assert writer.waiting == 1


@pytest.mark.parametrize(
    "learned",
    [
        {"from_number": "+15550100001"},
        {"to_number": "+15550100002"},
        {"direction": "inbound"},
        {"carrier": "twilio"},
        {"account": "AC1"},
        {"service": "support.acme"},
        {"root": "s0"},
        {"body": {"order": 7}},
        {"cold": True},
    ],
    ids=lambda learned: next(iter(learned)),
)
async def test_what_becomes_known_later_is_written(writer, learned):
    facts = Facts(session="s1", created=1.0, status="streaming", streams=1)
    writer.note(facts)
    assert await writer.write_batch()
    writer.note(replace(facts, **learned))
    assert writer.waiting == 1


async def test_a_callback_of_a_call_that_is_not_ours_is_not_kept(writer):
    writer.note(Facts(session="s9", status="ended", ended=5.0, call_ended=5.0))
    assert writer.waiting == 0


async def test_the_oldest_is_dropped_while_the_database_is_away(tmp_path):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path / 'missing' / 'gateway.db'}")
    writer = RecordWriter(engine, limits=QUICK)
    for n in range(5):
        writer.note(facts_of(INBOUND, session=f"s{n}"))
    assert not await writer.write_batch()
    assert (writer.waiting, writer.dropped, writer.away) == (3, 2, True)
    (tmp_path / "missing").mkdir()
    running = asyncio.create_task(writer.run())
    await until(lambda: not writer.waiting and not writer.away, complain="it was written once the database was there")
    running.cancel()
    page = await DatabaseStore(engine).page(filters=Filters())
    assert {record.session_id for record in page.records} == {"s2", "s3", "s4"}
    await writer.close()


async def test_what_comes_during_a_try_that_fails_is_dropped_last(tmp_path):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path / 'missing' / 'gateway.db'}")
    writer = RecordWriter(engine, limits=WriterLimits(queued=4, batch=3))
    for n in range(4):
        writer.note(facts_of(INBOUND, session=f"s{n}"))
    trying = asyncio.create_task(writer.write_batch())
    await asyncio.sleep(0)
    for n in (4, 2, 5):  # of s2 it is further news
        writer.note(facts_of(INBOUND, STREAM, session=f"s{n}"))
    assert not await trying
    (tmp_path / "missing").mkdir()
    await migrate(engine)
    writer.migrated.set()
    await writer.flush()
    page = await DatabaseStore(engine).page(filters=Filters())
    assert {record.session_id for record in page.records} == {"s2", "s3", "s4", "s5"} and writer.dropped == 2
    await writer.close()


async def test_what_was_dropped_is_news_again(tmp_path):
    writer = RecordWriter(open_engine("sqlite+aiosqlite://"), limits=WriterLimits(queued=1))
    for n in (1, 2, 1):
        writer.note(facts_of(INBOUND, session=f"s{n}"))
    assert (writer.waiting, writer.dropped) == (1, 2)
    await writer.close()


async def test_what_was_written_and_what_was_not_is_counted(writer, tmp_path):
    node = Node("http://x", None, None, [], {}, records=writer)
    node.metrics.records = writer
    writer.note(facts_of(INBOUND))
    writer.note(facts_of(INBOUND, session="s2"))
    assert await writer.write_batch()
    database, writer.engine = writer.engine, open_engine(f"sqlite+aiosqlite:///{tmp_path / 'missing' / 'gateway.db'}")
    writer.note(facts_of(INBOUND, STREAM))
    assert not await writer.write_batch()
    writer.engine = database
    shown = node.metrics.expose({}).decode().splitlines()
    assert [line for line in shown if line.startswith("gateway_record")] == [
        "gateway_records_waiting 1.0",
        'gateway_records_total{result="written"} 2.0',
        'gateway_records_total{result="failed"} 1.0',
        'gateway_records_total{result="refused"} 0.0',
        'gateway_records_total{result="dropped"} 0.0',
        "gateway_recordings_waiting 0.0",
        'gateway_recordings_total{result="made"} 0.0',
        'gateway_recordings_total{result="cut_short"} 0.0',
        'gateway_recordings_total{result="empty"} 0.0',
        'gateway_recordings_total{result="failed"} 0.0',
        'gateway_recordings_total{result="discarded"} 0.0',
    ]


async def test_a_row_that_the_database_refuses_costs_no_other(writer, engine):
    good, bad = facts_of(INBOUND), facts_of(replace(INBOUND, created=2.0), session="s2")
    writer.note(good)
    writer.add(replace(row_of(bad), streams=2**80))
    assert await writer.write_batch()
    assert writer.refused == 1
    assert await DatabaseStore(engine).get("s1") is not None
    assert await DatabaseStore(engine).get("s2") is None


@pytest.fixture
def stumbling(monkeypatch):
    """Sessions whose rows meet a bug of ours as they are written. The last statement's parameters are what raises."""
    from gateway.records import upsert

    sessions: set[str] = set()
    parameters = upsert._parameters

    def stumble(row):
        if row.session_id in sessions:
            raise KeyError(row.progress)
        return parameters(row)

    monkeypatch.setattr(upsert, "_parameters", stumble)
    return sessions


async def test_a_row_that_meets_a_bug_costs_no_other(writer, engine, stumbling):
    stumbling.add("s1")
    for n in (1, 2):
        writer.note(facts_of(INBOUND, session=f"s{n}"))
    assert await writer.write_batch()
    assert (writer.waiting, writer.refused) == (0, 1)
    assert await DatabaseStore(engine).get("s2") is not None


async def test_rows_that_all_meet_a_bug_wait_behind_the_others(writer, engine, stumbling):
    stumbling |= {"s1", "s2"}
    for n in (1, 2, 3):
        writer.note(facts_of(INBOUND, session=f"s{n}"))
    assert not await writer.write_batch()
    assert (writer.waiting, writer.failed, writer.refused, writer.away) == (3, 2, 0, False)
    assert await writer.write_batch()
    assert await DatabaseStore(engine).get("s3") is not None
    assert (writer.waiting, writer.refused) == (1, 1)


async def test_at_the_end_what_meets_a_bug_costs_no_other(writer, engine, stumbling):
    stumbling |= {"s1", "s2"}
    for n in (1, 2, 3):
        writer.note(facts_of(INBOUND, session=f"s{n}"))
    writer.migrated.set()
    await writer.flush()
    assert await DatabaseStore(engine).get("s3") is not None


async def test_at_the_end_nothing_but_bugs_is_tried_once(writer, stumbling):
    stumbling |= {"s1", "s2"}
    for n in (1, 2):
        writer.note(facts_of(INBOUND, session=f"s{n}"))
    writer.migrated.set()
    await writer.flush()
    assert (writer.waiting, writer.failed) == (2, 2)


async def test_the_writer_outlives_a_bug(writer, engine, stumbling):
    stumbling.add("s1")
    running = asyncio.create_task(writer.run())
    writer.note(facts_of(INBOUND))
    await until(lambda: writer.failed, complain="it was tried")
    stumbling.clear()
    await until(lambda: not writer.waiting, complain="it was written once the bug was gone")
    running.cancel()
    assert await DatabaseStore(engine).get("s1") is not None


async def test_what_waits_is_written_at_the_end(writer, records_url):
    running = asyncio.create_task(writer.run())
    await writer.migrated.wait()
    running.cancel()
    writer.note(facts_of(*CALL))
    await writer.close()
    engine = open_engine(records_url)
    assert (await DatabaseStore(engine).get("s1")).end_reason == "caller_hangup"
    await engine.dispose()


async def test_facts_are_noted_fast_enough_for_a_webhook(writer):
    """Some microseconds; here no more than a frame of CPU, on whatever machine, however busy."""
    facts = facts_of(INBOUND, STREAM)
    began = time.process_time()
    for n in range(100):
        writer.note(replace(facts, session=f"s{n % 3}", starts=n))
    assert time.process_time() - began < 100 * 0.02


async def test_no_words_of_a_call_are_in_what_is_logged_of_an_error(engine):
    from gateway.records.writer import reason

    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT :number FROM nowhere"), {"number": "+15550100001"})
    except Exception as error:
        assert "+1555" not in reason(error) and "nowhere" in reason(error)
