"""All endpoints of a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.outbox.endpoint import Endpoint
from gateway.outbox.outbox import Outbox
from gateway.outbox.queue import QueueLimits
from gateway.outbox.sender import Sender
from tests.kit.waiting import PATIENCE, until
from tests.outbox.conftest import World
from tests.outbox.receiver import SECRET, Receiver, receiving, status


def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=name)


@contextlib.asynccontextmanager
async def running(world: World, *receivers: Receiver) -> AsyncIterator[Outbox]:
    endpoints = [Endpoint.of(receiver.url, [SECRET]) for receiver in receivers]
    outbox = Outbox(world.engine, endpoints, limits=QueueLimits(stop_seconds=0.01), unix_time=lambda: world.now)
    outbox.start(spawn)
    try:
        yield outbox
    finally:
        await outbox.stop()


async def test_one_endpoint_that_hangs_holds_up_no_other(world: World) -> None:
    async with (
        receiving(Receiver(lambda _: None, verify=False)) as hangs,
        receiving(Receiver(verify=False)) as well,
        running(world, hangs, well) as outbox,
    ):
        await world.write(*(f"{call} 1 ended" for call in range(12)))
        outbox.wake()
        await until(lambda: len(well.took) == 12)


async def test_tells_the_metrics(world: World) -> None:
    await world.write("a 1 ended", "b 1 ended", created=world.now - 100)
    answer = {"evt_a_1": status(410), "evt_b_1": status(500)}
    async with (
        receiving(Receiver(lambda got: answer[got.id], verify=False)) as receiver,
        running(world, receiver) as outbox,
    ):
        await until(lambda: sum(outbox.metrics.event_deliveries.values()) == 2)
        await outbox.measure()
    assert outbox.metrics.event_deliveries == {("dead",): 1, ("retry",): 1}
    assert outbox.metrics.oldest_event == world.now - 100
    shown = outbox.metrics.expose({}).decode()
    assert 'gateway_event_deliveries_total{result="dead"} 1.0' in shown


async def test_without_endpoints_old_events_are_removed(world: World) -> None:
    await world.write("a 1 ended", created=world.now - 90_000)
    async with running(world) as outbox:
        await until(lambda: outbox.metrics.oldest_event is None)
        await until(lambda: _empty(world))


async def test_waits_for_the_tables_and_may_be_stopped_before(world: World) -> None:
    ready = asyncio.Event()
    outbox = Outbox(world.engine, [], ready=ready)
    outbox.start(spawn)
    await asyncio.wait_for(outbox.stop(), PATIENCE)
    assert outbox.metrics.oldest_event is None


async def test_events_are_delivered_though_the_sender_was_not_prepared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Sender) -> None:
        raise FileNotFoundError("no certificates")

    monkeypatch.setattr(Sender, "warm_up", broken)
    await world.write("a 1 ended")
    with capture_logs() as logs:
        async with receiving(Receiver(verify=False)) as receiver, running(world, receiver):
            await until(lambda: receiver.took)
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "events may not be delivered: what sends them could not be prepared"
    ]


async def _empty(world: World) -> bool:
    from sqlalchemy import func, select

    from gateway.records.schema import outbox

    async with world.engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(outbox))).scalar() == 0
