"""What a process that has just started does with the records that it finds."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from gateway.records.database import migrate
from gateway.records.row import close, row_of
from gateway.records.upsert import upsert
from gateway.serve.record_keeping import make_record_keeping
from gateway.settings import Settings
from tests.api.image import image, serve_by
from tests.kit.waiting import until
from tests.records.calls import INBOUND, STREAM, facts_of
from tests.sessions.test_ask_outcome import ACCOUNT, CALL, api
from tests.streams.test_clients import joined


async def test_an_unknown_end_is_completed_at_the_next_start(gateway, tmp_path):
    """By the carrier's API: the gateway that had this call was killed, and so was the one that closed its record."""
    began = time.time() - 60.0
    inbound = replace(INBOUND, call_id=CALL, account=ACCOUNT, created=began)
    row = row_of(facts_of(inbound, replace(STREAM, answered=began)))
    keeping = make_record_keeping(Settings(records=f"sqlite+aiosqlite:///{tmp_path}/gateway.db"))
    await migrate(keeping.engine)
    for each in (row, close(row, began + 9.6)):
        await upsert(keeping.engine, {"s1": each}, (), began + 30.0)
    assert (await keeping.store.get("s1")).end_reason == "unknown_end"

    async def end():
        record = await keeping.store.get("s1")
        return (record.end_reason, record.duration_s) if record.end_reason != "unknown_end" else None

    async with api(gateway, "completed") as answers:
        answers.duration = "5"
        keeping.start(gateway.sessions)
        try:
            assert await until(end) == ("stream_lost", 5.0)
        finally:
            await keeping.close()
            keeping.live.close()
    assert answers.asked == [f"GET /2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json HTTP/1.1"]


@pytest.fixture
def service(service):
    return replace(service, protocol="relay", rest=0.0, wrapup=0.1)


async def test_a_clients_conversation_is_not_closed_while_it_runs(gateway, tmp_path):
    """It has no call for which the registry could be asked: that it runs here is all that keeps its record open."""
    keeping = make_record_keeping(Settings(records=f"sqlite+aiosqlite:///{tmp_path}/gateway.db"))
    await migrate(keeping.engine)
    async with image() as worker:
        await serve_by(gateway, worker)
        client, session = await joined(gateway, worker)
        running = gateway.sessions.clients[session].facts
        left_behind = replace(running, session="left-behind")
        rows = {facts.session: row_of(facts) for facts in (running, left_behind)}
        await upsert(keeping.engine, rows, (), time.time() - 30.0)
        keeping.start(gateway.sessions)
        try:

            async def closed() -> bool:
                return (await keeping.store.get("left-behind")).end_reason == "unknown_end"

            await until(closed)
            assert (await keeping.store.get(session)).ended_at is None
        finally:
            await keeping.close()
            keeping.live.close()
            client.socket.close()
            await until(lambda: not gateway.sessions)
