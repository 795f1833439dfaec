"""One endpoint's events, over a real database and to a real receiver."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from sqlalchemy import select
from structlog.testing import capture_logs

from gateway.outbox.table import NO_MORE_ATTEMPTS, DeliveryTable
from gateway.records.schema import endpoints
from tests.kit.waiting import until
from tests.outbox.conftest import World
from tests.outbox.receiver import OK, Receiver, bound_socket, receiving, status

HOUR = 3600.0


def ids(receiver: Receiver) -> list[str]:
    return [got.id.removeprefix("evt_") for got in receiver.took]


async def test_an_event_arrives_signed_and_whole(world: World) -> None:
    world.now = time.time()  # the library has no other clock
    await world.write("a 1 ended")
    async with receiving() as receiver:
        await world.queue(receiver.url).drain()
    [got] = receiver.took
    assert got.body == b'{"type":"call.ended","data":{"session_id":"a"}}'
    assert got.data == {"type": "call.ended", "data": {"session_id": "a"}}
    assert got.id == "evt_a_1"
    assert world.results == ["delivered"]


async def test_an_endpoint_gets_the_types_that_it_wants(world: World) -> None:
    await world.write("a 1 ringing", "a 2 answered", "a 3 ended")
    async with receiving(Receiver(verify=False)) as receiver:
        await world.queue(receiver.url, ("call.answered",)).drain()
    assert ids(receiver) == ["a_2"]


async def test_each_endpoint_gets_every_event(world: World) -> None:
    await world.write("a 1 ended", "b 1 ended")
    async with receiving(Receiver(verify=False)) as one, receiving(Receiver(verify=False)) as other:
        await world.queue(one.url).drain()
        await world.queue(other.url).drain()
    assert sorted(ids(one)) == sorted(ids(other)) == ["a_1", "b_1"]


async def test_an_endpoint_that_was_off_for_days_misses_nothing(world: World) -> None:
    """The other one had the event a day ago; the gateway died before this one's row was there."""
    await world.write("a 1 ended")
    async with receiving(Receiver(verify=False)) as one, receiving(Receiver(verify=False)) as other:
        await world.queue(other.url).drain()
        await world.queue(one.url).drain()
        world.now += HOUR
        await world.write("b 1 ended")
        await world.queue(one.url).drain()
        world.now += 72 * HOUR
        await world.queue(other.url).drain()
    assert sorted(ids(other)) == ["a_1", "b_1"]


async def test_a_new_endpoint_is_told_of_the_last_day(world: World) -> None:
    async with receiving(Receiver(verify=False)) as one, receiving(Receiver(verify=False)) as new:
        for event in ("a 1 ended", "b 1 ended"):
            await world.write(event)
            await world.queue(one.url).drain()
            world.now += 20 * HOUR
        await world.queue(new.url).drain()
    assert ids(new) == ["b_1"]


async def test_a_later_event_waits_for_the_earlier(world: World) -> None:
    await world.write("a 1 ringing", "a 2 answered", "b 1 ringing")
    async with receiving(Receiver(lambda got: status(500) if got.id == "evt_a_1" else OK, verify=False)) as receiver:
        queue = world.queue(receiver.url)
        await queue.drain()
        assert ids(receiver) == ["b_1"]
        receiver.answer = lambda _: OK
        await queue.drain()
        assert ids(receiver) == ["b_1"], "it is not due yet"
        world.now += 6
        await queue.drain()
    assert ids(receiver) == ["b_1", "a_1", "a_2"]


async def test_calls_go_side_by_side_but_not_without_bound(world: World) -> None:
    await world.write(*(f"{call} {seq} ended{seq}" for call in "abcdefgh" for seq in (1, 2)))
    async with receiving(Receiver(verify=False, hold=asyncio.Event())) as receiver:
        queue = world.queue(receiver.url, ("call.ended1", "call.ended2"), parallel=3)
        draining = asyncio.create_task(queue.drain())
        await until(lambda: receiver.at_once == 3)
        receiver.hold.set()
        await draining
    assert len(receiver.took) == 16
    assert receiver.most_at_once == 3


async def test_all_arrive_in_order_after_an_hour_without_receiver(world: World) -> None:
    world.now = time.time() - 2 * HOUR  # what arrives at the end is verified by the library's clock
    sock = bound_socket()
    receiver = Receiver(port=sock.getsockname()[1])
    queue = world.queue(receiver.url)
    for step in range(21):
        kind = ("ringing", "answered", "ended")[step % 3]
        await world.write(f"{step // 3} {step % 3 + 1} {kind}")
        await queue.drain()
        world.now += HOUR / 21
    assert queue.failing
    world.now = time.time()
    async with receiving(receiver, sock):
        await queue.drain()
    assert receiver.forged == []
    assert len(receiver.took) == 21
    for call in range(7):
        mine = [got.id for got in receiver.took if got.id.startswith(f"evt_{call}_")]
        assert mine == [f"evt_{call}_{seq}" for seq in (1, 2, 3)]


async def test_an_endpoint_that_fails_is_asked_once_at_a_time(world: World) -> None:
    await world.write(*(f"{call} 1 ended" for call in range(12)))
    async with receiving(Receiver(lambda _: status(503), verify=False)) as receiver:
        queue = world.queue(receiver.url)
        await queue.drain()
        assert queue.failing
        receiver.most_at_once, receiver.hold = 0, asyncio.Event()
        world.now += 10
        draining = asyncio.create_task(queue.drain())
        await until(lambda: receiver.at_once == 1)
        receiver.hold.set()
        await draining
    assert receiver.most_at_once == 1


async def test_what_waited_is_due_as_soon_as_the_endpoint_answers(world: World) -> None:
    await world.write(*(f"{call} 1 ended" for call in range(12)))
    async with receiving(Receiver(lambda _: status(503), verify=False)) as receiver:
        queue = world.queue(receiver.url)
        for _ in range(3):
            await queue.drain()
            world.now += 140
        receiver.answer = lambda _: OK
        await world.write("new 1 ended")
        await queue.drain()
    assert len(receiver.took) == 13


async def test_gone_makes_a_dead_letter_and_the_next_event_goes_on(world: World) -> None:
    await world.write("a 1 ringing", "a 2 ended")
    async with receiving(Receiver(lambda got: status(410) if got.id == "evt_a_1" else OK, verify=False)) as receiver:
        await world.queue(receiver.url).drain()
    assert ids(receiver) == ["a_2"]
    [dead, done] = await world.deliveries()
    assert (dead["dead_at"], dead["next_at"], dead["last_error"]) == (world.now, NO_MORE_ATTEMPTS, "status 410")
    assert done["done_at"] == world.now
    assert sorted(world.results) == ["dead", "delivered"]


async def test_what_waits_for_a_failing_event_rests_as_long(world: World) -> None:
    await world.write("a 1 ringing", "a 2 ended")
    answers = [status(500), status(410)]
    async with receiving(Receiver(lambda _: answers.pop(0) if answers else OK, verify=False)) as receiver:
        queue = world.queue(receiver.url)
        await queue.drain()
        first, second = await world.deliveries()
        assert first["next_at"] == second["next_at"] > world.now
        world.now += 6
        await queue.drain()
    assert ids(receiver) == ["a_2"], "the first is dead, so the second is due"


async def test_after_a_day_of_attempts_an_event_is_dead(world: World) -> None:
    await world.write("a 1 ended")
    async with receiving(Receiver(lambda _: status(500), verify=False)) as receiver:
        queue = world.queue(receiver.url)
        for _ in range(12):
            await queue.drain()
            world.now += 12 * HOUR
    [dead] = await world.deliveries()
    assert len(receiver.asked) == dead["attempts"] == 11
    assert dead["dead_at"]
    assert world.results == ["retry"] * 10 + ["dead"]


async def test_the_whole_table_is_looked_through_every_five_minutes(world: World) -> None:
    """Also where it holds few rows: each such look writes one."""
    await world.write("a 1 ended")
    looked = []
    async with receiving(Receiver(verify=False)) as receiver:
        queue, began = world.queue(receiver.url), world.now
        for seconds in (0, 2, 299, 301, 303):
            world.now = began + seconds
            await queue.drain()
            async with world.engine.connect() as connection:
                looked.append((await connection.execute(select(endpoints.c.seen))).scalar() - began)
    assert looked == [0, 0, 0, 301, 301]


async def test_a_dead_nodes_event_is_taken_over_when_its_lease_ends(world: World) -> None:
    await world.write("a 1 ended")
    async with receiving(Receiver(verify=False)) as receiver:
        queue = world.queue(receiver.url)
        await world.table.add_missing(queue.endpoint.name, queue.endpoint.types, None, world.now)
        assert len(await world.table.claim(queue.endpoint.name, world.now, world.now + 60, 8)) == 1  # and dies
        world.now += 59
        await queue.drain()
        assert receiver.asked == []
        world.now += 2
        await queue.drain()
    assert ids(receiver) == ["a_1"]


async def test_two_nodes_deliver_each_event_once(world: World) -> None:
    await world.write(*(f"{call} {seq} ended{seq}" for call in range(10) for seq in (1, 2, 3)))
    types = ("call.ended1", "call.ended2", "call.ended3")
    async with receiving(Receiver(verify=False)) as receiver:
        await asyncio.gather(*(world.queue(receiver.url, types).drain() for _ in range(2)))
    assert len(receiver.asked) == len({got.id for got in receiver.asked}) == 30


async def test_a_late_verdict_of_a_lost_claim_changes_nothing(world: World) -> None:
    await world.write("a 1 ended")
    async with receiving(Receiver(lambda _: status(500), verify=False, hold=asyncio.Event())) as receiver:
        slow = world.queue(receiver.url)
        draining = asyncio.create_task(slow.drain())
        await until(lambda: receiver.at_once == 1)
        world.now += 31
        [again] = await world.table.claim(slow.endpoint.name, world.now, world.now + 60, 8)
        receiver.hold.set()
        await draining
    [row] = await world.deliveries()
    assert (row["claimed_until"], row["attempts"]) == (again.until, 0)
    assert world.results == []


async def test_a_stopped_node_gives_its_claims_back(world: World) -> None:
    await world.write("a 1 ended")
    async with receiving(Receiver(verify=False, hold=asyncio.Event())) as receiver:
        queue = world.queue(receiver.url)
        queue.limits = type(queue.limits)(stop_seconds=0.05)
        running = asyncio.create_task(queue.run())
        await until(lambda: receiver.at_once == 1)
        await queue.stop()
        await running
        [row] = await world.deliveries()
        assert (row["claimed_until"], row["attempts"], row["done_at"]) == (0.0, 0, None)


async def test_a_row_is_delivered_as_soon_as_it_is_written(world: World) -> None:
    async with receiving(Receiver(verify=False)) as receiver:
        queue = world.queue(receiver.url)
        queue.limits = type(queue.limits)(poll=1000.0)
        running = asyncio.create_task(queue.run())
        await until(lambda: queue.has_looked)
        await world.write("a 1 ended")
        queue.wake()
        await until(lambda: receiver.took)
        await queue.stop()
        await running


class Stumbling(DeliveryTable):
    """A table whose methods fail as they are told to: by a database that is away, or by a bug."""

    fails: dict[str, Exception]

    async def add_missing(self, *asked):
        self._stumble("add_missing")
        return await super().add_missing(*asked)

    async def retry_now(self, *asked):
        self._stumble("retry_now")
        await super().retry_now(*asked)

    def _stumble(self, name: str) -> None:
        if name in self.fails:
            raise self.fails.pop(name)


def stumbling(world: World, **fails: Exception) -> Stumbling:
    table = Stumbling(world.engine)
    table.fails = fails
    return table


async def test_a_bug_is_told_as_one_and_the_events_are_sent_later(world: World) -> None:
    await world.write("a 1 ended")
    async with receiving(Receiver(verify=False)) as receiver:
        queue = world.queue(receiver.url)
        queue.limits = replace(queue.limits, poll=0.01)
        queue.table = stumbling(world, add_missing=TypeError("a bug"))
        with capture_logs() as logs:
            running = asyncio.create_task(queue.run())
            await until(lambda: receiver.took)
            await queue.stop()
            await running
    assert [(line["event"], line["exc_info"]) for line in logs] == [("events wait: a bug", True)]


async def test_a_database_that_is_away_is_told_in_one_line(world: World) -> None:
    await world.write("a 1 ended")
    async with receiving(Receiver(verify=False)) as receiver:
        queue = world.queue(receiver.url)
        queue.limits = replace(queue.limits, poll=0.01)
        queue.table = stumbling(world, add_missing=OSError("away"))
        with capture_logs() as logs:
            running = asyncio.create_task(queue.run())
            await until(lambda: receiver.took)
            await queue.stop()
            await running
    assert [line["event"] for line in logs] == ["the outbox does not answer, events wait"]
    assert "exc_info" not in logs[0]


async def test_what_waits_is_made_due_by_a_later_delivery_if_it_must(world: World) -> None:
    await world.write(*(f"{call} 1 ended" for call in range(12)))
    async with receiving(Receiver(lambda _: status(503), verify=False)) as receiver:
        queue = world.queue(receiver.url)
        for _ in range(3):
            await queue.drain()
            world.now += 140
        receiver.answer = lambda _: OK
        queue.table = stumbling(world, retry_now=OSError("away"))
        await world.write("n1 1 ended", "n2 1 ended")
        await queue.drain()
    assert len(receiver.took) == world.results.count("delivered") == 14
