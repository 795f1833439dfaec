"""Whatever fails, dies or comes late: at each endpoint the events of a call arrive in order, and all do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.outbox.sender import Sender
from gateway.outbox.verdict import Reply
from gateway.records.database import open_engine
from gateway.records.schema import deliveries, metadata, outbox
from tests.outbox.conftest import World

KINDS = ("ringing", "answered", "ended")


@dataclass
class Wire(Sender):
    """In place of the wire: replies as drawn, in the order of the requests, then success."""

    replies: list[int] = field(default_factory=list)
    took: list[str] = field(default_factory=list)

    async def post(self, url: str, body: str, headers: Any) -> Reply:
        await asyncio.sleep(0)
        status = self.replies.pop() if self.replies else 200
        if status == 200:
            self.took.append(headers["webhook-id"])
        return Reply(status, "" if status else "no connection")


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from("abc"),  # this call's next event is written
            st.sampled_from([0, 1]),  # this node delivers
            st.sampled_from(["dies"]),  # a node claims all that is due and is never heard of again
            st.floats(1, 4000),  # seconds pass
        ),
        max_size=20,
    ),
    replies=st.lists(st.sampled_from([200, 200, 500, 0, 302, 429]), max_size=10),
)
def test_events_of_a_call_arrive_in_order(
    runner: tuple[asyncio.Runner, AsyncEngine], steps: list[Any], replies: list[int]
) -> None:
    loop, engine = runner
    loop.run(play(engine, steps, replies))


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, AsyncEngine]]:
    """One loop and one database for all examples."""
    with asyncio.Runner() as runner:
        engine = runner.run(make_database(tmp_path_factory.mktemp("order")))
        yield runner, engine
        runner.run(engine.dispose())


async def make_database(folder: Path) -> AsyncEngine:
    engine = open_engine(f"sqlite+aiosqlite:///{folder}/gateway.db")
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    return engine


async def play(engine: AsyncEngine, steps: list[Any], replies: list[int]) -> None:
    async with engine.begin() as connection:
        await connection.execute(delete(deliveries))
        await connection.execute(delete(outbox))
    world, wire, written = World(engine), Wire(replies=replies), dict.fromkeys("abc", 0)
    nodes = [world.queue("http://127.0.0.1:1/") for _ in range(2)]
    for node in nodes:
        node.sender = wire
    for step in steps:
        match step:
            case str() if step in written and written[step] < len(KINDS):
                written[step] += 1
                await world.write(f"{step} {written[step]} {KINDS[written[step] - 1]}")
            case "dies":
                await world.table.claim(nodes[0].endpoint.name, world.now, world.now + 60, 8)
            case float():
                world.now += step
            case 0 | 1:
                await nodes[step].drain()
    while len(set(wire.took)) < sum(written.values()):
        world.now += 40_000  # longer than any rest
        await asyncio.gather(*(node.drain() for node in nodes))
    for call, count in written.items():
        mine = [name for name, _ in itertools.groupby(each for each in wire.took if each.startswith(f"evt_{call}"))]
        assert mine == [f"evt_{call}_{seq}" for seq in range(1, count + 1)]
