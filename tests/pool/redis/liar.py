"""A Redis that is none: it reads commands, and answers what it is told to."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

SETUP = {b"CLIENT", b"SELECT", b"HELLO", b"AUTH"}


class Liar:
    """answer: what is said to a command, given its words, the first in upper case."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Callable[[list[bytes]], bytes] = lambda _: b"+OK\r\n"
        self.lies_at_setup = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                setup = words[0].upper() in SETUP and not self.lies_at_setup
                said = b"+OK\r\n" if setup else self.answer([words[0].upper(), *words[1:]])
                writer.write(said)
                await writer.drain()
                if not said.endswith(b"\r\n"):  # an answer that is cut off
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def lying() -> AsyncIterator[Liar]:
    with tempfile.TemporaryDirectory(prefix="liar-") as folder:
        path = Path(folder) / "s"
        liar = Liar(f"unix://{path}")
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(liar.serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_unix_server(connected, str(path))
        try:
            yield liar
        finally:
            server.close()
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def resp(value: object) -> bytes:
    """The value as RESP2 has it."""
    match value:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % value
        case str():
            data = value.encode("utf-8", "surrogatepass")
            return b"$%d\r\n%s\r\n" % (len(data), data)
        case list():
            return b"*%d\r\n" % len(value) + b"".join(map(resp, value))
    raise TypeError(value)
