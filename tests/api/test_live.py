"""`GET /v1/events`: who may watch, and what."""

from __future__ import annotations

import asyncio

import pytest

from gateway.api.parts import Api
from gateway.outbox.live import LiveEvents, LiveLimits
from gateway.records.database import migrate, open_engine
from gateway.records.events import EVENT_TYPES
from gateway.records.writer import RecordWriter, WriterLimits
from gateway.serve.app import make_app
from tests.api.serving import KEYS, READ_KEY, api_of, problem
from tests.kit.http_server import client, serving
from tests.kit.waiting import PATIENCE
from tests.records.calls import CALL, facts_of


@pytest.fixture
async def live(tmp_path):
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}")
    await migrate(engine)
    yield LiveEvents(engine, LiveLimits(watchers=1))
    await engine.dispose()


async def test_shows_a_call_to_a_key_that_may_read(gateway, live):
    writer = RecordWriter(live.engine, wanted=EVENT_TYPES, limits=WriterLimits(linger=0.0))
    writer.on_events = live.wake
    running = asyncio.create_task(live.run())
    app = make_app(gateway.sessions, lambda: True, Api(gateway.sessions, KEYS, live=live))
    async with serving(app=app) as server, client(server.port) as page:
        query = b"GET /v1/events?types=call.ended,call.answered HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n"
        page.send(query % READ_KEY.encode())
        async with asyncio.timeout(PATIENCE):
            await page.reader.readuntil(b"from now on\n\n")
            writer.note(facts_of(*CALL))
            await writer.write_batch()
            said = await page.reader.readuntil(b"event: call.ended\n")
            assert b"event: call.answered\n" in said and b"call.ringing" not in said
        live.close()
    await running


async def test_a_watcher_too_many_and_wrong_types_are_problems(gateway, live):
    async with api_of(gateway.sessions, live=live) as http:
        headers = {"authorization": f"Bearer {READ_KEY}"}
        assert problem(await http.get("/v1/events?types=call.begun", headers=headers), 422)["code"] == "unknown_type"
        assert problem(await http.get("/v1/events?kind=x", headers=headers), 422)
        await live.watch()
        assert problem(await http.get("/v1/events", headers=headers), 503)["code"] == "too_many"


async def test_without_records_there_are_no_events(gateway):
    async with api_of(gateway.sessions) as http:
        assert problem(await http.get("/v1/events"), 503)["code"] == "no_records"
        assert (await http.get("/v1/events", headers={"authorization": "Bearer wrong"})).status_code == 401
