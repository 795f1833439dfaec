"""Server-sent events, over a real HTTP server and a real database."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import RecordsUnavailable
from gateway.outbox.live import LiveEvents, LiveLimits, LiveResponse, Watcher, frame_of
from gateway.records.database import open_engine
from gateway.records.events import payload
from gateway.records.row import CallRow
from tests.kit.http_server import Client, Served, client, serving
from tests.kit.waiting import PATIENCE, until
from tests.outbox.conftest import World

GET = b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n"


@contextlib.asynccontextmanager
async def served(world: World, **limits: float) -> AsyncIterator[tuple[LiveEvents, Served]]:
    live = LiveEvents(world.engine, LiveLimits(**limits))  # type: ignore[arg-type]  # some are whole numbers

    async def events(_: Request) -> Response:
        watcher = await live.watch()
        return LiveResponse(live, watcher) if watcher is not None else Response(status_code=503)

    running = asyncio.create_task(live.run())
    async with serving(app=Starlette(routes=[Route("/v1/events", events)])) as server:
        yield live, server
        live.close()
    await running


async def read(watcher: Client, *, to: bytes) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await watcher.reader.readuntil(to)


async def test_shows_what_happens_from_now_on(world: World) -> None:
    await world.write("before 1 ended")
    async with served(world) as (live, server), client(server.port) as page:
        page.send(GET)
        head = await read(page, to=b"\r\n\r\n")
        assert b"content-type: text/event-stream; charset=utf-8\r\n" in head
        await read(page, to=b"from now on\n\n")
        await world.write("a 1 ringing", "a 2 ended")
        live.wake()
        said = await read(
            page, to=b'evt_a_2\nevent: call.ended\ndata: {"type":"call.ended","data":{"session_id":"a"}}\n\n'
        )
        assert b"id: evt_a_1\nevent: call.ringing\ndata: {" in said
        assert b"before" not in said


def test_a_body_with_line_ends_of_unicode_is_shown_whole() -> None:
    body = json.dumps({"note": "a\u2028b\u2029c\x85d\x1ce\nf\r\ng"})
    written = payload(CallRow(session_id="s1", created=1.0, streams=1, body=body), "call.answered", 1.0)
    assert frame_of("e1", "call.answered", written).decode().split("\n") == [
        "id: e1",
        "event: call.answered",
        f"data: {written}",
        "",
        "",
    ]


async def test_shows_rows_of_other_nodes(world: World) -> None:
    async with served(world, poll=0.01) as (_, server), client(server.port) as page:
        page.send(GET)
        await read(page, to=b"from now on\n\n")
        await world.write("a 1 ended")
        await read(page, to=b"id: evt_a_1\n")


async def test_a_heartbeat_keeps_proxies_from_ending_it(world: World) -> None:
    async with served(world, heartbeat=0.01) as (_, server), client(server.port) as page:
        page.send(GET)
        await read(page, to=b": heartbeat\n\n")


async def test_who_leaves_is_forgotten_and_there_is_a_bound(world: World) -> None:
    async with served(world, watchers=1) as (live, server):
        async with client(server.port) as page:
            page.send(GET)
            await read(page, to=b"from now on\n\n")
            async with client(server.port) as second:
                second.send(GET)
                assert (await second.answer())[0] == 503
        await until(lambda: not live._watchers)
        assert live._newest is None


async def test_a_row_that_becomes_visible_late_is_shown_once(world: World) -> None:
    live = LiveEvents(world.engine)
    await world.write("a 1 ended", "b 1 ended", "c 1 ended")
    async with world.engine.begin() as connection:  # as if its transaction were still open
        await connection.exec_driver_sql("UPDATE outbox SET id = 99 WHERE session_id = 'b'")
    watcher = await live.watch()
    assert watcher is not None
    await world.write("d 1 ended")
    async with world.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE outbox SET id = 2 WHERE session_id = 'b'")
    for _ in range(2):
        await live._read(show=True)
    shown = await watcher.next(1.0)
    assert sorted(line for line in shown.split(b"\n") if line.startswith(b"id:")) == [b"id: evt_b_1", b"id: evt_d_1"]


async def test_who_does_not_keep_up_is_told_what_was_missed() -> None:
    watcher = Watcher(["call.ended"], 2)
    for number in range(5):
        watcher.push("call.ended", b"%d" % number)
    assert await watcher.next(1.0) == b'01event: missed\ndata: {"missed": 3}\n\n'
    watcher.push("call.ended", b"5")
    assert await watcher.next(1.0) == b"5"


async def test_a_watcher_sees_the_types_that_it_wants() -> None:
    watcher = Watcher(["call.ended"], 2)
    watcher.push("call.ringing", b"x")
    watcher.push("call.ended", b"y")
    assert await watcher.next(1.0) == b"y"
    watcher.close()
    assert await watcher.next(1.0) == b""


@pytest.mark.parametrize("payload", ["{}\nevent: forged", "{}\r\nevent: forged", "{}\revent: forged"])
def test_a_payload_cannot_end_its_event(payload: str) -> None:
    assert (
        frame_of("evt_1", "call.ended", payload) == b"id: evt_1\nevent: call.ended\ndata: {}\ndata: event: forged\n\n"
    )


async def test_head_asks_for_no_events(world: World) -> None:
    async with served(world) as (live, server), client(server.port) as page:
        page.send(GET.replace(b"GET", b"HEAD"))
        assert b"text/event-stream" in await read(page, to=b"\r\n\r\n")
        await until(lambda: not live._watchers)


async def test_a_database_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/empty.db")
    live = LiveEvents(engine)
    with pytest.raises(RecordsUnavailable):
        await live.watch()
    assert not live._watchers
    await engine.dispose()
