"""A peer that is not read: what it sends waits, in order, and its writer is slowed down."""

from __future__ import annotations

import asyncio

import pytest

from gateway.sockets import Accept, connect
from tests.kit.waiting import PATIENCE, until
from tests.sockets.test_sockets import Recorder, serving

MESSAGE = b"x" * 16_000


class Holder(Recorder):
    """Reads nothing more once it has had the first message."""

    def received(self, data: bytes, text: bool) -> None:
        super().received(data, text)
        if len(self.messages) == 1:
            self.socket.hold_reading(True)


async def test_what_is_sent_meanwhile_waits_at_the_writer_and_comes_in_order():
    handler, peer = Holder(), Recorder()
    async with serving(lambda request: Accept(handler)) as port:
        socket = await connect(f"ws://127.0.0.1:{port}/ws", peer, headers={}, timeout=PATIENCE)
        for n in range(500):  # 8 MB, more than the kernel takes of a peer that does not read
            if socket.unsent < 4_000_000:
                socket.send(n.to_bytes(2) + MESSAGE)
                sent = n + 1
                await asyncio.sleep(0)
        await until(lambda: handler.messages)
        had = len(handler.messages)
        assert had == 1
        assert socket.unsent > 0
        handler.socket.hold_reading(False)
        await until(lambda: len(handler.messages) == sent)
        assert [int.from_bytes(message[:2]) for message in handler.messages] == list(range(sent))


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_the_end_is_told_once_it_is_read_again(how):
    handler, peer = Holder(), Recorder()
    async with serving(lambda request: Accept(handler)) as port:
        socket = await connect(f"ws://127.0.0.1:{port}/ws", peer, headers={}, timeout=PATIENCE)
        for n in range(3):
            socket.send(str(n))
        await until(lambda: handler.messages)
        getattr(socket, how)()
        handler.socket.hold_reading(False)
        assert (await handler.end())[0] == (1000 if how == "close" else 1006)
        if how == "close":  # what a reset has overtaken is lost
            assert handler.messages == ["0", "1", "2"]


async def test_one_that_we_drop_meanwhile_is_told_of_its_end():
    handler, peer = Holder(), Recorder()
    async with serving(lambda request: Accept(handler)) as port:
        socket = await connect(f"ws://127.0.0.1:{port}/ws", peer, headers={}, timeout=PATIENCE)
        socket.send("0")
        await until(lambda: handler.messages)
        handler.socket.abort()
        assert (await handler.end())[0] == 1006
