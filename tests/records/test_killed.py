"""A gateway is killed in the middle of its calls: each whose stream ran a second has its record, and gets its end."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from gateway.records.base import Filters, Record
from gateway.records.database import open_engine
from gateway.records.store import DatabaseStore
from tests.acceptance.program import free_port
from tests.kit.postgres import url
from tests.kit.processes import PROGRAM, Process
from tests.kit.waiting import until
from tests.outbox.receiver import SECRET, Got, Receiver, receiving
from tests.pool.server import Server as Redis

CALLS = 12
"""At four a second, so that some are in any of their states at any moment."""
MOMENTS = [0.3, 0.6, 0.9, 1.1, 1.4, 1.7, 2.0, 2.3, 2.6, 2.9]
"""Seconds after the first stream's start. Calls last two seconds: some end before the later ones."""


async def records(database: str) -> dict[str, Record]:
    engine = open_engine(database)
    page = await DatabaseStore(engine).page(Filters(), limit=500)
    await engine.dispose()
    return {record.session_id: record for record in page.records}


def streams(gateway: Process) -> dict[str, float]:
    """Sessions whose stream has started, and when."""
    started = [line for line in gateway.records(all_starts=True) if line.get("event") == "session started"]
    return {line["session"]: datetime.fromisoformat(line["timestamp"]).timestamp() for line in started}


@pytest.mark.parametrize(
    "moment",
    [pytest.param(moment, marks=pytest.mark.cluster if moment == 1.7 else pytest.mark.slow) for moment in MOMENTS],
)
async def test_every_call_has_its_record(moment, tmp_path):
    database = f"sqlite+aiosqlite:///{tmp_path}/gateway.db"
    port = free_port()
    env = {"GATEWAY_RECORDS": database, "GATEWAY_SERVER__OPS_BIND": '""'}
    serve = [*PROGRAM, "serve", "--dev", "--port", str(port)]
    load = [*PROGRAM, "load", "--carrier", "twilio,telnyx,plivo", "--url", f"http://127.0.0.1:{port}"]
    load += ["--calls", str(CALLS), "--rate", "4", "--seconds", "2"]
    with Process("gateway", tmp_path, serve, env) as gateway:
        await gateway.logged("ready")
        with Process("load", tmp_path, load, {}):
            await gateway.logged("session started")
            first = min(streams(gateway).values())
            await until(lambda: time.time() >= first + moment, complain="the moment")
            gateway.kill()
            killed = time.time()
        known = await records(database)
        ran = {session for session, began in streams(gateway).items() if began <= killed - 1.0}
        assert ran or moment < 1.0
        assert ran <= {session for session, record in known.items() if record.answered_at and record.streams}
        gateway.kill_group()  # its worker hosts, too
        gateway.start()
        await gateway.logged("ready")

        async def all_ended() -> bool:
            return all(record.status == "ended" for record in (await records(database)).values() if record.streams)

        deadline = time.monotonic() + 40.0
        while not await all_ended():
            assert time.monotonic() < deadline, await records(database)
        for session, record in (await records(database)).items():
            if record.streams:
                assert record.end_reason in ("unknown_end", "stream_lost", "caller_hangup"), session
                assert killed - 30.0 < record.answered_at <= record.ended_at <= killed + 0.5


def arrived(receiver: Receiver) -> dict[str, list[str]]:
    """Of each session the types of events that arrived, each by its first arrival."""
    first: dict[str, Got] = {}
    for got in receiver.took:
        first.setdefault(got.id, got)
    told: dict[str, list[str]] = {}
    for got in first.values():
        told.setdefault(got.data["data"]["session_id"], []).append(got.data["type"])
    return told


def load(base: str) -> list[str]:
    arguments = ["--carrier", "twilio,telnyx,plivo", "--url", base, "--calls", "12", "--rate", "4", "--seconds", "3"]
    return [*PROGRAM, "load", *arguments]


@pytest.mark.cluster
async def test_of_two_gateways_the_other_one_completes_what_the_dead_one_left(postgres_server, tmp_path):
    """One PostgreSQL, one Redis, two gateways with calls; one is killed. Each call has one record and each event."""
    database, redis = url(postgres_server), Redis()
    async with receiving() as receiver:
        config = tmp_path / "gateway.toml"
        config.write_text(
            f'''
records = "{database}"
registry = "{redis.url}"
secret = "secret-of-both-gateways-0123456789"
[server]
ops_bind = ""
overload_lag_ms = 1000
[[events]]
url = "{receiver.url}"
secret = "{SECRET}"
'''
        )
        redis.start()
        ports = [free_port(), free_port()]
        serve = [[*PROGRAM, "serve", "--dev", "--config", str(config), "--port", str(port)] for port in ports]
        try:
            with (
                Process("dies", tmp_path, serve[0], {}) as dies,
                Process("lives", tmp_path, serve[1], {}) as lives,
            ):
                for gateway in (dies, lives):
                    await gateway.logged("ready", seconds=60)
                with (
                    Process("load 1", tmp_path, load(f"http://127.0.0.1:{ports[0]}"), {}),
                    Process("load 2", tmp_path, load(f"http://127.0.0.1:{ports[1]}"), {}) as others,
                ):
                    await dies.logged("session started", 8)
                    dies.kill()
                    killed = time.time()
                    await until(lambda: not others.alive, 30)
                began = streams(dies)
                ran = {session for session, at in began.items() if at <= killed - 1.0}
                whole = set(streams(lives))
                assert len(ran) >= 2 and len(whole) >= 6  # a busy machine refuses some

                open_ones: dict[str, Record | None] = {}

                async def complete() -> bool:
                    known = await records(database)
                    open_ones.clear()
                    open_ones.update({one: known.get(one) for one in ran | whole})
                    return all(record is not None and record.status == "ended" for record in open_ones.values())

                await until(complete, 90, lambda: {one: open_ones[one] for one in ran | whole if one in open_ones})
                told = ["call.ringing", "call.answered", "call.ended"]
                await until(lambda: all(arrived(receiver).get(one) == told for one in ran | whole), 60)
        finally:
            redis.remove()
    known = await records(database)
    assert {known[session].end_reason for session in ran} <= {"unknown_end", "stream_lost", "caller_hangup"}
    assert all(known[session].answered_at <= known[session].ended_at <= killed + 1.0 for session in ran)
    assert receiver.forged == []
    assert all(types == told[: len(types)] for types in arrived(receiver).values()), "in order, of all calls"
