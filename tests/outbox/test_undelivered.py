"""What has not arrived: listed, replayed, removed."""

from __future__ import annotations

from gateway.outbox.table import KEEP_SECONDS
from gateway.outbox.undelivered import UndeliveredEvent, UndeliveredEvents
from tests.outbox.conftest import NOW, World
from tests.outbox.receiver import OK, Receiver, receiving, status

DAY = 86400.0


async def test_lists_what_is_pending_and_what_is_dead(world: World) -> None:
    answers = {"evt_a_1": status(410), "evt_b_1": status(500)}
    await world.write("a 1 ringing", "b 1 ended", "c 1 ended")
    async with receiving(Receiver(lambda got: answers.get(got.id, OK), verify=False)) as receiver:
        queue = world.queue(receiver.url)
        await queue.drain()
    dead, pending = await UndeliveredEvents(world.engine).oldest(10)
    assert dead == UndeliveredEvent(
        "evt_a_1", "call.ringing", "a", queue.endpoint.name, "dead", NOW, 1, None, "status 410"
    )
    assert (pending.event_id, pending.state, pending.error) == ("evt_b_1", "pending", "status 500")
    assert pending.next_at is not None and NOW < pending.next_at < NOW + 10
    assert len(await UndeliveredEvents(world.engine).oldest(1)) == 1


async def test_replays_one_or_all_dead_events(world: World) -> None:
    await world.write("a 1 ended", "b 1 ended", "c 1 ended")
    events = UndeliveredEvents(world.engine)
    async with receiving(Receiver(lambda _: status(410), verify=False)) as receiver:
        queue = world.queue(receiver.url)
        await queue.drain()
        receiver.answer = lambda _: OK
        assert await events.replay("evt_b_1", world.now) == 1
        await queue.drain()
        assert [got.id for got in receiver.took] == ["evt_b_1"]
        assert await events.replay(None, world.now) == 2
        assert await events.replay(None, world.now) == 0
        assert await events.replay("evt_none", world.now) == 0
        await queue.drain()
    assert sorted(got.id for got in receiver.took) == ["evt_a_1", "evt_b_1", "evt_c_1"]
    assert await events.oldest(10) == []


async def test_what_arrived_is_removed_after_a_day_and_the_rest_is_kept(world: World) -> None:
    answers = {"evt_dead_1": status(410), "evt_wait_1": status(500)}
    await world.write("dead 1 ended", "wait 1 ended", "done 1 ended", "unwanted 1 ringing")
    events = UndeliveredEvents(world.engine)
    async with receiving(Receiver(lambda got: answers.get(got.id, OK), verify=False)) as receiver:
        await world.queue(receiver.url, ("call.ended",)).drain()
    assert await events.prune(NOW + KEEP_SECONDS - 1, keep_undelivered=90 * DAY) == 0
    assert await events.prune(NOW + KEEP_SECONDS + 1, keep_undelivered=90 * DAY) == 2
    assert [row["event_id"] for row in await world.deliveries()] == ["evt_dead_1", "evt_wait_1"]
    assert await events.prune(NOW + 91 * DAY, keep_undelivered=0) == 0
    assert await events.prune(NOW + 91 * DAY, keep_undelivered=90 * DAY) == 2


async def test_a_new_endpoint_is_told_of_the_last_day_only(world: World) -> None:
    await world.write("old 1 ended", created=NOW - KEEP_SECONDS - 60)
    await world.write("young 1 ended", created=NOW - KEEP_SECONDS + 60)
    async with receiving(Receiver(lambda _: status(410), verify=False)) as first:
        await world.queue(first.url).drain()  # what no endpoint has had is told, however old it is
    assert len(first.asked) == 2
    async with receiving(Receiver(verify=False)) as second:
        await world.queue(second.url).drain()
    assert [got.id for got in second.took] == ["evt_young_1"]
