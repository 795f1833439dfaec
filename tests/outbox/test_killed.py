"""A node that is killed while it delivers: what it was sending, and all the rest, is sent by the next."""

from __future__ import annotations

import asyncio
import sys
import time

from tests.kit.waiting import until
from tests.outbox.conftest import World
from tests.outbox.receiver import OK, Receiver, receiving

CALLS = [f"c{number}" for number in range(12)]


async def test_what_a_killed_node_was_sending_is_sent_by_the_next(world: World) -> None:
    world.now = time.time()
    await world.write(*(f"{call} {seq} {kind}" for call in CALLS for seq, kind in ((1, "ringing"), (2, "ended"))))
    answered = 0

    def answer(_: object) -> bytes | None:
        nonlocal answered
        answered += 1
        return OK if answered <= 6 else None  # and then it hangs, with a request of each call that was begun

    async with receiving(Receiver(answer)) as receiver:
        node = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.outbox.sending_node", str(world.engine.url), receiver.url
        )
        await until(lambda: len(receiver.asked) == 6 + 8)
        node.kill()
        await node.wait()
        receiver.answer = lambda _: OK
        next_node = world.queue(receiver.url)
        await next_node.drain()
        held = 2 * len(CALLS) - len({got.id for got in receiver.took})
        assert held >= 8, "the dead node's leases hold them"
        world.now = time.time() + 31
        await next_node.drain()
    assert receiver.forged == []
    for call in CALLS:
        first = dict.fromkeys(got.id for got in receiver.took if got.id.startswith(f"evt_{call}_"))
        assert list(first) == [f"evt_{call}_1", f"evt_{call}_2"]
