"""A worker's call server in the test's own process, listening on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.sockets import server_protocol
from gateway.worker import Call
from gateway.worker.bot_loader import Bot
from gateway.worker.pcm_call_server import PcmCallServer
from tests.kit.waiting import PATIENCE

KEY = "link-key"


@dataclass
class Served:
    server: Any
    path: str

    @property
    def over(self) -> bool:
        return bool(self.server.finished.done())


@contextlib.asynccontextmanager
async def served(tmp_path: Path, run: Callable[[Call], Awaitable[None]] | Bot) -> AsyncIterator[Served]:
    """Serve one call with this bot."""
    bot = run if isinstance(run, Bot) else Bot("bot.py", run, None)
    server = PcmCallServer(bot, KEY, lambda *_: None, grace=PATIENCE)
    path = tmp_path / "w.sock"
    shells: list[Any] = []

    def made() -> Any:
        shells.append(server_protocol(server.decide, plain=server.plain)())
        return shells[-1]

    listener = await asyncio.get_running_loop().create_unix_server(made, str(path))
    try:
        yield Served(server, str(path))
    finally:
        listener.close()
        path.unlink(missing_ok=True)
        for shell in shells:
            shell.abort()
        server.finished.cancel()
        await asyncio.sleep(0.01)
