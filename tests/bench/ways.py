"""The functions of ours that a call's steps enter: `python -m tests.bench.ways [answer] [start] [frame] [lost]`.

    answer  the carrier's webhook, as far as the answer: a claim, and a link opened early, are in it
    start   the stream's handshake, as far as the bot's `start` message
    frame   a frame of the caller's, as far as the bot, and one of the bot's, as far as the caller
    lost    a worker's link that breaks in the middle of a call, as far as the next bot's `start` message

Each function is printed once, in the order of its first entry, below the counts of the rooms. The clock's turns (ticks)
are left out, as they come whether or not anything happens. The gateway is in this process, with real sockets, whose
other sides are counted too, the registry in memory, and no recording.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType

from gateway import logs
from gateway.node.services import Service
from tests.kit.node import MEDIA, SERVICE, Bot, Carrier, Gateway, node_on_loopback, start
from tests.kit.waiting import until

HERE = Path(__file__).parents[2]
ROOMS = tuple(f"{HERE / room}/" for room in ("gateway", "serializers"))
QUIET = 0.3
"""Seconds until nothing is under way any more but the clock's turns."""
CALLER_FRAME = 320
"""Bytes of a frame of 20 ms as the bot hears it, at least: 8 kHz and 16 bits."""


class Trace:
    """What is entered between `begin` and `end`; nested functions count as the one that holds them."""

    def __init__(self) -> None:
        self.entered: dict[tuple[str, str], int] = {}
        """By path and name: line."""
        self._in_tick: set[tuple[str, str]] = set()

    def begin(self) -> None:
        sys.setprofile(self._enter)

    def end(self) -> None:
        sys.setprofile(None)

    def _enter(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(ROOMS) or is_tick(frame):
            return
        name = code.co_qualname.split(".<locals>")[0]
        self.entered.setdefault((code.co_filename[len(f"{HERE}/") :], name), code.co_firstlineno)

    def print(self, title: str) -> None:
        rooms = Counter(room_of(path) for path, _ in self.entered)
        print(f"{title}: {len(self.entered)} functions ({', '.join(f'{n} {room}' for room, n in rooms.most_common())})")
        for (path, name), line in self.entered.items():
            print(f"    {path}:{line}  {name}")


def is_tick(frame: FrameType | None) -> bool:
    """Whether it is entered by the clock that all streams share."""
    while frame is not None:
        if frame.f_code.co_qualname == "Ticker._tick":
            return True
        frame = frame.f_back
    return False


def room_of(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else path


@contextlib.contextmanager
def traced(title: str) -> Iterator[None]:
    trace = Trace()
    trace.begin()
    try:
        yield
    finally:
        trace.end()
    trace.print(title)


async def answer(gateway: Gateway) -> None:
    with traced("answer"):
        response = await gateway.voice()
    response.raise_for_status()


async def handshake(gateway: Gateway) -> None:
    path = await gateway.stream_path()
    carrier = await gateway.open(path)
    await asyncio.sleep(QUIET)
    with traced("start"):
        carrier.send(start())
        await gateway.started()


async def frame(gateway: Gateway) -> None:
    carrier, bot, _ = await talking(gateway)
    with traced("frame, caller to bot"):
        carrier.send(MEDIA)
        await until(lambda: len(bot.audio) >= CALLER_FRAME)
    await asyncio.sleep(QUIET)
    with traced("frame, bot to caller"):
        bot.socket.send(bytes(2 * CALLER_FRAME))
        await carrier.until("media")


async def lost(gateway: Gateway) -> None:
    _, first, second = await talking(gateway)
    with traced("lost"):
        first.socket.close(1011)
        await second.until("start")


async def talking(gateway: Gateway) -> tuple[Carrier, Bot, Bot]:
    """A call that has its bot, and that bot before the other."""
    carrier = await gateway.call()
    await gateway.started()
    await asyncio.sleep(QUIET)
    first, second = sorted(gateway.bots, key=lambda bot: not bot.of("start"))
    return carrier, first, second


WAYS: dict[str, Callable[[Gateway], Awaitable[None]]] = {
    "answer": answer,
    "start": handshake,
    "frame": frame,
    "lost": lost,
}


async def main(asked: list[str]) -> None:
    for name in asked or WAYS:
        service = Service(host=SERVICE, default=True, numbers=("+15550100000",), wrapup=1.0)
        async with node_on_loopback(service) as gateway:
            await WAYS[name](gateway)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.ways", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ways", nargs="*", metavar="WAY", help=", ".join(WAYS))
    ways = parser.parse_args().ways
    if unknown := set(ways) - set(WAYS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(WAYS)}")
    logs.configure(level=logging.ERROR)
    asyncio.run(main(ways))
