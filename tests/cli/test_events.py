"""`gateway events`: what has not arrived, as a table and as JSON, and replaying it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert

from gateway.__main__ import main
from gateway.records.database import open_engine
from gateway.records.schema import deliveries, metadata, outbox

Events = Callable[..., tuple[int, str]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/gateway.db"


@pytest.fixture
def events(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Events:
    monkeypatch.setenv("GATEWAY_RECORDS", url)
    monkeypatch.setattr("time.time", lambda: 1790003660.0)

    def run(*words: str) -> tuple[int, str]:
        status = main(["events", *words])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


@pytest.fixture
def database(url: str) -> None:
    async def make() -> None:
        engine = open_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            for place, (state, error) in enumerate([("dead_at", "status 410"), ("done_at", ""), ("", "status 500")], 1):
                event = {"id": place, "event_id": f"evt_{place}", "session_id": f"s{place}", "seq": 1}
                of_call = {"type": "call.ended", "payload": "{}", "created": 1790000000.5}
                await connection.execute(insert(outbox).values(**event, **of_call))
                row = {"outbox_id": place, "endpoint": "crm#1", "attempts": 2, "next_at": 1790003700.9}
                row |= {"last_error": error} | ({state: 1790000001.0} if state else {})
                await connection.execute(insert(deliveries).values(**row))
        await engine.dispose()

    asyncio.run(make())


@pytest.mark.usefixtures("database")
def test_lists_what_is_dead_and_what_is_pending(events: Events) -> None:
    status, said = events()
    assert status == 0
    assert [re.split(" {2,}", line) for line in said.splitlines()] == [
        ["event", "type", "endpoint", "state", "age", "attempts", "next", "error"],
        ["evt_1", "call.ended", "crm#1", "dead", "1 h", "2", "-", "status 410"],
        ["evt_3", "call.ended", "crm#1", "pending", "1 h", "2", "in 40 s", "status 500"],
    ]
    assert max(map(len, said.splitlines())) <= 120


@pytest.mark.usefixtures("database")
def test_lists_as_json(events: Events) -> None:
    dead, _ = json.loads(events("--json")[1])
    assert dead == {
        "event_id": "evt_1", "type": "call.ended", "session_id": "s1", "endpoint": "crm#1", "state": "dead",
        "created": "2026-09-21T14:13:20.500Z", "attempts": 2, "next_at": None, "error": "status 410",
    }  # fmt: skip


@pytest.mark.usefixtures("database")
def test_replays_one_or_all(events: Events) -> None:
    assert events("replay", "evt_3") == (1, "no dead event is called evt_3\n")
    assert events("replay", "evt_1") == (0, "1 will be sent again\n")
    assert events("replay", "--json") == (0, '{"replayed": 0}\n')
    assert [row["state"] for row in json.loads(events("--json")[1])] == ["pending", "pending"]


def test_says_what_is_missing(events: Events, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert events() == (2, "gateway events: records: the database is not there: a gateway makes it when it starts\n")
    (tmp_path / "gateway.db").write_bytes(b"no database" * 100)
    assert events() == (2, "gateway events: records: the database cannot be asked: DatabaseError\n")
    assert events("list", "evt_1")[0] == 2
    monkeypatch.setenv("GATEWAY_RECORDS", '""')
    assert events() == (2, "gateway events: records: is not set: without a database there are no events\n")
